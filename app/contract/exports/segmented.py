"""Segments as files: ELAN (EAF) and Praat (TextGrid), a tier a person who has a name or an id, else a track.

Memory grows with the segments, not with the frames: both formats begin with data that is known only at the end.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from app.contract.exports.captions import escape
from app.contract.exports.content import Content
from app.contract.frames import Face, Frame
from app.contract.segments import shown

UNSURE = "?"  # suffix of the label of an unsure segment
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


@dataclass
class Tier:
    """Segments of one person or track, in order.  starts_ms, ends_ms: milliseconds.  labels: indices.

    unsure: 1 if the mean score is lower than `unsure_below`.
    """

    name: str
    starts_ms: array[int] = field(default_factory=lambda: array("q"))
    ends_ms: array[int] = field(default_factory=lambda: array("q"))
    labels: array[int] = field(default_factory=lambda: array("h"))
    unsure: array[int] = field(default_factory=lambda: array("b"))

    def texts(self, labels: Sequence[str]) -> Iterator[tuple[int, int, str]]:
        """Start, end and text of each segment."""
        for start, end, label, unsure in zip(self.starts_ms, self.ends_ms, self.labels, self.unsure, strict=True):
            yield start, end, labels[label] + (UNSURE if unsure else "")


@dataclass
class _Open:
    """An open segment: label, track, start, frames and sum of scores."""

    label: int
    track_id: int
    start_s: float
    position: int = -1
    frames: int = 0
    total: float = 0.0


def tiers(frames: Iterable[Frame], content: Content) -> tuple[list[Tier], int]:
    """All tiers, those with people's given names first, and when the last frame ends, in milliseconds."""
    found: dict[str, Tier] = {}
    places: dict[str, tuple[int, int]] = {}
    open_: dict[str, _Open] = {}
    last_s = interval_s = 0.0

    def close(name: str, end_s: float) -> None:
        run = open_.pop(name)
        tier = found.setdefault(name, Tier(name))
        start = max(round(run.start_s * 1000), tier.ends_ms[-1] if tier.ends_ms else 0)
        tier.starts_ms.append(start)
        tier.ends_ms.append(max(round(end_s * 1000), start + 1))
        tier.labels.append(run.label)
        tier.unsure.append(run.total / run.frames < content.smoothing.unsure_below)

    for position, seen in enumerate(shown(frames, content.smoothing)):
        now_s = seen.frame.timestamp_s
        if position:
            interval_s = max(now_s - last_s, 0.0)
        last_s = now_s
        by_track = sorted(zip(seen.frame.faces, seen.labels, strict=True), key=lambda pair: pair[0].track_id)
        for face, label in by_track:
            name, place = _tier_of(face, content)
            places[name] = min(place, places.get(name, place))
            run = open_.get(name)
            if run is not None and run.position == position:
                continue  # two tracks that were said to be one person: in this frame the first one counts
            if run is not None and (run.label, run.track_id) != (label, face.track_id):
                close(name, now_s)
                run = None
            if run is None:
                run = open_[name] = _Open(label, face.track_id, now_s)
            run.position, run.frames, run.total = position, run.frames + 1, run.total + face.scores[label]
        for name in [name for name, run in open_.items() if run.position != position]:
            close(name, now_s)
    for name in list(open_):
        close(name, last_s + interval_s)
    ends = (tier.ends_ms[-1] for tier in found.values())
    ordered = sorted(found.values(), key=lambda tier: places[tier.name])
    return ordered, max([round((last_s + interval_s) * 1000), *ends])


def _tier_of(face: Face, content: Content) -> tuple[str, tuple[int, int]]:
    """A face's tier and the tier's place: by the person's given name, else by person, else by track."""
    if given := (content.names or {}).get(face.track_id):
        return given, (0, face.track_id)
    if face.person_id is not None:
        return f"Person {face.person_id}", (1, face.person_id)
    return f"Face {face.track_id}", (2, face.track_id)


def eaf(frames: Iterable[Frame], content: Content) -> Iterator[str]:
    """An annotation document of ELAN, version 3.0.  An unsure segment's label ends in `?`."""
    found, _ = tiers(frames, content)
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<ANNOTATION_DOCUMENT AUTHOR="Mien" DATE="{content.about.get("created_at", "1970-01-01T00:00:00+00:00")}"'
        ' FORMAT="3.0" VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:noNamespaceSchemaLocation="{_SCHEMA}">\n<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">\n'
    )
    for name, value in content.about.items():
        yield f'<PROPERTY NAME="{escape(name)}">{escape(value)}</PROPERTY>\n'
    yield "</HEADER>\n<TIME_ORDER>\n"
    number = 0
    for tier in found:
        for start, end, _ in tier.texts(content.labels):
            number += 2
            yield (
                f'<TIME_SLOT TIME_SLOT_ID="ts{number - 1}" TIME_VALUE="{start}"/>\n'
                f'<TIME_SLOT TIME_SLOT_ID="ts{number}" TIME_VALUE="{end}"/>\n'
            )
    yield "</TIME_ORDER>\n"
    number = 0
    for tier in found:
        yield f'<TIER LINGUISTIC_TYPE_REF="expression" TIER_ID={quoteattr(tier.name)}>\n'
        for _, _, text in tier.texts(content.labels):
            number += 1
            yield (
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" TIME_SLOT_REF1="ts{2 * number - 1}"'
                f' TIME_SLOT_REF2="ts{2 * number}"><ANNOTATION_VALUE>{escape(text)}</ANNOTATION_VALUE>'
                "</ALIGNABLE_ANNOTATION></ANNOTATION>\n"
            )
        yield "</TIER>\n"
    yield (
        '<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="expression" TIME_ALIGNABLE="true"/>\n'
        "</ANNOTATION_DOCUMENT>\n"
    )


def textgrid(frames: Iterable[Frame], content: Content) -> Iterator[str]:
    """Praat's TextGrid in its long form: interval tiers that cover the whole video, empty where nobody is visible."""
    found, end_ms = tiers(frames, content)
    end = _seconds(max(end_ms, 1))
    yield f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {end}\n'
    yield f"tiers? <exists>\nsize = {len(found)}\nitem []:\n" if found else "tiers? <absent>\n"
    for number, tier in enumerate(found, 1):
        intervals = sum(1 for _ in _covering(tier, content.labels, end_ms))
        yield (
            f'    item [{number}]:\n        class = "IntervalTier"\n        name = {_quoted(tier.name)}\n'
            f"        xmin = 0\n        xmax = {end}\n        intervals: size = {intervals}\n"
        )
        for place, (start, stop, text) in enumerate(_covering(tier, content.labels, end_ms), 1):
            yield (
                f"        intervals [{place}]:\n            xmin = {_seconds(start)}\n"
                f"            xmax = {_seconds(stop)}\n            text = {_quoted(text)}\n"
            )


def _covering(tier: Tier, labels: Sequence[str], end_ms: int) -> Iterator[tuple[int, int, str]]:
    """The tier's segments, with empty intervals between them, from 0 to the end."""
    reached = 0
    for start, end, text in tier.texts(labels):
        if start > reached:
            yield reached, start, ""
        yield start, end, text
        reached = end
    if reached < end_ms:
        yield reached, end_ms, ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g}" if milliseconds < 100_000 else f"{milliseconds / 1000:.3f}"
