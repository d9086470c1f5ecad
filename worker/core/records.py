"""The records passed between the stages of the pipeline.

Axes and units: images (H, W, 3) uint8 RGB; boxes (N, 4) float32 `xyxy` in pixels of that image, origin top left;
landmarks (N, 5, 2) float32 xy in the same pixels, in the order right eye, left eye, nose tip, right and left mouth
corner (right means the person's).
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field

import numpy as np
import numpy.typing as npt

from worker.core.picture import Picture

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VideoInfo:
    """The container's metadata: untrusted until the video is decoded."""

    width: int
    height: int
    fps: float | None
    frame_count: int | None
    duration_s: float | None


@dataclass(frozen=True)
class DecodedFrame:
    """A sampled frame.  frame_index: index in the source, from 0.  timestamp_s: from the container's pts.

    shown: a picture or an RGB image (H, W, 3) uint8; None if the frame is unreadable.
    """

    frame_index: int
    timestamp_s: float
    shown: InitVar[Picture | Image | None]
    picture: Picture | None = field(init=False)

    def __post_init__(self, shown: Picture | Image | None) -> None:
        picture = Picture.of(shown) if isinstance(shown, np.ndarray) else shown
        object.__setattr__(self, "picture", picture)

    @property
    def image(self) -> Image | None:
        """The whole picture, (H, W, 3) uint8 RGB."""
        return None if self.picture is None else self.picture.whole()


@dataclass(frozen=True)
class Detections:
    """The faces of one frame: boxes (N, 4), scores (N,) in 0..1, landmarks (N, 5, 2)."""

    boxes: Floats
    scores: Floats
    landmarks: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, indices: npt.NDArray[np.intp]) -> Detections:
        """The faces at `indices`, in that order."""
        return Detections(self.boxes[indices], self.scores[indices], self.landmarks[indices])

    def and_(self, others: Detections) -> Detections:
        """These faces, then the others."""
        return Detections(
            np.concatenate([self.boxes, others.boxes]),
            np.concatenate([self.scores, others.scores]),
            np.concatenate([self.landmarks, others.landmarks]),
        )

    @property
    def widths(self) -> Floats:
        """(N,) widths of the boxes, in pixels."""
        return self.boxes[:, 2] - self.boxes[:, 0]

    @staticmethod
    def none() -> Detections:
        """Detections without a face."""
        return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))


@dataclass(frozen=True)
class LeftOut:
    """Counts of a frame's faces that options exclude: beyond `max_faces`, and narrower than `min_face_px`."""

    too_many: int = 0
    too_small: int = 0


@dataclass(frozen=True)
class DetectedFrame:
    """A frame with its faces.  starts_shot: a cut precedes the frame."""

    frame: DecodedFrame
    faces: Detections
    starts_shot: bool
    left_out: LeftOut = LeftOut()


@dataclass(frozen=True)
class TrackedFrame:
    """A frame whose faces have track ids (N,).  ended: ids of tracks without a face in this or any later frame."""

    frame: DecodedFrame
    faces: Detections
    track_ids: tuple[int, ...]
    ended: tuple[int, ...]
    left_out: LeftOut = LeftOut()


@dataclass(frozen=True)
class FaceLooks:
    """A face's geometry.  landmarks: (5, 2).  pose: yaw, pitch, roll in degrees.  sharpness: see `crops.sharpness`."""

    landmarks: Floats
    pose: tuple[float, float, float]
    sharpness: float


@dataclass(frozen=True)
class CroppedFace:
    """A face for the ensemble.  crop: (size, size, C) uint8.  bbox: x, y, width, height in pixels of the frame.

    looks: None unless the job asks for landmarks.
    """

    track_id: int
    bbox: tuple[float, float, float, float]
    detection_score: float | None
    crop: Image
    looks: FaceLooks | None = None


@dataclass(frozen=True)
class CroppedFrame:
    """A frame's faces without its picture, whose memory is released.  size: (width, height) of the picture."""

    frame_index: int
    timestamp_s: float
    faces: tuple[CroppedFace, ...]
    ended: tuple[int, ...]
    size: tuple[int, int] | None = None
    left_out: LeftOut = LeftOut()


@dataclass(frozen=True)
class LabelledFrame:
    """A frame's faces with probabilities: fused (F, K) and by member in use (M, F, K), float32."""

    frame: CroppedFrame
    fused: Floats
    members: Floats
