"""Labelled videos through the whole pipeline, as they are served: what was labelled, and with what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from app.contract.options import JobOptions
from worker.decode import DecodeLimits
from worker.inference import serving
from worker.training.journal import Journal
from worker.training.video_index import UNLABELLED
from worker.training.whole_videos import AnnotatedVideo, Clip, Video

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Given = TypeVar("Given", Video, AnnotatedVideo)


@dataclass(frozen=True)
class Seen:
    """The pipeline's output for a video: N frames, F faces, K labels, M members.

    index, times: (N,) of each frame, in the source and in seconds.  frame: (F,) position of a face's frame.  track,
    area, middle: (F,) its track, its box' pixels, its centre from the left as a share of the width.  fused (F, K) and
    members (M, F, K): probabilities.
    """

    index: Indices
    times: npt.NDArray[np.float64]
    frame: Indices
    track: Indices
    area: Floats
    middle: Floats
    fused: Floats
    members: Floats


@dataclass(frozen=True)
class Labelled(Generic[Given]):
    """A video with what was seen of it, or with why it could not be labelled."""

    video: Given
    seen: Seen | None
    why: str = ""


@dataclass
class Steadiness:
    """Label changes within tracks, and the seconds of track in which they were counted."""

    changes: int = 0
    seconds: float = 0.0

    def add(self, times: npt.NDArray[np.float64], track: Indices, said: Indices) -> None:
        """Faces (P,) in time's order, of one track or of several in turn."""
        same = track[1:] == track[:-1]
        self.changes += int((same & (said[1:] != said[:-1])).sum())
        self.seconds += float(np.diff(times)[same].sum())

    @property
    def a_second(self) -> float | None:
        """None where nothing was counted."""
        return self.changes / self.seconds if self.seconds else None


@dataclass
class Following:
    """How soon a change of the annotated label is followed.

    delays: frames from the first one with the new label to the first that is labelled so, of changes that are followed
    before the next.  early: changes before which the face was labelled so already, which count for nothing else.
    """

    delays: list[int] = field(default_factory=list)
    early: int = 0
    missed: int = 0

    def add(self, truth: Indices, said: Indices) -> None:
        """A video's frames (N,): annotated and predicted labels, -1 for none."""
        starts = np.flatnonzero(np.diff(truth, prepend=truth[:1] - 1))  # of runs of one label
        ends = np.append(starts[1:], len(truth))
        for before, start, end in zip(starts, starts[1:], ends[1:], strict=False):
            if truth[start] == UNLABELLED or truth[start - 1] == UNLABELLED:
                continue
            former = said[before:start][said[before:start] != UNLABELLED]
            later = said[start:end]
            if not len(former) or not (later != UNLABELLED).any():
                continue  # nobody to see change
            if former[-1] == truth[start]:
                self.early += 1
            elif (hits := np.flatnonzero(later == truth[start])).size:
                self.delays.append(int(hits[0]))
            else:
                self.missed += 1

    def figures(self) -> dict[str, float | int | None]:
        """As a reader wants them; None where there is nothing to count."""
        return {
            "n": len(self.delays) + self.early + self.missed,
            "early": self.early,
            "followed": len(self.delays),
            "missed": self.missed,
            "median_frames": float(np.median(self.delays)) if self.delays else None,
            "p95_frames": float(np.percentile(self.delays, 95)) if self.delays else None,
        }


def label_videos(
    loaded: serving.Serving,
    videos: Sequence[Given],
    options: JobOptions,
    limits: DecodeLimits,
    journal: Journal,
    at_once: int,
) -> Iterator[Labelled[Given]]:
    """Every video in order, labelled like a job with these options; a failure has its reason and does not stop others.

    at_once: how many are labelled side by side, at most as many as were loaded for.
    """

    def one(video: Given) -> Labelled[Given]:
        try:
            return Labelled(video, _seen(loaded, video, options, limits))
        except serving.INPUT_ERRORS as error:
            return Labelled(video, None, str(error) or "not enough memory")

    threads = ThreadPoolExecutor(at_once)
    try:
        with journal.bar("videos", len(videos)) as bar:
            for labelled in threads.map(one, videos):
                bar.advance()
                yield labelled
    finally:
        threads.shutdown(cancel_futures=True)


def _seen(loaded: serving.Serving, video: Video | AnnotatedVideo, options: JobOptions, limits: DecodeLimits) -> Seen:
    if not video.path.exists():
        raise FileNotFoundError("no such file or folder")
    if isinstance(video, Video):
        options = options.model_copy(update={"start_s": video.start_s, "end_s": video.end_s})
    chosen = serving.label_options(options)
    labels, members = len(loaded.manifest.labels), len(loaded.pipeline.members(chosen))
    index: list[int] = []
    times: list[float] = []
    faces: list[tuple[int, int, float, float]] = []
    fused = [np.empty((0, labels), np.float32)]
    own = [np.empty((members, 0, labels), np.float32)]
    with (
        closing(loaded.open_source(video.path, serving.reading_of(video.path), options, limits)) as source,
        closing(loaded.pipeline.label(source, chosen)) as frames,
    ):
        for labelled in frames:
            frame = labelled.frame
            for face in frame.faces:
                left, _, width, height = face.bbox
                middle = (left + width / 2) / (frame.size or (source.info.width, 0))[0]
                faces.append((len(index), face.track_id, width * height, middle))
            fused.append(labelled.fused)
            own.append(labelled.members)
            index.append(frame.frame_index)
            times.append(frame.timestamp_s)
    table = np.array(faces, np.float64).reshape(-1, 4)
    return Seen(
        np.array(index, np.int64),
        np.array(times, np.float64),
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        table[:, 2].astype(np.float32),
        table[:, 3].astype(np.float32),
        np.concatenate(fused),
        np.concatenate(own, axis=1),
    )


def faces_of_clip(seen: Seen, clip: Clip) -> tuple[Indices, Indices]:
    """Positions of the frames within a clip, and of the faces of the largest track there, both in time's order.

    The largest: whose boxes in the clip have the most pixels, all frames together.
    """
    inside = (seen.times >= clip.start_s) & (seen.times < clip.end_s)
    faces = np.flatnonzero(inside[seen.frame])
    if not len(faces):
        return np.flatnonzero(inside), faces
    area = np.bincount(seen.track[faces], seen.area[faces])
    return np.flatnonzero(inside), faces[seen.track[faces] == area.argmax()]


def faces_of_person(seen: Seen, side: str) -> Indices:
    """(P,) one face a frame, where there is one, in time's order.

    side: `left` or `right`, who is there; one who is alone must be in that half of the picture.  "": of those in the
    frame the one whose track has the most pixels in the whole video.
    """
    if not len(seen.frame):
        return np.empty(0, np.int64)
    if not side:
        rank = np.bincount(seen.track, seen.area)[seen.track].astype(np.float32)
    else:
        rank = seen.middle if side == "right" else 1 - seen.middle
    order = np.lexsort((rank, seen.frame))  # the best of each frame last
    last = np.append(np.diff(seen.frame[order]) > 0, True)
    best: Indices = order[last]
    if side:
        together = np.bincount(seen.frame)[seen.frame[best]] > 1
        best = best[together | (rank[best] >= 1 / 2)]
    return best
