"""Pictures of a report: confusion matrix and per-class bars, as PNG, drawn with OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from worker.training.errors import DataError

CELL_PX = 84
MARGIN_PX = 130
BAR_PX = 18
INK = (40, 40, 40)
WHITE = (255, 255, 255)
# BGR of precision, recall and F1: distinguishable without colour vision, by lightness too.
BARS = {"precision": (180, 119, 31), "recall": (80, 175, 250), "f1": (60, 60, 60)}
FONT = cv2.FONT_HERSHEY_SIMPLEX

Canvas = npt.NDArray[np.uint8]


def draw_report(report: dict[str, Any], labels: Sequence[str], folder: Path) -> list[Path]:
    """Write two PNGs an annotation into `folder` and return their paths.  Raises: DataError if it cannot be written."""
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, result in report["results"].items():
            metrics = result.get("ensemble", result)
            if not result["n"]:
                continue
            shown = ("accuracy", "war", "uar", "macro_f1")
            title = f"{name}: " + ", ".join(f"{key} {metrics[key]:.3f}" for key in shown if key in metrics)
            for kind, picture in (
                ("confusion", confusion_picture(np.array(metrics["confusion"]), labels, title)),
                ("classes", bars_picture(metrics["per_class"], title)),
            ):
                path = folder / f"{name}-{kind}.png"
                path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
                paths.append(path)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}") from None
    return paths


def confusion_picture(confusion: npt.NDArray[np.integer], labels: Sequence[str], title: str) -> Canvas:
    """(H, W, 3) uint8 BGR: a row a true label, a column a predicted one, shaded by the row's share."""
    side = len(labels) * CELL_PX
    canvas = np.full((side + MARGIN_PX, side + MARGIN_PX + 20, 3), 255, np.uint8)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    for i, true in enumerate(labels):
        _text(canvas, true, (8, 60 + i * CELL_PX + CELL_PX // 2 + 5))
        _text(canvas, true, (MARGIN_PX + i * CELL_PX + 4, side + 85))
        for j in range(len(labels)):
            left, top = MARGIN_PX + j * CELL_PX, 60 + i * CELL_PX
            shade = tuple(round(255 - float(shares[i, j]) * (255 - v)) for v in BARS["precision"])
            cv2.rectangle(canvas, (left, top), (left + CELL_PX - 2, top + CELL_PX - 2), shade, -1)
            ink = WHITE if shares[i, j] > 0.5 else INK
            _text(canvas, f"{100 * shares[i, j]:.0f}%", (left + 8, top + 36), ink)
            _text(canvas, str(confusion[i, j]), (left + 8, top + 58), ink)
    _text(canvas, title, (8, 28))
    _text(canvas, "rows: annotated, columns: predicted", (MARGIN_PX, side + 112))
    return canvas


def bars_picture(per_class: dict[str, dict[str, float]], title: str) -> Canvas:
    """(H, W, 3) uint8 BGR: precision, recall and F1 of each label."""
    row, width = 4 * BAR_PX, 420
    canvas = np.full((80 + len(per_class) * row, MARGIN_PX + width + 90, 3), 255, np.uint8)
    _text(canvas, title, (8, 28))
    left = MARGIN_PX
    for name, colour in BARS.items():
        cv2.rectangle(canvas, (left, 44), (left + 12, 56), colour, -1)
        _text(canvas, name, (left + 18, 56))
        left += 120
    for i, (label, found) in enumerate(per_class.items()):
        top = 70 + i * row
        _text(canvas, label, (8, top + 24))
        _text(canvas, f"n = {found['support']:.0f}", (8, top + 44))
        for j, (name, colour) in enumerate(BARS.items()):
            y = top + j * BAR_PX
            end = MARGIN_PX + round(width * found[name])
            cv2.rectangle(canvas, (MARGIN_PX, y), (end, y + BAR_PX - 4), colour, -1)
            _text(canvas, f"{found[name]:.3f}", (end + 6, y + 12))
    return canvas


def _text(canvas: Canvas, words: str, at: tuple[int, int], ink: tuple[int, int, int] = INK) -> None:
    cv2.putText(canvas, words, at, FONT, 0.45, ink, 1, cv2.LINE_AA)
