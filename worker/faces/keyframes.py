"""Detection on every few frames, interpolation between.

The job is offline, so the next detection is known when a frame between two is filled in.  Where the faces of two
keyframes are not the same faces, the frame in the middle is detected too, and so on: one that comes or goes is found
to the frame, while a steady scene costs one detection every `GAP_S`.  Nothing is interpolated across a cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from worker.core.boxes import match_boxes
from worker.core.records import DecodedFrame, DetectedFrame, Detections, Floats, Image
from worker.faces import Detector

GAP_S = 0.2  # a keyframe at least so often in time ...
GAP_FRAMES = 6  # ... and in frames
BLOCK_BYTES = 256 * 2**20  # frames held back for a batched detector

# A cut: the frame's thumbnail differs from the last one by this much (mean of 0..255), and by this many times more
# than frames of the shot usually do, so that a fast pan or a shaking hand is none.
THUMBNAIL = (32, 18)
CUT_DIFFERENCE = 22.0
CUT_RATIO = 4.0


class ShotCuts:
    """Finds cuts between consecutive frames."""

    def __init__(self) -> None:
        self._last: npt.NDArray[np.int16] | None = None
        self._usual = 0.0

    def is_cut(self, image: Image) -> bool:
        """Whether a cut lies between the last image given and this one."""
        small = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.int16)
        last, self._last = self._last, small
        if last is None:
            return False
        difference = float(np.abs(small - last).mean())
        cut = difference > CUT_DIFFERENCE and difference > CUT_RATIO * self._usual
        if not cut:
            self._usual = 0.8 * self._usual + 0.2 * difference
        return cut


class KeyframeDetection:
    """Runs a detector over a stream of frames.  max_faces, min_face_px (width of the box), min_score filter faces."""

    def __init__(self, detector: Detector, max_faces: int, min_face_px: float, min_score: float | None) -> None:
        self._detector = detector
        self._max_faces = max_faces
        self._min_face_px = min_face_px
        self._min_score = min_score

    def run(self, frames: Iterable[DecodedFrame]) -> Iterator[DetectedFrame]:
        """Every frame with its faces, in order."""
        cuts = ShotCuts()
        block = _Block()
        for frame in frames:
            cut = frame.image is not None and cuts.is_cut(frame.image)
            block.add(frame, cut)
            if block.new_keys >= self._detector.batch or block.bytes > BLOCK_BYTES:
                yield from self._finish(block, last=False)
        yield from self._finish(block, last=True)

    def _finish(self, block: _Block, *, last: bool) -> Iterator[DetectedFrame]:
        if last:
            block.close()
        self._detect(block, [i for i in block.keys if i not in block.found])
        gaps = block.gaps()
        while gaps:
            middles: list[tuple[int, int, int]] = []
            for a, b in gaps:
                if b - a > 1 and not block.interpolate(a, b):
                    middles.append((a, (a + b) // 2, b))
            self._detect(block, [middle for _, middle, _ in middles])
            gaps = [gap for a, middle, b in middles for gap in ((a, middle), (middle, b))]
        yield from block.take(whole=last)

    def _detect(self, block: _Block, indices: list[int]) -> None:
        readable = [(i, image) for i in indices if (image := block.frames[i].image) is not None]
        for i in indices:
            block.found[i] = Detections.none()
        size = self._detector.batch
        for start in range(0, len(readable), size):
            part = readable[start : start + size]
            found = self._detector.detect([image for _, image in part], self._min_score)
            for (i, _), detections in zip(part, found, strict=True):
                block.found[i] = self._filtered(detections)

    def _filtered(self, faces: Detections) -> Detections:
        sizes = faces.boxes[:, 2:] - faces.boxes[:, :2]
        large = np.flatnonzero(sizes[:, 0] >= self._min_face_px)
        largest = large[np.argsort(-sizes[large].prod(axis=1), kind="stable")][: self._max_faces]
        return faces.take(np.sort(largest))


class _Block:
    """Frames from a keyframe whose faces are known up to the newest frame.

    keys: indices of keyframes, ascending.  found: faces by index.  shots: indices that start a shot.
    """

    def __init__(self) -> None:
        self.frames: list[DecodedFrame] = []
        self.keys: list[int] = []
        self.shots: set[int] = set()
        self.found: dict[int, Detections] = {}
        self.bytes = 0

    @property
    def new_keys(self) -> int:
        return len(self.keys) - len(self.found)

    def add(self, frame: DecodedFrame, cut: bool) -> None:
        if cut:
            self.close()
            self.shots.add(len(self.frames))
        index = len(self.frames)
        self.frames.append(frame)
        self.bytes += 0 if frame.image is None else frame.image.nbytes
        key = self.frames[self.keys[-1]] if self.keys else None
        due = key is None or cut
        if not due and key is not None:
            due = index - self.keys[-1] >= GAP_FRAMES or frame.timestamp_s - key.timestamp_s >= GAP_S - 1e-3
        if due:
            self.keys.append(index)

    def close(self) -> None:
        """The newest frame ends a shot, so it is a keyframe."""
        if self.frames and self.keys[-1] != len(self.frames) - 1:
            self.keys.append(len(self.frames) - 1)

    def gaps(self) -> list[tuple[int, int]]:
        """Pairs of neighbouring keyframes within one shot."""
        return [(a, b) for a, b in zip(self.keys, self.keys[1:], strict=False) if b not in self.shots]

    def interpolate(self, a: int, b: int) -> bool:
        """Fill in the frames between a and b; False if their faces are not the same faces."""
        if self.frames[a].image is None or self.frames[b].image is None:
            return False  # what cannot be seen says nothing about the frames beside it
        before, after = self.found[a], self.found[b]
        pairs = match_boxes(before.boxes, after.boxes)
        if not len(pairs) == len(before) == len(after):
            return False
        after = after.take(np.array([j for _, j in pairs], np.intp))
        start, end = self.frames[a].timestamp_s, self.frames[b].timestamp_s
        for i in range(a + 1, b):
            if self.frames[i].image is None:
                self.found[i] = Detections.none()
            else:
                share = (self.frames[i].timestamp_s - start) / max(end - start, 1e-9)
                self.found[i] = _between(before, after, share)
        return True

    def take(self, *, whole: bool) -> Iterator[DetectedFrame]:
        """The finished frames; the last keyframe stays, as the start of the next gap, unless `whole`."""
        end = len(self.frames) if whole or not self.keys else self.keys[-1]
        done = [DetectedFrame(self.frames[i], self.found[i], i in self.shots) for i in range(end)]
        self.frames = self.frames[end:]
        self.keys = [i - end for i in self.keys if i >= end]
        self.shots = {i - end for i in self.shots if i >= end}
        self.found = {i - end: faces for i, faces in self.found.items() if i >= end}
        self.bytes = sum(frame.image.nbytes for frame in self.frames if frame.image is not None)
        yield from done


def _between(before: Detections, after: Detections, share: float) -> Detections:
    def mix(a: Floats, b: Floats) -> Floats:
        return np.asarray(a + (b - a) * np.float32(share), np.float32)

    landmarks = None
    if before.landmarks is not None and after.landmarks is not None:
        landmarks = mix(before.landmarks, after.landmarks)
    return Detections(mix(before.boxes, after.boxes), mix(before.scores, after.scores), landmarks)
