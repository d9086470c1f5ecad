"""Trust: the share of frames in which a face is large, sharp and frontal enough for a reliable label.

At the limits of size and sharpness, about nine and eight of ten downscaled or blurred faces keep their label
(`python -m tests.bench.trust`); the limits of rotation are a convention.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.contract.frames import Face

LEAST_SIZE_PX = 24
LEAST_SHARPNESS = 0.15
MOST_YAW, MOST_PITCH = 40, 30  # degrees


class Trust(BaseModel):
    """Shares of the frames with this face."""

    trusted: float = Field(description="neither too small nor turned nor blurred")
    too_small: float = Field(description=f"`size_px` below {LEAST_SIZE_PX}")
    turned: float = Field(description=f"`yaw` beyond {MOST_YAW} or `pitch` beyond {MOST_PITCH} degrees")
    blurred: float = Field(description=f"`sharpness` below {LEAST_SHARPNESS}")


class TrustTally:
    """Counts frames."""

    def __init__(self) -> None:
        self._frames = self._trusted = self._small = self._turned = self._blurred = 0

    def add(self, face: Face) -> None:
        """Add a frame; frames without landmarks do not count."""
        if face.looks is None:
            return
        yaw, pitch, _ = face.looks.pose
        small = face.size_px < LEAST_SIZE_PX
        turned = abs(yaw) > MOST_YAW or abs(pitch) > MOST_PITCH
        blurred = face.looks.sharpness < LEAST_SHARPNESS
        self._frames += 1
        self._small += small
        self._turned += turned
        self._blurred += blurred
        self._trusted += not (small or turned or blurred)

    def shares(self) -> Trust | None:
        """The shares; None if no frame had landmarks."""
        if not self._frames:
            return None
        trusted, small, turned, blurred = (
            round(count / self._frames, 5) for count in (self._trusted, self._small, self._turned, self._blurred)
        )
        return Trust(trusted=trusted, too_small=small, turned=turned, blurred=blurred)
