"""Generated faces: an oval with eyes, brows and a mouth whose shapes follow the label, which a tiny network learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.training.stills import LABELS, VOTES_OF_LABELS

MINIATURE = (
    "fusion_weights=",
    "stills.portraits=0",
    "stills.teacher=0",
    "stills.teacher_beside=0",
    "clips.frames=15",
    "window=9",
    "backbone.architecture=compact_resnet",
    "input.size=16",
    "backbone.stem=4",
    "backbone.widths=8,8",
    "backbone.blocks=1,1",
    "heads.embedding=16",
    "heads.hidden=4",
    "heads.attention_heads=2",
    "heads.depth=1",
    "static.epochs=2",
    "static.batch=16",
    "temporal.epochs=2",
    "temporal.batch=32",
    "loaders=0",
)
MINIATURE_PUBLISHED = (
    "input.size=32",
    "backbone.width=4",
    "backbone.blocks=1,1,1,1",
    "heads.embedding=8",
    "heads.hidden=4",
    "heads.attention_heads=2",
    "heads.depth=1",
    "static.epochs=2",
    "static.batch=8",
    "temporal.epochs=2",
    "temporal.batch=8",
    "loaders=0",
)


def draw_face(label: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """(side, side) uint8."""
    image = np.full((96, 96), int(rng.integers(30, 90)), np.uint8)
    x, y = (int(v) for v in rng.integers(-4, 5, 2) + 48)
    cv2.ellipse(image, (x, y), (34, 42), 0, 0, 360, int(rng.integers(150, 220)), -1)
    for side_ in (-1, 1):
        cv2.circle(image, (x + side_ * 14, y - 10), 3 + label, 20, -1)
        cv2.line(image, (x + side_ * 8, y - 22 + 2 * label), (x + side_ * 20, y - 26), 20, 2)
    cv2.ellipse(image, (x, y + 18), (6 + 2 * label, 2 + (label * 5) % 13), 0, 0, 180 + 30 * label, 20, 2 + label % 3)
    noisy = image + rng.normal(0, 6, image.shape)
    return cv2.resize(np.clip(noisy, 0, 255).astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def write_stills() -> Callable[[Path, int, int], Path]:
    """Write a stills file of `count` generated faces."""

    def write(path: Path, count: int, seed: int) -> Path:
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % len(LABELS)
        votes = np.zeros((count, 10), np.uint8)
        votes[np.arange(count), np.array(VOTES_OF_LABELS)[labels]] = 8
        votes[:, 0] += 2
        images = np.stack([draw_face(int(label), 48, rng) for label in labels])
        np.savez(path, images=images, votes=votes, fer2013_label=labels.astype(np.int8), row=np.arange(count))
        return path

    return write


@pytest.fixture(scope="session")
def write_affwild2() -> Callable[..., Path]:
    """Write a miniature Aff-Wild2 tree: per split the given numbers of frames, one video each."""

    def write(root: Path, train: list[int], validation: list[int], *, third: bool = False) -> Path:
        rng = np.random.default_rng(5)
        set_name = "EXPR_Classification_Challenge" if third else "EXPR_Set"
        names = [*LABELS, "Other"] if third else list(LABELS)
        for split, lengths in (("Train_Set", train), ("Validation_Set", validation)):
            annotations = root / "Annotation" / "annotations" / set_name / split
            annotations.mkdir(parents=True)
            for number, frames in enumerate(lengths):
                video = f"{split.lower()}-{number}" + ("_left" if number == 1 else "")
                folder = root / "Cropped_aligned_image" / "cropped_aligned" / video
                folder.mkdir(parents=True)
                labels = [(number + k // 5) % len(LABELS) for k in range(frames)]
                lines = [",".join(names), *map(str, labels), str(labels[-1])]  # one label line too many
                (annotations / f"{video}.txt").write_text("\n".join(lines) + "\n")
                for k, label in enumerate(labels):
                    colour = cv2.cvtColor(draw_face(label, 112, rng), cv2.COLOR_GRAY2BGR)
                    cv2.imwrite(str(folder / f"{k + 1:05d}.jpg"), colour)
        return root

    return write


@pytest.fixture(scope="session")
def miniature() -> list[str]:
    """Overrides that make the default recipe tiny."""
    return list(MINIATURE)


@pytest.fixture(scope="session")
def miniature_published() -> list[str]:
    """Overrides that make the published recipe tiny."""
    return list(MINIATURE_PUBLISHED)
