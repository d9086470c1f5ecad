"""Labelled videos: a CSV's rows and Aff-Wild2's label files, read and refused before anything is labelled."""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from worker.training.errors import DataError
from worker.training.label_names import LabelNames
from worker.training.stills import LABELS
from worker.training.whole_videos import read_affwild2_videos, read_clips

NAMES = LabelNames(LABELS)
HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "clips.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ("this project", "Neutral Anger Disgust Fear Happiness Sadness Surprise"),
        ("MAFW", "neutral anger disgust fear happiness sadness surprise"),
        ("FERV39k", "Neutral Angry Disgust Fear Happy Sad Surprise"),
        ("RAVDESS", "neutral angry disgust fearful happy sad surprised"),
    ],
)
def test_corpora_call_the_labels_by_names_of_their_own(corpus: str, words: str) -> None:
    """In any case; a bundle with further labels knows those as well."""
    assert [NAMES.index(word) for word in words.split()] == list(range(7)), corpus
    assert LabelNames((*LABELS, "Contempt")).index("contempt") == 7


def test_codes_of_crema_d() -> None:
    """As its file names have them."""
    assert [NAMES.index(code) for code in ("NEU", "ANG", "DIS", "FEA", "HAP", "SAD")] == list(range(6))
    assert NAMES.index("contempt") is NAMES.index("4") is NAMES.index("") is None


def test_rows_of_one_video_that_adjoin_are_labelled_in_one_go(tmp_path: Path) -> None:
    """A part that lies far from the others is another go; rows without times are whole videos; paths are the CSV's."""
    path = written(
        tmp_path,
        "path,label,start_s,end_s,who",
        "a.mp4,sad,2,4,x",
        "b.mp4,,,,y",
        "a.mp4,happy,0,2,x",
        "a.mp4,ANG,60.5,61,x",
    )
    first, far, whole = read_clips(path, NAMES)
    assert [(clip.line, clip.label, clip.start_s, clip.end_s) for clip in first.clips] == [(4, 4, 0, 2), (2, 5, 2, 4)]
    assert (first.path, first.start_s, first.end_s) == (tmp_path / "a.mp4", None, 4)
    assert (far.path, far.start_s, far.end_s) == (tmp_path / "a.mp4", 60.5, 61)
    (clip,) = whole.clips
    assert (clip.label, clip.end_s, whole.start_s, whole.end_s) == (-1, math.inf, None, None)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["path,name", "a,b"], "lacks the column 'label'"),
        (["path,label"], "has no rows"),
        (
            ["path,label", "a.mp4,happy", "b.mp4,bored"],
            "line 3: no label 'bored'; there are Neutral/neu, Anger/angry",
        ),
        (["path,label", ",happy"], "line 2: path is empty"),
        (["path,label,start_s,end_s", "a.mp4,happy,3,2"], r"line 2: end_s \(2\) must be greater than start_s \(3\)"),
        (["path,label,start_s,end_s", "a.mp4,happy,soon,2"], "line 2: start_s must be seconds from 0 on, got 'soon'"),
        (["path,label,start_s,end_s", "a.mp4,happy,0,nan"], "line 2: end_s must be seconds"),
        (["path,label,start_s,end_s", "a.mp4,happy,-1,2"], "line 2: start_s must be seconds"),
    ],
)
def test_a_malformed_csv_names_the_line(tmp_path: Path, lines: list[str], words: str) -> None:
    """Before a single video is opened."""
    with pytest.raises(DataError, match=words):
        read_clips(written(tmp_path, *lines), NAMES)


def test_a_csv_that_is_not_there(tmp_path: Path) -> None:
    """One line, too."""
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        read_clips(tmp_path / "none.csv", NAMES)


def affwild2(root: Path, **files: str) -> Path:
    folder = root / "Annotation" / "annotations" / "EXPR_Classification_Challenge" / "Validation_Set"
    folder.mkdir(parents=True)
    for name, labels in files.items():
        (folder / f"{name}.txt").write_text("\n".join([HEADER, *labels.split()]))
    (root / "batch1").mkdir()
    return root


