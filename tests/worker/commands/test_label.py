"""`worker label`: many inputs, bad ones among them; what it writes is whole, and nothing outlives it."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.contract.options import JobOptions
from tests.commands import run, run_here
from tests.service import Clips
from worker.commands import label
from worker.commands.label_inputs import Clip, find_clips
from worker.commands.label_output import FolderOutput
from worker.commands.label_report import Report
from worker.decode import Sampling
from worker.decode.isolated import IsolatedSource
from worker.decode.messages import Input
from worker.errors import UsageError
from worker.inference import serving
from worker.inference.serving import Serving
from worker.settings import WorkerSettings, decode_limits

NO_VIDEO = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)


@pytest.fixture(scope="module")
def videos(clips: Clips, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos of 6, 5 and 4 frames, a broken one, pictures, and what is to be passed over."""
    folder = tmp_path_factory.mktemp("videos")
    for name, frames in (("b.mp4", 6), ("deeper/c.mp4", 4), ("a.mp4", 5), (".hidden.mp4", 3)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(clips.video(clips.pictures(frames)))
    (folder / "bad.mp4").write_bytes(NO_VIDEO)
    (folder / "notes.txt").write_text("no video")
    (folder / "deeper" / "poster.png").write_bytes(clips.png(0))
    (folder / "pictures").mkdir()
    for index in range(2):
        (folder / "pictures" / f"{index}.png").write_bytes(clips.png(index))
    return folder


def test_a_folder_stands_for_its_videos_or_for_one_clip_of_images(videos: Path) -> None:
    """With `--recursive`; names are those below the folder, in order."""
    found = [clip.name.as_posix() for clip in find_clips([videos], recursive=True)]
    assert found == ["a.mp4", "b.mp4", "bad.mp4", "deeper/c.mp4", "pictures"]
    assert find_clips([videos / "pictures"], recursive=False) == [Clip(videos / "pictures", Path("pictures"))]


def test_a_folder_without_anything_to_label_is_refused(tmp_path: Path) -> None:
    """It may be the wrong one."""
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(UsageError, match="nothing to label below"):
        find_clips([tmp_path], recursive=True)


def test_many_inputs_are_one_table_and_a_bad_one_ends_nothing(videos: Path) -> None:
    """CSV has one header and names the file; the summary lists what failed, and the exit status is 1."""
    status, out, err = run("label", str(videos), "--recursive", "--format", "csv")
    assert status == 1
    rows = list(csv.DictReader(io.StringIO(out)))
    assert out.count("frame_index") == 1
    frames = {name: {row["frame_index"] for row in rows if row["file"] == name} for name in {r["file"] for r in rows}}
    assert {name: len(indices) for name, indices in frames.items()} == {
        "a.mp4": 5,
        "b.mp4": 6,
        "deeper/c.mp4": 4,
        "pictures": 2,
    }
    lines = err.splitlines()
    assert [line.partition(":")[0] for line in lines[:5]] == [
        "[1/5] a.mp4",
        "[2/5] b.mp4",
        "[3/5] bad.mp4",
        "[4/5] deeper/c.mp4",
        "[5/5] pictures",
    ]
    assert lines[5] == "5 inputs: 4 labelled (17 frames), 1 failed:"
    assert lines[6].startswith(f"  {videos / 'bad.mp4'}: the input is not a video")
    assert lines[7] == "error: 1 of 5 inputs could not be labelled"
    assert len(lines) == 8


def test_many_inputs_are_one_document_and_what_is_there_is_skipped(videos: Path, tmp_path: Path) -> None:
    """JSON of several inputs is an array of objects that name their file; with `--out` each has a file of its own."""
    named = [str(videos / name) for name in ("a.mp4", "b.mp4")]
    status, out, _ = run_here("label", *named)
    assert status == 0
    assert [(clip["file"], len(clip["frames"])) for clip in json.loads(out)] == [("a.mp4", 5), ("b.mp4", 6)]
    (tmp_path / "a.json").write_text("there")
    status, out, err = run_here("label", *named, "--out", str(tmp_path), "--skip-existing")
    assert (status, out) == (0, "")
    assert "2 inputs: 1 labelled (6 frames), 1 skipped" in err
    assert (tmp_path / "a.json").read_text() == "there"
    alone = json.loads((tmp_path / "b.json").read_text())
    assert set(alone) == {"labels", "frames"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.mp4", "x.mp4", "y.mp4"], "no such file or folder: {}/x.mp4, {}/y.mp4"),
        (["a.mp4", "--out", "b.mp4"], "--out {}/b.mp4 is a file: name a folder"),
        (["a.mp4", "b.mp4", "--format", "vtt"], "--format vtt of several inputs needs --out FOLDER"),
        (["a.mp4", "--skip-existing"], "--skip-existing needs --out FOLDER"),
        (["a.mp4", "deeper/../a.mp4", "--out", "o"], "several inputs would be written to {}/o/a.json: "),
    ],
)
def test_wrong_usage_is_one_line_before_anything_is_loaded(
    videos: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 2."""
    monkeypatch.setattr(serving, "load", lambda settings: pytest.fail("the model was loaded"))
    given = [word if word.startswith("--") or word == "vtt" else str(videos / word) for word in arguments]
    status, out, err = run_here("label", *given)
    assert (status, out) == (2, "")
    assert err.startswith("error: " + said.replace("{}", str(videos)))
    assert err.count("\n") == 1


def test_an_error_names_the_option_that_was_given(videos: Path) -> None:
    """`--members` is another option than `--use-members`."""
    status, _, err = run_here("label", str(videos / "a.mp4"), "--use-members", "CNN")
    assert status == 2
    assert "--use-members" in err
    assert "--members" not in err.replace("--use-members", "")


def test_an_output_is_whole_or_as_it_was(tmp_path: Path) -> None:
    """A failed write leaves the former file and no other."""
    clip = Clip(tmp_path / "clip.mp4", Path("clip.mp4"))
    output = FolderOutput(tmp_path, "json", [clip], skip_existing=False)
    output.write(clip, [b"[", b"]"])

    def fails() -> Iterator[bytes]:
        yield b"["
        raise KeyError

    with pytest.raises(KeyError):
        output.write(clip, fails())
    assert (tmp_path / "clip.json").read_text() == "[]"
    assert list(tmp_path.iterdir()) == [tmp_path / "clip.json"]


def test_nothing_computes_any_more_at_the_end(clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input over a limit ends while batches are computed; a thread in PyTorch then would abort the process."""
    monkeypatch.setenv("MIEN_MAX_FRAMES", "150")
    path = tmp_path / "clip.ts"  # whose length nothing tells beforehand
    path.write_bytes(clips.video(clips.pictures(200), container="mpegts"))
    status, _, err = run_here("label", str(path))
    assert status == 1
    assert "more than 150 frames" in err
    assert "engine" not in {thread.name for thread in threading.enumerate()}


def test_an_input_that_cannot_be_labelled_leaves_no_decoder(clips: Clips, tmp_path: Path) -> None:
    """The next input is labelled by the same process, so what an input has open ends with it."""
    clip = Clip(tmp_path / "clip.mp4", Path("clip.mp4"))
    clip.path.write_bytes(clips.video(clips.pictures(100)))
    limits = decode_limits(WorkerSettings())
    children: list[int | None] = []

    def open_source(*_: Any) -> IsolatedSource:
        source = IsolatedSource(Input(str(clip.path), "video", 25, Sampling()), limits)
        children.append(source._pid)
        return source

    def fails(*_: Any) -> Iterator[Any]:
        raise ValueError("the bundle has no member cnn_rnn")
        yield

    pipeline = SimpleNamespace(label=fails, detector_name="default")
    manifest = SimpleNamespace(labels=("a", "b"), name="default", version="1")
    loaded = cast(Serving, SimpleNamespace(pipeline=pipeline, manifest=manifest, open_source=open_source))
    report = Report(1)
    output = FolderOutput(tmp_path, "json", [clip], skip_existing=False)
    label.Labelling(loaded, JobOptions(), limits, "json", False, output, report).label(clip)
    assert [why for _, why in report.failed] == ["the bundle has no member cnn_rnn"]
    assert children[0] is not None
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_landmarks_pose_and_size_of_each_face(clips: Clips, tmp_path: Path) -> None:
    """With `--landmarks` CSV has the five points, inside the box, a pose and a size; without it none of the columns."""
    video = tmp_path / "a.mp4"
    video.write_bytes(clips.video(clips.pictures(3)))
    status, out, err = run("label", str(video), "--format", "csv", "--landmarks")
    assert status == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 3
    for row in rows:
        value = {name: float(text) for name, text in row.items() if name != "label"}
        for point in ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth"):
            assert 0 < value[f"{point}_x"] - value["x"] < value["width"]
            assert 0 < value[f"{point}_y"] - value["y"] < value["height"]
        assert value["right_eye_x"] < value["nose_x"] < value["left_eye_x"]
        assert abs(value["yaw"]) < 40
        assert abs(value["roll"]) < 15
        assert value["size_px"] == pytest.approx((value["width"] * value["height"]) ** 0.5, abs=0.01)
        assert 0.15 < value["sharpness"] < 1
    assert "yaw" not in run("label", str(video), "--format", "csv")[1].splitlines()[0]


def test_people_and_change_come_with_every_frame(clips: Clips, tmp_path: Path) -> None:
    """`--people` and `--baseline` hold a clip's frames until it is over, and miss none."""
    video = tmp_path / "a.mp4"
    video.write_bytes(clips.video(clips.pictures(40)))
    status, out, err = run("label", str(video), "--format", "ndjson", "--people", "--baseline", "auto")
    assert status == 0, err
    frames = [json.loads(line) for line in out.splitlines()]
    assert [frame["frame_index"] for frame in frames] == list(range(40))
    faces = [face for frame in frames for face in frame["faces"]]
    assert {face["person_id"] for face in faces} == {0}
    calmest = max(faces, key=lambda face: face["scores"]["Neutral"])
    assert abs(calmest["change"]["Neutral"]) < 1
    assert run("label", str(video), "--baseline", "3")[0] == 2


def test_formats_of_other_tools(clips: Clips, tmp_path: Path) -> None:
    """Each is written under a name that its program knows; several inputs need a folder."""
    video = tmp_path / "a.mp4"
    video.write_bytes(clips.video(clips.pictures(3)))
    for format, name in (("parquet", "a.parquet"), ("textgrid", "a.TextGrid"), ("openface", "a.openface.csv")):
        status, _, err = run("label", str(video), "--format", format, "--out", str(tmp_path / "out"))
        assert status == 0, err
        assert (tmp_path / "out" / name).stat().st_size > 200
    assert (tmp_path / "out" / "a.parquet").read_bytes()[-4:] == b"PAR1"
    assert run("label", str(video), "--format", "srt")[1].startswith("1\n00:00:00,000 --> ")
    assert run("label", str(video), str(video), "--format", "eaf")[0] == 2
