"""The colours of the labels, in one place: timeline, annotated video and page show the same ones.

Chosen so that people with any common colour blindness can tell them apart: hues by custom (a warm anger, a green
disgust), lightness and chroma by search, the least difference in mind.  Okabe and Ito's palette, the usual answer, has
a grey and a purple that are nearly one colour without green-sensitive cones.  A test holds the difference.
"""

from __future__ import annotations

from collections.abc import Sequence

# The seven basic labels, always in the same colour.
LABEL_COLOURS: dict[str, str] = {
    "Neutral": "#B5B0A8",  # warm grey
    "Anger": "#CF3B12",  # vermilion
    "Disgust": "#14875F",  # green
    "Fear": "#9C6ABF",  # purple
    "Happiness": "#F8CC3C",  # yellow
    "Sadness": "#17508F",  # deep blue
    "Surprise": "#63D2F2",  # sky blue
}
# For labels of other bundles, in order.
SPARE_COLOURS = ("#E58A00", *LABEL_COLOURS.values())


def colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour (`#RRGGBB`) for each label: the basic ones have theirs, others take the rest in order."""
    free = iter([*SPARE_COLOURS[:1], *(colour for name, colour in LABEL_COLOURS.items() if name not in labels)])
    return {label: LABEL_COLOURS.get(label) or next(free, SPARE_COLOURS[0]) for label in labels}


def rgb(colour: str) -> tuple[int, int, int]:
    """`#RRGGBB` -> red, green, blue, each 0..255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