def test_label_files_of_aff_wild2_find_their_videos(tmp_path: Path) -> None:
    """Labels go by their names, Other and -1 are not scored; two people share a video, unless they have one each."""
    root = affwild2(tmp_path, alone="0 4 7 -1 6", pair_left="1", pair_right="2", own_left="3")
    for name in ("alone.mp4", "pair.avi", "own_left.mp4"):
        (root / "batch1" / name).touch()
    alone, own, left, right = read_affwild2_videos(root, NAMES)
    assert (alone.name, alone.labels.tolist(), alone.side) == ("alone", [0, 4, -1, -1, 6], "")
    assert (own.path.name, own.side) == ("own_left.mp4", "")
    assert [(video.path.name, video.side) for video in (left, right)] == [("pair.avi", "left"), ("pair.avi", "right")]


def test_label_files_may_lie_beside_the_videos(tmp_path: Path) -> None:
    """In any order of the names, which the header says."""
    (tmp_path / "mine.txt").write_text("Happiness,Neutral\n0\n1\n-1\n")
    (tmp_path / "mine.mp4").touch()
    (video,) = read_affwild2_videos(tmp_path, NAMES)
    assert video.labels.tolist() == [4, 0, -1]


def test_label_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """One without its video, one with a name that nobody knows, none at all."""
    with pytest.raises(DataError, match="holds no annotation files"):
        read_affwild2_videos(tmp_path, NAMES)
    root = affwild2(tmp_path, alone="0")
    with pytest.raises(DataError, match=r"alone\.txt labels a missing video: no alone\.mp4"):
        read_affwild2_videos(root, NAMES)
    (root / "alone.mp4").touch()
    file = next(root.rglob("alone.txt"))
    file.write_text("Neutral,Bored\n0\n")
    with pytest.raises(DataError, match=r"alone\.txt has the label 'Bored'"):
        read_affwild2_videos(root, NAMES)


def test_the_scripts_for_corpora_write_what_is_read(tmp_path: Path) -> None:
    """Those of docs/evaluation.md, on trees with the corpora's names."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "evaluation.md").read_text()
    script = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert script is not None
    scope: dict[str, Any] = {}
    exec(script[1], scope)
    splits = tmp_path / "EmoLabel_DataSplit" / "test(single-labeled)"
    splits.mkdir(parents=True)
    (splits / "set_1.csv").write_text("video_name,label\n7,4\n12,1\n")
    for name in ("01-01-06-01-02-01-12.mp4", "01-01-02-01-01-01-12.mp4", "02-01-06-01-02-01-12.mp4"):
        (tmp_path / name).touch()
    crema_d, ferv39k = (re.search(rf"`({start}.*?)`", page) for start in ("ls VideoFlash", "sed 's/ /,/"))
    assert crema_d is not None
    assert ferv39k is not None
    for path in ("VideoFlash/1001_DFA_ANG_XX.flv", "4_setups/All_scenes/test_All.csv", "2_ClipsforFaceCrop/x"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("Action/Angry/0267 Angry\n")
    for command in (crema_d[1].replace("\\|", "|"), ferv39k[1]):
        subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    scope["write"](tmp_path / "dfew.csv", scope["dfew"](tmp_path))
    scope["write"](tmp_path / "ravdess.csv", scope["ravdess"](tmp_path))
    found = {
        name: [(clip.name, clip.label) for video in read_clips(tmp_path / name, NAMES) for clip in video.clips]
        for name in ("dfew.csv", "ravdess.csv", "cremad.csv", "2_ClipsforFaceCrop/test.csv")
    }
    assert found == {
        "dfew.csv": [("Clip/clip_224x224/00007", 1), ("Clip/clip_224x224/00012", 4)],
        "ravdess.csv": [("01-01-06-01-02-01-12.mp4", 3)],
        "cremad.csv": [("VideoFlash/1001_DFA_ANG_XX.flv", 1)],
        "2_ClipsforFaceCrop/test.csv": [("Action/Angry/0267", 1)],
    }
