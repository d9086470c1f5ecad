"""The summary of a video: shares, segments, events, moments and transitions of each track and of all faces.

One pass over the frames; memory grows with the segments, not with the frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Literal

from pydantic import BaseModel, Field

from app.contract.frames import Face, Frame
from app.contract.jobs import LeftOutFaces, State
from app.contract.segments import Smoothing, shown
from app.contract.whole import Whole
from app.reports.parts import Part, PartSummary
from app.reports.reactions import Reaction, reactions

_ALL = -1  # pseudo-track of the mean over all faces of a frame


class TrackSummary(PartSummary):
    """One face over time."""

    track_id: int
    person_name: str | None = Field(None, description="name given to the person")


class Appearance(BaseModel):
    """A track of a person."""

    track_id: int
    start_s: float | None
    end_s: float | None


class BestFrameOf(BaseModel):
    """The best frame of a person: sharp, frontal, large."""

    frame_index: int
    timestamp_s: float
    track_id: int


class PersonSummary(PartSummary):
    """One person, over all their tracks."""

    person_id: int
    appearances: tuple[Appearance, ...]
    best_frame: BestFrameOf | None


class Summary(BaseModel):
    """A summary of a job's results; of the frames so far while it runs."""

    job_id: str
    name: str | None = Field(None, description="of the job")
    metadata: dict[str, str] = Field(default_factory=dict, description="of the job")
    state: State
    complete: bool = Field(description="the job has ended")
    frames: int = Field(description="sampled frames")
    frames_with_faces: int
    frames_without_faces: int
    left_out: LeftOutFaces | None = Field(description="faces that options excluded; null until the job has ended")
    video: PartSummary = Field(description="all faces together; each frame counts once, with their mean scores")
    tracks: tuple[TrackSummary, ...]
    people: tuple[PersonSummary, ...] | None = Field(description="with `people=true`; null until the job has ended")
    reactions: tuple[Reaction, ...] = Field(
        description="labels that a face began to show within 1 s after another face, the most frequent first"
    )


def summarise(
    job_id: str,
    state: State,
    complete: bool,
    labels: Sequence[str],
    frames: Iterable[Frame],
    smoothing: Smoothing,
    left_out: LeftOutFaces | None = None,
    whole: Whole | None = None,
) -> Summary:
    """The summary of a job's frames, in order.  whole: the job's people, None if not requested."""
    together = Part(labels, smoothing.unsure_below)
    tracks: dict[int, Part] = {}
    people: dict[int, Part] = {}
    total = with_faces = 0
    interval_s = previous_s = 0.0
    for position, seen in enumerate(shown(map(_with_all, frames), smoothing)):
        frame = seen.frame
        if position:
            interval_s = max(frame.timestamp_s - previous_s, 0.0)
        previous_s = frame.timestamp_s
        total += 1
        with_faces += bool(frame.faces)
        for face, label in zip(frame.faces, seen.labels, strict=True):
            if face.track_id == _ALL:
                together.add(position, frame, face, label, interval_s)
                continue
            parts = [(tracks, face.track_id)]
            if face.person_id is not None:
                parts.append((people, face.person_id))
            for known, number in parts:
                if number not in known:
                    known[number] = Part(labels, smoothing.unsure_below)
                known[number].add(position, frame, face, label, interval_s)
    found = {track_id: part.summary(interval_s) for track_id, part in sorted(tracks.items())}
    persons = {person: part.summary(interval_s) for person, part in sorted(people.items())}
    by: Literal["track_id", "person_id"] = "person_id" if persons else "track_id"
    return Summary(
        job_id=job_id,
        state=state,
        complete=complete,
        frames=total,
        frames_with_faces=with_faces,
        frames_without_faces=total - with_faces,
        left_out=left_out,
        video=together.summary(interval_s),
        tracks=tuple(TrackSummary(track_id=track_id, **dict(part)) for track_id, part in found.items()),
        people=None if whole is None else _people(persons, found, whole),
        reactions=reactions({key: part.segments for key, part in (persons or found).items()}, by),
    )


def _people(
    persons: Mapping[int, PartSummary], tracks: Mapping[int, PartSummary], whole: Whole
) -> tuple[PersonSummary, ...]:
    found = []
    for person, part in persons.items():
        own = [track_id for track_id in tracks if whole.people.get(track_id) == person]
        best = whole.best.get(person)
        found.append(
            PersonSummary(
                person_id=person,
                appearances=tuple(
                    Appearance(track_id=track_id, start_s=tracks[track_id].start_s, end_s=tracks[track_id].end_s)
                    for track_id in own
                ),
                best_frame=None if best is None else BestFrameOf(**asdict(best)),
                **dict(part),
            )
        )
    return tuple(found)


def _with_all(frame: Frame) -> Frame:
    """The frame with an additional face, whose scores are the mean of all."""
    if not frame.faces:
        return frame
    mean = tuple(sum(column) / len(frame.faces) for column in zip(*(face.scores for face in frame.faces), strict=True))
    return replace(frame, faces=(*frame.faces, Face(_ALL, (0, 0, 0, 0), None, mean)))
