"""The summary of one face over time, or of all faces together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, Field

from app.contract.frames import Face, Frame
from app.reports.moments import Moment, MomentTally
from app.reports.trust import Trust, TrustTally

MOST_PEAKS = 3


class LabelShare(BaseModel):
    """The share of frames with a label, and its mean score."""

    share: float = Field(description="share of the frames with this face in segments of the label, 0..1")
    mean_score: float = Field(description="mean of the label's score over all frames with this face")


class Segment(BaseModel):
    """A run of frames with the same label, after smoothing."""

    start_s: float
    end_s: float
    label: str
    mean_score: float = Field(description="mean of the label's score, not smoothed")
    unsure: bool = Field(description="the mean score is lower than `unsure_below`")


class Peak(BaseModel):
    """The frame of a segment where its label's score is highest."""

    frame_index: int
    timestamp_s: float
    score: float


class Events(BaseModel):
    """The segments of one label."""

    count: int
    per_minute: float | None = Field(description="of the time in which the face is visible; null if unknown")
    mean_s: float = Field(description="mean duration")
    longest_s: float
    onsets_s: tuple[float, ...] = Field(description="start of each")
    peaks: tuple[Peak, ...] = Field(description=f"the highest of {MOST_PEAKS} segments, the best first")


class Transition(BaseModel):
    """How often one label followed another without a gap."""

    before: str
    after: str
    count: int


class PartSummary(BaseModel):
    """Labels, segments and events of a track, or of the whole video."""

    frames: int = Field(description="frames with this face")
    start_s: float | None
    end_s: float | None
    label: str | None = Field(description="the label with the largest share")
    labels: dict[str, LabelShare]
    segments: tuple[Segment, ...]
    events: dict[str, Events] = Field(description="of the labels that occur")
    transitions: tuple[Transition, ...] = Field(description="the most frequent first")
    moments: tuple[Moment, ...] | None = Field(
        description="with `baseline`: the largest changes, at least 1 s apart; null until the job has ended"
    )
    trust: Trust | None = Field(description="with `landmarks=true`: shares of reliable frames")


class Part:
    """Accumulates the frames of a track, or of the whole video."""

    def __init__(self, labels: Sequence[str], unsure_below: float) -> None:
        self._labels = labels
        self._unsure_below = unsure_below
        self._counts = [0] * len(labels)
        self._sums = [0.0] * len(labels)
        self._frames = 0
        self._segments: list[Segment] = []
        self._peaks: list[Peak] = []  # one per segment
        self._transitions: Counter[tuple[int, int]] = Counter()
        self._trust = TrustTally()
        self._moments = MomentTally(labels)
        # The open segment: label, start, frames, sum of scores, peak; and the newest frame.
        self._best, self._since_s, self._run, self._run_sum = -1, 0.0, 0, 0.0
        self._peak: Peak | None = None
        self._last_position, self._last_s, self._first_s = -2, 0.0, 0.0
        self._track = -1

    def add(self, position: int, frame: Frame, face: Face, label: int, interval_s: float) -> None:
        """Add a frame with this face in a segment of this label.  position: among all frames; gaps end segments."""
        time_s, score = frame.timestamp_s, face.scores[label]
        if not self._frames:
            self._first_s = time_s
        follows = position == self._last_position + 1 and face.track_id == self._track
        self._track = face.track_id
        if label != self._best or not follows:
            if follows:
                self._transitions[self._best, label] += 1
            self._close(time_s if follows else self._last_s + interval_s)
            self._best, self._since_s, self._run, self._run_sum, self._peak = label, time_s, 0, 0.0, None
        self._run += 1
        self._run_sum += score
        if self._peak is None or score > self._peak.score:
            self._peak = Peak(frame_index=frame.frame_index, timestamp_s=time_s, score=score)
        self._frames += 1
        self._counts[label] += 1
        for k, value in enumerate(face.scores):
            self._sums[k] += value
        self._trust.add(face)
        self._moments.add(frame, face)
        self._last_position, self._last_s = position, time_s

    def summary(self, interval_s: float) -> PartSummary:
        """The summary of the frames so far.  interval_s: duration of the newest frame."""
        self._close(self._last_s + interval_s)
        n = max(self._frames, 1)
        shares = {
            label: LabelShare(share=round(self._counts[k] / n, 5), mean_score=round(self._sums[k] / n, 5))
            for k, label in enumerate(self._labels)
        }
        return PartSummary(
            frames=self._frames,
            start_s=self._first_s if self._frames else None,
            end_s=round(self._last_s + interval_s, 6) if self._frames else None,
            label=max(self._labels, key=lambda label: shares[label].share) if self._frames else None,
            labels=shares,
            segments=tuple(self._segments),
            events=self._events(),
            transitions=tuple(
                Transition(before=self._labels[a], after=self._labels[b], count=count)
                for (a, b), count in self._transitions.most_common()
            ),
            moments=self._moments.largest(),
            trust=self._trust.shares(),
        )

    def _close(self, end_s: float) -> None:
        """End the open segment, if any."""
        if self._run and self._peak is not None:
            mean = round(self._run_sum / self._run, 5)
            self._segments.append(
                Segment(
                    start_s=round(self._since_s, 6),
                    end_s=round(max(end_s, self._since_s), 6),
                    label=self._labels[self._best],
                    mean_score=mean,
                    unsure=mean < self._unsure_below,
                )
            )
            self._peaks.append(self._peak)
        self._run = 0

    def _events(self) -> dict[str, Events]:
        seen_s = sum(segment.end_s - segment.start_s for segment in self._segments)
        found = {}
        for label in self._labels:
            own = [(s, p) for s, p in zip(self._segments, self._peaks, strict=True) if s.label == label]
            if not own:
                continue
            lengths = [segment.end_s - segment.start_s for segment, _ in own]
            found[label] = Events(
                count=len(own),
                per_minute=round(60 * len(own) / seen_s, 3) if seen_s else None,
                mean_s=round(sum(lengths) / len(own), 6),
                longest_s=round(max(lengths), 6),
                onsets_s=tuple(segment.start_s for segment, _ in own),
                peaks=tuple(sorted((peak for _, peak in own), key=lambda peak: -peak.score)[:MOST_PEAKS]),
            )
        return found
