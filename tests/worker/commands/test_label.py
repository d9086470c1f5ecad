"""`worker label`: what it writes is whole, and no input overwrites another's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.contract.options import JobOptions
from tests.service import Clips
from worker.commands import label
from worker.decode import Sampling
from worker.decode.isolated import IsolatedSource
from worker.decode.messages import Input
from worker.errors import CommandError
from worker.inference.serving import Serving
from worker.settings import WorkerSettings, decode_limits


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


def test_an_input_that_cannot_be_labelled_leaves_no_decoder(clips: Clips, tmp_path: Path) -> None:
    """The next input is labelled by the same process, so what an input has open ends with it."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(clips.video(clips.pictures(100)))
    limits = decode_limits(WorkerSettings())
    opened: list[IsolatedSource] = []
    children: list[int | None] = []

    def open_source(*_: Any) -> IsolatedSource:
        opened.append(IsolatedSource(Input(str(path), "video", 25, Sampling()), limits))
        children.append(opened[0]._pid)
        return opened[0]

    def fails(*_: Any) -> Iterator[Any]:
        raise ValueError("the bundle has no member cnn_rnn")
        yield

    pipeline = SimpleNamespace(label=fails)
    manifest = SimpleNamespace(labels=("a", "b"))
    loaded = cast(Serving, SimpleNamespace(pipeline=pipeline, manifest=manifest, open_source=open_source))
    assert not label._label_one(path, loaded, JobOptions(), limits, "json", False, tmp_path)
    assert children[0] is not None
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)
