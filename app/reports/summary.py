"""What a video shows as a whole: shares, mean scores and segments of labels, for each track and for all faces.

One pass over the frames; what is kept grows with the segments, not with the frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, Field

from app.contract.frames import Face, Frame
from app.contract.jobs import LeftOutFaces, State
from app.contract.segments import Smoothing, shown


class LabelShare(BaseModel):
    """How much of the time a label was shown, and its mean score."""

    share: float = Field(description="share of the frames with this face that lie in segments of the label, 0..1")
    mean_score: float = Field(description="mean of the label's score over all frames with this face")


class Segment(BaseModel):
    """A run of frames with the same label, after smoothing."""

    start_s: float
    end_s: float
    label: str
    mean_score: float = Field(description="mean of the label's score, not smoothed")
    unsure: bool = Field(description="the mean score is lower than `unsure_below`")


class PartSummary(BaseModel):
    """Labels and segments of a track, or of the whole video."""

    frames: int = Field(description="frames with this face")
    start_s: float | None
    end_s: float | None
    label: str | None = Field(description="the label with the largest share")
    labels: dict[str, LabelShare]
    segments: tuple[Segment, ...]


class TrackSummary(PartSummary):
    """One face over time."""

    track_id: int


class Summary(BaseModel):
    """A job's results in short; of the frames so far while it runs."""

    job_id: str
    name: str | None = Field(None, description="of the job")
    metadata: dict[str, str] = Field(default_factory=dict, description="of the job")
    state: State
    complete: bool = Field(description="the job has ended")
    frames: int = Field(description="sampled frames")
    frames_with_faces: int
    frames_without_faces: int
    left_out: LeftOutFaces | None = Field(description="faces that options left out; null until the job has ended")
    video: PartSummary = Field(description="all faces together; each frame counts once, with their mean scores")
    tracks: tuple[TrackSummary, ...]


@dataclass
class _Part:
    """What is known so far of a track, or of the whole."""

    labels: Sequence[str]
    unsure_below: float
    counts: list[int] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    frames: int = 0
    segments: list[Segment] = field(default_factory=list)
    best: int = -1  # label of the open segment, and since when, over how many frames, with which sum of scores
    since_s: float = 0.0
    run: int = 0
    run_sum: float = 0.0
    last_position: int = -2
    last_s: float = 0.0
    first_s: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * len(self.labels)
        self.sums = [0.0] * len(self.labels)

    def add(self, position: int, time_s: float, scores: Sequence[float], best: int, interval_s: float) -> None:
        """A frame with this face, in a segment of label `best`.  position: among all frames; a gap ends the segment."""
        if not self.frames:
            self.first_s = time_s
        follows = position == self.last_position + 1
        if best != self.best or not follows:
            self.close(time_s if follows else self.last_s + interval_s)
            self.best, self.since_s, self.run, self.run_sum = best, time_s, 0, 0.0
        self.run += 1
        self.run_sum += scores[best]
        self.frames += 1
        self.counts[best] += 1
        for k, score in enumerate(scores):
            self.sums[k] += score
        self.last_position, self.last_s = position, time_s

    def close(self, end_s: float) -> None:
        """End the open segment, where there is one."""
        if self.run:
            mean = round(self.run_sum / self.run, 5)
            self.segments.append(
                Segment(
                    start_s=round(self.since_s, 6),
                    end_s=round(max(end_s, self.since_s), 6),
                    label=self.labels[self.best],
                    mean_score=mean,
                    unsure=mean < self.unsure_below,
                )
            )
        self.run = 0

    def summary(self, interval_s: float) -> PartSummary:
        self.close(self.last_s + interval_s)
        n = max(self.frames, 1)
        shares = {
            label: LabelShare(share=round(self.counts[k] / n, 5), mean_score=round(self.sums[k] / n, 5))
            for k, label in enumerate(self.labels)
        }
        return PartSummary(
            frames=self.frames,
            start_s=self.first_s if self.frames else None,
            end_s=round(self.last_s + interval_s, 6) if self.frames else None,
            label=max(self.labels, key=lambda label: shares[label].share) if self.frames else None,
            labels=shares,
            segments=tuple(self.segments),
        )


def summarise(
    job_id: str,
    state: State,
    complete: bool,
    labels: Sequence[str],
    frames: Iterable[Frame],
    smoothing: Smoothing,
    left_out: LeftOutFaces | None = None,
) -> Summary:
    """The summary of a job's frames, in order."""
    whole = _Part(labels, smoothing.unsure_below)
    tracks: dict[int, _Part] = {}
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
                part = whole
            elif face.track_id in tracks:
                part = tracks[face.track_id]
            else:
                part = tracks[face.track_id] = _Part(labels, smoothing.unsure_below)
            part.add(position, frame.timestamp_s, face.scores, label, interval_s)
    return Summary(
        job_id=job_id,
        state=state,
        complete=complete,
        frames=total,
        frames_with_faces=with_faces,
        frames_without_faces=total - with_faces,
        left_out=left_out,
        video=whole.summary(interval_s),
        tracks=tuple(
            TrackSummary(track_id=track_id, **dict(part.summary(interval_s)))
            for track_id, part in sorted(tracks.items())
        ),
    )


_ALL = -1  # the track of what all faces of a frame show together


def _with_all(frame: Frame) -> Frame:
    """The frame with one more face, whose scores are the mean of all."""
    if not frame.faces:
        return frame
    mean = tuple(sum(column) / len(frame.faces) for column in zip(*(face.scores for face in frame.faces), strict=True))
    return replace(frame, faces=(*frame.faces, Face(_ALL, (0, 0, 0, 0), None, mean)))
