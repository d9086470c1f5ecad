"""The colours of the labels, shared by timeline, annotated video and page.

They are distinguishable with any common colour blindness.  Hues follow custom (warm for anger, green for disgust); a
search over lightness and chroma maximised the smallest difference.  In Okabe and Ito's palette, the usual choice, grey
and purple are nearly equal without green-sensitive cones.  A test checks the smallest difference.
"""

from __future__ import annotations

from collections.abc import Sequence

# The seven basic labels have fixed colours.
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
    """A colour (`#RRGGBB`) for each label: basic labels have fixed ones, others get the remaining ones in order."""
    free = iter([*SPARE_COLOURS[:1], *(colour for name, colour in LABEL_COLOURS.items() if name not in labels)])
    return {label: LABEL_COLOURS.get(label) or next(free, SPARE_COLOURS[0]) for label in labels}


def rgb(colour: str) -> tuple[int, int, int]:
    """`#RRGGBB` -> red, green, blue, each 0..255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
