"""The three data layouts: what is read, and how malformed data is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.training.affwild2 import read_affwild2
from worker.training.errors import DataError
from worker.training.manifest_csv import label_names, read_rows, split_of, train_and_validation
from worker.training.stills import LABELS, read_stills

ANNOTATIONS = Path("Annotation/annotations/EXPR_Set/Train_Set")
IMAGES = Path("Cropped_aligned_image/cropped_aligned")


def votes_file(path: Path, ballots: list[list[int]], **others: np.ndarray) -> Path:
    """A stills file with these votes and blank images."""
    arrays = {
        "images": np.zeros((len(ballots), 48, 48), np.uint8),
        "votes": np.array(ballots, np.uint8),
        "fer2013_label": np.zeros(len(ballots), np.int8),
    }
    np.savez(path, **(arrays | others))
    return path


def test_ferplus_rows_are_those_with_a_strict_winner_among_all_ten(tmp_path: Path) -> None:
    """Ties, and winners that are none of the seven, do not count."""
    votes = [
        [6, 4, 0, 0, 0, 0, 0, 0, 0, 0],  # neutral
        [0, 0, 5, 0, 5, 0, 0, 0, 0, 0],  # surprise and anger tie
        [3, 0, 0, 0, 0, 0, 0, 7, 0, 0],  # contempt wins
        [4, 0, 0, 0, 0, 0, 0, 0, 4, 2],  # neutral and unknown tie
        [0, 0, 0, 1, 0, 0, 9, 0, 0, 0],  # fear
    ]
    assert read_stills(votes_file(tmp_path / "a.npz", votes)).ferplus.tolist() == [0, -1, -1, -1, 3]


def test_vote_shares_leave_out_single_votes_and_faces_nobody_could_read(tmp_path: Path) -> None:
    """One vote of ten is an outlier; with half of the votes outside the seven labels there is no target."""
    votes = [[6, 3, 0, 0, 1, 0, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0, 0, 2, 2, 1]]
    shares = read_stills(votes_file(tmp_path / "a.npz", votes)).vote_shares()
    assert shares[0] == pytest.approx([6 / 9, 0, 0, 0, 3 / 9, 0, 0])
    assert shares[1].sum() == 0


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"votes": np.zeros((1, 8), np.uint8)}, "votes must be"),
        ({"images": np.zeros((1, 48, 48), np.float32)}, "images must be uint8"),
        ({"fer2013_label": np.array([7], np.int8)}, "must lie in -1..6"),
    ],
)
def test_a_malformed_stills_file_is_refused(tmp_path: Path, others: dict[str, np.ndarray], words: str) -> None:
    """The message names the array."""
    with pytest.raises(DataError, match=words):
        read_stills(votes_file(tmp_path / "a.npz", [[9] + [0] * 9], **others))


def test_a_stills_file_is_never_unpickled(tmp_path: Path) -> None:
    """An array of objects is refused."""
    path = tmp_path / "a.npz"
    np.savez(path, images=np.array([{}], object), votes=np.zeros((1, 10)), fer2013_label=np.zeros(1))
    with pytest.raises(DataError, match="not a readable"):
        read_stills(path)


def test_affwild2_pairs_line_i_with_image_i_plus_one(tmp_path: Path, write_affwild2: Callable[..., Path]) -> None:
    """Missing images are skipped with their labels, the label line too many is ignored, -1 stays."""
    root = write_affwild2(tmp_path, [12, 10], [9])
    file = root / ANNOTATIONS / "train_set-0.txt"
    lines = file.read_text().split()
    lines[1 + 2] = "-1"
    file.write_text("\n".join(lines))
    (root / IMAGES / "train_set-0" / "00005.jpg").unlink()
    split = read_affwild2(root, "train")
    video = split.videos[0]
    assert split.labels == LABELS
    assert [image.name for image in video.images] == [f"{n:05d}.jpg" for n in range(1, 13) if n != 5]
    assert video.labels.tolist() == [0, 0, -1, 0, 1, 1, 1, 1, 1, 2, 2]
    assert [v.name for v in split.videos] == ["train_set-0", "train_set-1_left"]
    assert len(video.labelled().images) == 10


def test_the_third_challenge_has_an_eighth_label(tmp_path: Path, write_affwild2: Callable[..., Path]) -> None:
    """Other folder name, header ends in Other."""
    root = write_affwild2(tmp_path, [9], [9], third=True)
    assert read_affwild2(root, "validation").labels == (*LABELS, "Other")


def test_affwild2_errors_name_the_file(tmp_path: Path, write_affwild2: Callable[..., Path]) -> None:
    """A missing folder, a label out of range and a video without images each give one clear line."""
    with pytest.raises(DataError, match="is it the Aff-Wild2 folder"):
        read_affwild2(tmp_path, "train")
    root = write_affwild2(tmp_path, [9], [9])
    file = root / ANNOTATIONS / "train_set-0.txt"
    good = file.read_text()
    file.write_text(good.replace("\n1\n", "\n7\n", 1))
    with pytest.raises(DataError, match=r"train_set-0.txt, line 7: label 7 is outside -1..6"):
        read_affwild2(root, "train")
    file.write_text(good)
    for image in (root / IMAGES / "train_set-0").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="holds no image"):
        read_affwild2(root, "train")


def manifest(folder: Path, lines: list[str]) -> Path:
    """A CSV whose images a.png, b.png and c.png exist."""
    for name in ("a", "b", "c"):
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((20, 20, 3), np.uint8))
    path = folder / "faces.csv"
    path.write_text("\n".join(lines))
    return path


def test_manifest_rows_become_videos_in_frame_order(tmp_path: Path) -> None:
    """Rows are grouped by video and sorted by frame_index; an empty label is unlabelled."""
    lines = ["path,label,video,frame_index", "b.png,Fear,v,2", "a.png,Anger,v,1", "c.png,,w,1"]
    split = split_of(read_rows(manifest(tmp_path, lines)), "train", LABELS)
    assert [[image.name for image in video.images] for video in split.videos] == [["a.png", "b.png"], ["c.png"]]
    assert [video.labels.tolist() for video in split.videos] == [[1, 3], [-1]]


def test_manifest_labels_may_be_other_names(tmp_path: Path) -> None:
    """Names beyond the seven become the labels, in the alphabet's order."""
    rows = read_rows(manifest(tmp_path, ["path,label", "a.png,bored", "b.png,awake", "c.png,3"]))
    assert label_names(rows[:2]) == ("awake", "bored")
    assert label_names(rows[2:]) == LABELS


def test_validation_never_shares_a_video_with_training(tmp_path: Path) -> None:
    """Without a split column whole videos are held out."""
    lines = ["path,label,video", "a.png,0,v", "b.png,1,v", "c.png,2,w"]
    train, held = train_and_validation(read_rows(manifest(tmp_path, lines)), seed=1)
    assert {row.video for row in train}.isdisjoint({row.video for row in held})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["file,label"], "lacks the column 'path'"),
        (["path,label"], "has no rows"),
        (["path,label", "missing.png,0"], "line 2: no image 'missing.png'"),
        (["path,label,split", "a.png,0,test"], "split must be train or validation"),
        (["path,label,frame_index", "a.png,0,first"], "frame_index must be a whole number"),
    ],
)
def test_a_malformed_manifest_is_refused(tmp_path: Path, lines: list[str], words: str) -> None:
    """The message names the line."""
    with pytest.raises(DataError, match=words):
        read_rows(manifest(tmp_path, lines))
