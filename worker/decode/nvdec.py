"""Videos through torchcodec on the GPU's own decoder: an option for operators who trust what they label.

It decodes in the worker's process, with the FFmpeg libraries of the system and without the limits that `isolated` has
the kernel hold, so `MIEN_DECODER` has to ask for it.  Only containers that cannot point at other files are read.
torchcodec is young and its parts have to fit each other, so `check` decodes a clip of its own before any job does.

Source: torchcodec's documentation of `VideoDecoder` (0.17); it applies rotation and counts frames exactly by itself.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from worker.core.devices import DeviceLostError, OutOfDeviceMemoryError, first_line, is_lost, on_device
from worker.core.records import DecodedFrame, Image, VideoInfo
from worker.decode import DecodeClock, DecodeLimits, Sampler, Sampling, UndecodableInputError
from worker.decode.video import DEFAULT_FPS, NO_VIDEO

BLOCK_BYTES = 64 * 2**20  # frames that are fetched from the GPU at once
BLOCK_FRAMES = 16
UNREADABLE = "{} frames could not be decoded and have no faces"

# The clip that `check` decodes: frame i has this grey, at this time.
CHECK_SIZE = 256
CHECK_GREYS = tuple(range(40, 220, 20))
CHECK_TIMES_S = tuple(i / 30 + (0.02 if i > 4 else 0.0) for i in range(len(CHECK_GREYS)))  # a varying rate
CHECK_TOLERANCE = 6  # of 255: hardware rounds its own way


class DecoderMissingError(Exception):
    """torchcodec cannot decode on this device; the message says why, for the operator."""


class NvdecSource:
    """One video.  Iterating `frames` decodes it once; `info` is known from the start.

    After iterating: `decoded` is the number of source frames up to where reading stopped, `warnings` what was odd.
    Raises: UndecodableInputError if it cannot be opened or has no frame, LimitExceededError once a limit is passed.
    """

    def __init__(self, path: Path, limits: DecodeLimits, sampling: Sampling, device: str) -> None:
        self._limits = limits
        self._sampling = sampling
        self._clock = DecodeClock(limits.max_s)
        self._device = torch.device(device)
        self._decoder = _open(path, device)
        about = self._decoder.metadata
        limits.check_pixels(about.width or 0, about.height or 0)
        self.info = VideoInfo(
            about.width or 0, about.height or 0, about.average_fps, about.num_frames, about.duration_seconds
        )
        self.decoded = 0
        self.warnings: list[str] = []

    def frames(self) -> Iterator[DecodedFrame]:
        """Sampled frames in order; skipped ones are decoded but not fetched from the GPU."""
        sampler = Sampler(self._sampling)
        zero_s: float | None = None  # the container's time of our 0
        step_s = 1 / (self.info.fps or DEFAULT_FPS)
        previous_s = -step_s
        unreadable = 0
        for index, (pts_s, picture) in enumerate(self._all()):
            self._clock.tick()
            self._limits.check_frames(index + 1)
            if pts_s is None:
                timestamp_s = previous_s + step_s
            else:
                zero_s = pts_s - previous_s - step_s if zero_s is None else zero_s
                timestamp_s = pts_s - zero_s
            previous_s = timestamp_s
            if sampler.past_end(timestamp_s):
                break
            self.decoded = index + 1
            unreadable += picture is None
            if sampler.wants(timestamp_s):
                yield DecodedFrame(index, timestamp_s, None if picture is None else picture.cpu().numpy())
                self._clock.resume()
        if unreadable >= self.decoded:
            raise UndecodableInputError("the input has no video frame that can be decoded")
        if unreadable:
            self.warnings.append(UNREADABLE.format(unreadable))

    def close(self) -> None:
        """Release the decoder; safe to call twice."""
        self._decoder = None

    def _all(self) -> Iterator[tuple[float | None, Any]]:
        """Every frame's time in seconds and its picture (H, W, 3) uint8 on the GPU, None for what is unreadable."""
        decoder = self._decoder
        count = len(decoder)
        block = max(1, min(BLOCK_FRAMES, BLOCK_BYTES // max(self.info.width * self.info.height * 3, 1)))
        for start in range(0, count, block):
            stop = min(start + block, count)
            try:
                with on_device(self._device):
                    batch = decoder.get_frames_in_range(start, stop)
            except RuntimeError as error:  # one frame of the block is damaged: those around it are not
                self._check(error)
                yield from (self._one(decoder, index) for index in range(start, stop))
            else:
                yield from zip(batch.pts_seconds.tolist(), batch.data, strict=True)

    def _one(self, decoder: Any, index: int) -> tuple[float | None, Any]:
        try:
            with on_device(self._device):
                frame = decoder.get_frame_at(index)
        except RuntimeError as error:
            self._check(error)
            return None, None
        return float(frame.pts_seconds), frame.data

    def _check(self, error: RuntimeError) -> None:
        """Raises: what is wrong with the device, where it is not the input."""
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower():
            raise OutOfDeviceMemoryError("the device has no memory to decode; free some of it") from None
        if is_lost(error, self._device):
            raise DeviceLostError(f"{self._device} does not decode any more: {first_line(error)}") from error


def reads(path: Path) -> bool:
    """Whether the file is of a kind that is left to torchcodec: MP4 or MOV, Matroska or WebM, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(8)
    return head[4:8] == b"ftyp" or head.startswith(b"\x1a\x45\xdf\xa3")


def check(device: str) -> None:
    """Decode a small clip of our own.  Raises: DecoderMissingError if anything about that is not as it should be."""
    try:
        decoder = _decoder(io.BytesIO(_clip()), device)
        if len(decoder) != len(CHECK_GREYS):
            raise DecoderMissingError(f"torchcodec sees {len(decoder)} of {len(CHECK_GREYS)} frames of a test clip")
        batch = decoder.get_frames_in_range(0, len(CHECK_GREYS))
        fallback = bool(getattr(decoder, "cpu_fallback", False))
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise DecoderMissingError(f"torchcodec does not decode on {device}: {_first_line(error)}") from None
    if fallback and device != "cpu":
        raise DecoderMissingError(f"torchcodec decodes on the CPU, not on {device}")
    found = batch.data.float().mean(dim=(1, 2, 3)).cpu().numpy()
    times = np.asarray(batch.pts_seconds.cpu()) - float(batch.pts_seconds[0])
    if np.abs(found - CHECK_GREYS).max() > CHECK_TOLERANCE or np.abs(times - CHECK_TIMES_S).max() > 2e-3:
        raise DecoderMissingError("torchcodec decodes a test clip to other pictures or times than were put into it")


def _open(path: Path, device: str) -> Any:
    try:
        return _decoder(path, device)
    except (RuntimeError, ValueError):
        raise UndecodableInputError(NO_VIDEO) from None


def _decoder(source: Path | io.BytesIO, device: str) -> Any:
    # Not in our environment, and not importable beside a CPU build of PyTorch, so neither is it in our type checks.
    decoders = import_module("torchcodec.decoders")
    return decoders.VideoDecoder(source, dimension_order="NHWC", device=device, seek_mode="exact")


def _clip() -> bytes:
    """An H.264 mp4 with a varying frame rate, see `CHECK_GREYS` and `CHECK_TIMES_S`."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "10"})
        stream.width = stream.height = CHECK_SIZE
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for grey, time_s in zip(CHECK_GREYS, CHECK_TIMES_S, strict=True):
            picture: Image = np.full((CHECK_SIZE, CHECK_SIZE, 3), grey, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
