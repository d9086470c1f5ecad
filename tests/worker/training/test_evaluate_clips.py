"""`worker evaluate --layout clips`: videos through the whole pipeline, with the bundle that ships."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands import run_here
from tests.service import Clips

ROOT = Path(__file__).resolve().parents[3]
LABELLED = ROOT.parent / "shared" / "videos" / "labelled"
SMILING = 12  # frames of the portrait that smiles
Write = Callable[..., Path]


@pytest.fixture
def write(clips: Clips, tmp_path: Path) -> Write:
    """Write a video of so many smiling frames, with as many without a face before them as are wanted."""

    def write(name: str, frames: int = SMILING, blank: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clips.video([np.full((240, 320, 3), 90, np.uint8)] * blank + clips.pictures(frames)))
        return path

    return write


def evaluate(data: Path, *options: str) -> Any:
    status, out, err = run_here(
        "evaluate", "--layout", "clips", "--data", str(data), "--device", "cpu", "--json", *options
    )
    assert (status, err) == (0, "")
    return json.loads(out)


def test_rows_are_judged_as_they_are_served_and_a_bad_one_spoils_none(write: Write, tmp_path: Path) -> None:
    """A clip's scores are the mean of what `worker label` gives at the same prior; what cannot be judged is listed."""
    write("smile.mp4")
    write("late.mp4", 12, blank=15)
    write("nobody.mp4", 0, blank=5)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    rows = ["path,label,start_s,end_s", "smile.mp4,HAPPY", "late.mp4,sad,0.6,", "smile.mp4,", "nobody.mp4,happy"]
    rows += ["broken.mp4,happy", "missing.mp4,Neutral", "smile.mp4,joy,0,0.2", "smile.mp4,ang,0.2,9"]
    data = tmp_path / "clips.csv"
    data.write_text("\n".join(rows))
    report = evaluate(data, "--prior", "0.5", "--concurrency", "2", "--picture", str(tmp_path / "pictures"))
    assert (report["prior"], report["data"]) == (0.5, str(data))
    found = report["results"]["clips"]
    assert {"n", "war", "uar", "macro_f1", "ece", "confusion", "label_changes_per_s"} <= set(found)
    assert (found["n"], found["war"], found["uar"]) == (4, 0.5, pytest.approx(1 / 3))
    assert (found["unlabelled"]["n"], found["share_without_face"]) == (1, pytest.approx(5 / 53))
    assert set(found["members"]) == {"cnn", "cnn_rnn", "cnn_transformer"}
    assert [(row["line"], row["path"]) for row in found["failed"]] == [
        (5, "nobody.mp4"),
        (6, "broken.mp4"),
        (7, "missing.mp4"),
    ]
    whys = [row["why"] for row in found["failed"]]
    assert whys[0] == "no face was found"
    assert whys[2] == "no such file or folder"
    by_line = {row["line"]: row for row in found["clips"]}
    assert {line: row["faces"] for line, row in by_line.items()} == {2: 12, 3: 12, 4: 12, 8: 5, 9: 7}
    assert {row["predicted"] for row in by_line.values()} == {"Happiness"}
    assert by_line[2]["scores"] == by_line[4]["scores"]
    status, out, _ = run_here("label", str(tmp_path / "smile.mp4"), "--prior", "0.5")
    assert status == 0
    scores = [frame["faces"][0]["scores"] for frame in json.loads(out)["frames"]]
    means = {label: np.mean([face[label] for face in scores]) for label in scores[0]}
    assert by_line[2]["scores"] == pytest.approx(means, abs=2e-3)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "clips-classes.png",
        "clips-confusion.png",
    ]


def test_label_files_judge_every_frame_of_a_video(write: Write, tmp_path: Path) -> None:
    """Line i is frame i of the video; frames without a face or without a label are not scored."""
    write("Aff-Wild2/batch1/smile.mp4", 12, blank=4)
    folder = tmp_path / "Aff-Wild2" / "EXPR_Set" / "Validation_Set"
    folder.mkdir(parents=True)
    header = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
    (folder / "smile.txt").write_text("\n".join([header, *"4444", *"44440077", "-1", *"444"]))
    report = evaluate(tmp_path / "Aff-Wild2", "--picture", str(tmp_path))
    found = report["results"]["annotations"]
    assert (found["n"], found["frames"], found["failed"]) == (9, 13, [])
    assert found["share_without_face"] == pytest.approx(4 / 13)
    assert found["ensemble"]["accuracy"] == pytest.approx(7 / 9)
    assert set(found["members"]) == {"cnn", "cnn_rnn", "cnn_transformer"}
    assert (found["changes"]["n"], found["changes"]["missed"]) == (1, 1)
    assert (tmp_path / "annotations-confusion.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--layout", "clips"], 1, "nothing of"),
        (["--layout", "clips", "--bundle", "none-such"], 1, "no bundle 'none-such'"),
        (["--layout", "manifest", "--concurrency", "2"], 2, "--layout clips"),
        (["--layout", "clips", "--sample-fps", "0"], 2, "--sample-fps"),
    ],
)
def test_where_nothing_can_be_judged_one_line_says_why(
    tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    """The first row's reason, where every row has one."""
    data = tmp_path / "clips.csv"
    data.write_text("path,label\ngone.mp4,happy\n")
    found, out, err = run_here("evaluate", "--data", str(data), "--device", "cpu", *arguments)
    assert (found, out) == (status, "")
    assert words in err
    assert "line 2, gone.mp4: no such file" in err or words != "nothing of"


@pytest.mark.skipif(not LABELLED.is_dir(), reason="no labelled clips beside the checkout")
def test_real_clips_of_plain_expressions_are_right(tmp_path: Path) -> None:
    """Three that every version of the bundle had right, from three kinds of film, by paths outside the CSV's folder."""
    names = {"acted_happiness_1.flv": "HAP", "talking_happiness_1.mp4": "happiness", "talking_anger_3.mp4": "Angry"}
    data = tmp_path / "clips.csv"
    data.write_text("\n".join(["path,label", *(f"{LABELLED / name},{label}" for name, label in names.items())]))
    found = evaluate(data)["results"]["clips"]
    assert (found["n"], found["war"], found["share_without_face"]) == (3, 1, 0)
