"""The colours of the labels, in one place: timeline, annotated video and page show the same ones.

Okabe and Ito's palette ("Color Universal Design", 2008), which people with any common colour blindness can tell apart;
its black is a grey here, so that it shows on dark pictures too.
"""

from __future__ import annotations

from collections.abc import Sequence

# The seven basic labels, always in the same colour.
LABEL_COLOURS: dict[str, str] = {
    "Neutral": "#999999",  # grey
    "Anger": "#D55E00",  # vermilion
    "Disgust": "#009E73",  # bluish green
    "Fear": "#CC79A7",  # reddish purple
    "Happiness": "#F0E442",  # yellow
    "Sadness": "#0072B2",  # blue
    "Surprise": "#56B4E9",  # sky blue
}
# For labels of other bundles, in order.
SPARE_COLOURS = ("#E69F00", *LABEL_COLOURS.values())


def colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour (`#RRGGBB`) for each label: the basic ones have theirs, others take the rest in order."""
    free = iter([*SPARE_COLOURS[:1], *(colour for name, colour in LABEL_COLOURS.items() if name not in labels)])
    return {label: LABEL_COLOURS.get(label) or next(free, SPARE_COLOURS[0]) for label in labels}


def rgb(colour: str) -> tuple[int, int, int]:
    """`#RRGGBB` -> red, green, blue, each 0..255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
