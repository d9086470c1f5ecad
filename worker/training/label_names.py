"""Corpora's names and codes of expressions, in any case, for a bundle's labels."""

from __future__ import annotations

from collections.abc import Sequence

# By the name that bundles here use: adjectives (FERV39k, RAVDESS, DFEW's tables) and the codes of CREMA-D.
SYNONYMS = {
    "Neutral": ("neu",),
    "Anger": ("angry", "ang"),
    "Disgust": ("disgusted", "dis"),
    "Fear": ("fearful", "afraid", "fea"),
    "Happiness": ("happy", "joy", "hap"),
    "Sadness": ("sad",),
    "Surprise": ("surprised", "sur"),
}


class LabelNames:
    """The names that a bundle's labels go by."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._index = {name.lower(): k for k, label in enumerate(labels) for name in (label, *SYNONYMS.get(label, ()))}

    def index(self, name: str) -> int | None:
        """The bundle's index of a label, None if it has none of that name."""
        return self._index.get(name.strip().lower())

    def accepted(self) -> str:
        """All accepted names, for error messages."""
        return ", ".join("/".join((label, *SYNONYMS.get(label, ()))) for label in self._labels)
