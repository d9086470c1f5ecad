"""Readers of what others write take anything: a few seconds of each here, as long as one likes with `make fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.running import check_soon, fuzz
from tests.fuzz.targets import CORPUS, TARGETS

SECONDS = 5


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_is_handled_in_another_way(name: str, tmp_path: Path) -> None:
    """Every generated input is read, or refused as documented, within seconds."""
    tried = fuzz(TARGETS[name], SECONDS, tmp_path)
    assert tried.inputs


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_stays_mended(path: Path) -> None:
    """Inputs that found something, and some that reach far, are handled soon."""
    check_soon(TARGETS[path.parent.name], path.read_bytes())
