"""Captions: a cue for every run of frames that show the same faces with the same labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.contract.exports.content import Content
from app.contract.frames import Frame
from app.contract.segments import shown

_LAST_CUE_S = 1 / 25  # duration of a cue if the only frame does not define a frame rate


@dataclass
class Line:
    """One face of a cue.  mean_score: of its label, over the cue.  unsure: it is lower than `unsure_below`."""

    track_id: int
    label: int
    mean_score: float
    unsure: bool


@dataclass
class Cue:
    """start_ms, end_ms: milliseconds.  lines: by track."""

    start_ms: int
    end_ms: int
    lines: list[Line]


def cues(frames: Iterable[Frame], content: Content) -> Iterator[Cue]:
    """Cues in order of time, without overlap.  Frames without faces have none."""
    run: _Run | None = None
    interval_s, previous_s = _LAST_CUE_S, 0.0
    for frame in shown(frames, content.smoothing):
        now_s = frame.frame.timestamp_s
        if run is not None:
            interval_s = max(now_s - previous_s, 0.001)
        previous_s = now_s
        faces = sorted(zip(frame.frame.faces, frame.labels, strict=True), key=lambda pair: pair[0].track_id)
        keys = [(face.track_id, label) for face, label in faces]
        if run is None or run.keys != keys:
            if run is not None:
                yield from run.cue(now_s, content)
            run = _Run(now_s, keys, [0.0] * len(keys))
        run.add([face.scores[label] for face, label in faces])
    if run is not None:
        yield from run.cue(previous_s + interval_s, content)


def vtt_cues(frames: Iterable[Frame], content: Content) -> Iterator[str]:
    """WebVTT.  A cue has a line per face, `<v Face 0>Happiness 0.88`, with the mean score over the cue."""
    yield "WEBVTT\n"
    for cue in cues(frames, content):
        lines = (f"<v {escape(_speaker(line, content))}>{escape(_said(line, content.labels))}" for line in cue.lines)
        yield f"\n{_clock(cue.start_ms)} --> {_clock(cue.end_ms)}\n" + "\n".join(lines) + "\n"


def srt_cues(frames: Iterable[Frame], content: Content) -> Iterator[str]:
    """SubRip.  A cue has a line per face, `Face 0: Happiness 0.88`, with the mean score over the cue."""
    for number, cue in enumerate(cues(frames, content), 1):
        lines = (f"{_speaker(line, content)}: {_said(line, content.labels)}" for line in cue.lines)
        yield f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n" + "\n".join(lines) + "\n\n"


def _speaker(line: Line, content: Content) -> str:
    return (content.names or {}).get(line.track_id) or f"Face {line.track_id}"


@dataclass
class _Run:
    """Consecutive frames with the same faces and labels.  keys: track and label; sums: of each face's score."""

    start_s: float
    keys: list[tuple[int, int]]
    sums: list[float]
    frames: int = 0

    def add(self, scores: Sequence[float]) -> None:
        self.sums = [total + score for total, score in zip(self.sums, scores, strict=True)]
        self.frames += 1

    def cue(self, end_s: float, content: Content) -> Iterator[Cue]:
        if not self.keys:
            return
        start_ms = round(self.start_s * 1000)
        means = [total / self.frames for total in self.sums]
        below = content.smoothing.unsure_below
        lines = [Line(*key, mean, mean < below) for key, mean in zip(self.keys, means, strict=True)]
        yield Cue(start_ms, max(round(end_s * 1000), start_ms + 1), lines)


def _said(line: Line, labels: Sequence[str]) -> str:
    return f"{labels[line.label]} {line.mean_score:.2f}" + (" (unsure)" if line.unsure else "")


def _clock(milliseconds: int, point: str = ".") -> str:
    seconds, ms = divmod(max(milliseconds, 0), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"


def escape(text: str) -> str:
    """Escape text for XML and WebVTT."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
