"""For schemathesis: bodies and parts of these media types are files that can be labelled, or any bytes.

`FUZZ_MEDIA` names the folder of the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.generation.jsonschema import strategy
from schemathesis.specs.openapi import negative

FOLDER = Path(os.environ["FUZZ_MEDIA"])

for media, name in (("video/mp4", "clip.mp4"), ("image/png", "picture.png")):
    schemathesis.openapi.media_type(media, st.one_of(st.just((FOLDER / name).read_bytes()), st.binary(max_size=2048)))

schemathesis.openapi.media_type("application/offset+octet-stream", st.binary(max_size=64))

# schemathesis 4.32.5 has jsonschema-rs validate files, which raises, or takes a form with a file as invalid unchecked.
# As empty texts they count for nothing.
_validator, _get_validator, _get_real_validator = (
    strategy._validator,
    negative.get_validator,
    negative.get_real_validator,
)


class _WithoutFiles:
    def __init__(self, validator: Any) -> None:
        self._validator = validator

    def is_valid(self, value: Any) -> bool:
        return bool(self._validator.is_valid(negative._strip_binary(value)))


def _without_files(get: Callable[[Any], Any]) -> Any:
    return lambda key: _WithoutFiles(get(key))


def _is_valid(schema: Any) -> Callable[[Any], bool]:
    is_valid = _validator(schema)
    return lambda value: is_valid(negative._strip_binary(value))


strategy._validator = _is_valid  # type: ignore[assignment]
negative.get_validator = _without_files(_get_validator)
negative.get_real_validator = _without_files(_get_real_validator)
negative.contains_binary = lambda value: False  # type: ignore[attr-defined]
