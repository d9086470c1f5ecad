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
from schemathesis.transport.serialization import contains_binary

FOLDER = Path(os.environ["FUZZ_MEDIA"])

for media, name in (("video/mp4", "clip.mp4"), ("image/png", "picture.png")):
    schemathesis.openapi.media_type(media, st.one_of(st.just((FOLDER / name).read_bytes()), st.binary(max_size=2048)))

schemathesis.openapi.media_type("application/offset+octet-stream", st.binary(max_size=64))

# schemathesis 4.32.5 has jsonschema-rs validate bytes where a mutated form's schema needs a filter, which raises.
_validator = strategy._validator


def _accepting_bytes(schema: Any) -> Callable[[Any], bool]:
    is_valid = _validator(schema)
    return lambda value: contains_binary(value) or is_valid(value)


strategy._validator = _accepting_bytes  # type: ignore[assignment]
