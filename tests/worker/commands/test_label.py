"""`worker label`: what it writes is whole, and no input overwrites another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.commands import label
from worker.errors import CommandError


def test_an_output_is_whole_or_as_it_was(tmp_path: Path) -> None:
    """What fails halfway leaves the former file and nothing beside it."""
    path = tmp_path / "clip.json"
    label._write(path, ["[", "]"])

    def fails() -> Iterator[str]:
        yield "["
        raise KeyError

    with pytest.raises(KeyError):
        label._write(path, fails())
    assert path.read_text() == "[]"
    assert list(tmp_path.iterdir()) == [path]


def test_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    """Before anything is loaded: the second would take the first one's place."""
    with pytest.raises(CommandError, match=r"several inputs would be written to .*clip\.json"):
        label.command([tmp_path / "a/clip.mp4", tmp_path / "b/clip.mkv"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
