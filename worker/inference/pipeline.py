"""The pipeline: the only module that composes the stages.

    decode -> faces -> tracks -> steadying -> crops -> ensemble

Decoding, face detection (with tracks and crops) and the ensemble run concurrently, each in its own thread, with bounded
queues between them: the slowest limits the throughput, and memory does not grow with the video.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from model_store.identity import load_identity
from worker.core.pose import poses
from worker.core.records import (
    CroppedFace,
    CroppedFrame,
    DecodedFrame,
    FaceLooks,
    LabelledFrame,
    TrackedFrame,
    VideoInfo,
)
from worker.crops import CropSpec, crop_aligned, crop_whole, sharpness
from worker.decode import Sampling
from worker.ensemble.engine import Engine
from worker.ensemble.fusion import prior_in_use
from worker.ensemble.stream import ClipStream
from worker.faces.finding import Finder
from worker.faces.following import Following
from worker.inference.prefetch import prefetched
from worker.inference.stage_timing import StageClocks
from worker.people.gathering import Gathering
from worker.people.identity import Identity
from worker.tracks.association import Tracker
from worker.tracks.steadying import Steadying

FRAMES_AHEAD_BYTES = 64 * 2**20  # queue of decoded frames before the detector
CROPS_AHEAD_BYTES = 32 * 2**20  # queue of crops before the ensemble
RECORD_BYTES = 1024  # size of a frame besides its pixels, so that frames without faces are bounded, too


class Source(Protocol):
    """An input that can be decoded once.  `decoded` and `warnings` are complete after `frames` ended."""

    info: VideoInfo
    decoded: int
    warnings: list[str]

    def frames(self) -> Iterator[DecodedFrame]:
        """Sampled frames in order."""

    def close(self) -> None:
        """Release the decoder."""


class UnknownMemberError(ValueError):
    """A job requests a member that the bundle lacks."""


@dataclass(frozen=True)
class LabelOptions:
    """A job's options for the pipeline.  members: names to fuse, in the bundle's order; empty for all.

    prior: the prior of the scores, 0 (balanced) to 1 (as in training); None for the bundle's default.
    """

    cropped: bool = False
    max_faces: int = 10
    min_face_px: float = 16
    min_score: float | None = None
    members: tuple[str, ...] = ()
    prior: float | None = None
    landmarks: bool = False
    sampling: Sampling = field(default_factory=Sampling)


class Pipeline:
    """Labels inputs, also concurrently, with one engine and several finders, which are loaded once.

    finders: equal instances; each concurrent input needs its own.
    """

    def __init__(self, engine: Engine, finders: Sequence[Finder], crops: CropSpec) -> None:
        self.engine = engine
        self.detector_name = finders[0].name
        self._finders: queue.SimpleQueue[Finder] = queue.SimpleQueue()
        for finder in finders:
            self._finders.put(finder)
        self._crops = crops
        self._identity: Identity | None = None
        self._identity_lock = threading.Lock()

    def gathering(self) -> Gathering:
        """What gathers the people of one input.  The network is loaded when it is first needed.

        Raises: BundleError if its file is missing or damaged.
        """
        with self._identity_lock:
            if self._identity is None:
                self._identity = Identity(load_identity())
        return Gathering(self._identity)

    def members(self, options: LabelOptions) -> tuple[str, ...]:
        """The members in use, in the bundle's order.

        Raises: UnknownMemberError if the bundle lacks a requested one.
        """
        if unknown := set(options.members) - set(self.engine.member_names):
            raise UnknownMemberError(f"the bundle has no member {', '.join(sorted(unknown))}")
        return tuple(name for name in self.engine.member_names if not options.members or name in options.members)

    def prior(self, options: LabelOptions) -> float | None:
        """The prior of the scores, None if the bundle records no label frequencies.

        Raises: NoPriorError if one is requested from such a bundle.
        """
        return prior_in_use(self.engine.prior, options.prior)

    def label(
        self,
        source: Source,
        options: LabelOptions,
        clocks: StageClocks | None = None,
        people: Gathering | None = None,
    ) -> Generator[LabelledFrame, None, None]:
        """Every sampled frame of the source with its faces labelled, in order.

        clocks: measure each stage.  people: gathers data to match tracks to people.
        """
        clocks = clocks or StageClocks()
        members, prior = self.members(options), self.prior(options)
        decoded = clocks.decode.working(source.frames())
        with (
            prefetched(decoded, FRAMES_AHEAD_BYTES, _frame_bytes, "decode") as frames,
            prefetched(self.crop(frames, options, clocks, people), CROPS_AHEAD_BYTES, _crop_bytes, "faces") as cropped,
        ):
            labelled = ClipStream(self.engine, members, prior).run(clocks.ensemble.waiting(cropped))
            yield from clocks.ensemble.working(labelled)

    def crop(
        self,
        frames: Iterable[DecodedFrame],
        options: LabelOptions,
        clocks: StageClocks | None = None,
        people: Gathering | None = None,
    ) -> Iterator[CroppedFrame]:
        """Every frame's faces, detected, tracked and cropped; the frames themselves for input of face crops."""
        clocks = clocks or StageClocks()
        if options.cropped:
            return clocks.crops.working(self._whole(clocks.crops.waiting(frames)))
        return clocks.faces.working(self._found(clocks.faces.waiting(frames), options, clocks, people))

    def _found(
        self, frames: Iterable[DecodedFrame], options: LabelOptions, clocks: StageClocks, people: Gathering | None
    ) -> Iterator[CroppedFrame]:
        finder = self._finders.get()
        try:
            following = Following(finder, options.max_faces, options.min_face_px, options.min_score)
            tracks = Tracker().run(following.run(frames))
            for tracked in Steadying(options.min_face_px).run(tracks):
                with clocks.faces.lent(clocks.crops):
                    cropped = self.cut(tracked, looks=options.landmarks)
                if people is not None:
                    people.see(tracked, partial(_sharpness, cropped))
                yield cropped
            if people is not None:
                people.end()
        finally:
            self._finders.put(finder)

    def cut(self, tracked: TrackedFrame, *, looks: bool = False) -> CroppedFrame:
        """Crop a frame's faces.  looks: with landmarks, pose and sharpness."""
        frame, found = tracked.frame, tracked.faces
        faces = []
        if frame.picture is not None:
            height, width = frame.picture.shape[:2]
            turned = poses(found.landmarks) if looks else []
            for i, track_id in enumerate(tracked.track_ids):
                crop = crop_aligned(frame.picture, found.landmarks[i], self._crops)
                left, top, right, bottom = np.clip(found.boxes[i], 0, (width, height, width, height)).tolist()
                bbox = (left, top, right - left, bottom - top)
                seen = FaceLooks(found.landmarks[i], turned[i], sharpness(crop)) if looks else None
                faces.append(CroppedFace(track_id, bbox, float(found.scores[i]), crop, seen))
        size, left_out = _size(frame), tracked.left_out
        return CroppedFrame(frame.frame_index, frame.timestamp_s, tuple(faces), tracked.ended, size, left_out)

    def _whole(self, frames: Iterable[DecodedFrame]) -> Iterator[CroppedFrame]:
        """Input of face crops: one track, 0, over the whole clip."""
        for frame in frames:
            faces: tuple[CroppedFace, ...] = ()
            if frame.picture is not None:
                height, width = frame.picture.shape[:2]
                crop = crop_whole(frame.picture, self._crops)
                faces = (CroppedFace(0, (0.0, 0.0, float(width), float(height)), None, crop),)
            yield CroppedFrame(frame.frame_index, frame.timestamp_s, faces, (), _size(frame))


def _sharpness(frame: CroppedFrame, i: int) -> float:
    face = frame.faces[i]
    return sharpness(face.crop) if face.looks is None else face.looks.sharpness


def _size(frame: DecodedFrame) -> tuple[int, int] | None:
    return None if frame.picture is None else (frame.picture.shape[1], frame.picture.shape[0])


def _frame_bytes(frame: DecodedFrame) -> int:
    return RECORD_BYTES + (0 if frame.picture is None else frame.picture.nbytes)


def _crop_bytes(frame: CroppedFrame) -> int:
    return RECORD_BYTES + sum(face.crop.nbytes for face in frame.faces)
