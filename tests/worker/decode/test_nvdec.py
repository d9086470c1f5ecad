"""What the worker makes of torchcodec's answers.

torchcodec's wheel loads beside a CUDA build of PyTorch only, so here its documented interface is played by PyAV; the
test marked `gpu` asks the real one.
"""

from __future__ import annotations

import io
import sys
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

from worker.core.devices import DeviceLostError, OutOfDeviceMemoryError
from worker.decode import DecodeLimits, LimitExceededError, Sampling, UndecodableInputError, nvdec
from worker.decode.nvdec import DecoderMissingError, NvdecSource
from worker.inference.serving import DeviceError, load
from worker.settings import WorkerSettings

LIMITS = DecodeLimits(1000, 100_000, 60.0, 2**30)


class Player:
    """`torchcodec.decoders.VideoDecoder` as far as it is used.  broken: indices that cannot be decoded."""

    broken: frozenset[int] = frozenset()
    shift = 0  # added to every pixel
    cpu_fallback = False

    def __init__(self, source: Any, *, dimension_order: str, device: str, seek_mode: str) -> None:
        assert (dimension_order, seek_mode) == ("NHWC", "exact")
        try:
            with av.open(source if isinstance(source, io.BytesIO) else str(source), "r") as container:
                frames = list(container.decode(video=0))
        except av.FFmpegError as error:
            raise ValueError(str(error)) from None
        self._pictures = [torch.from_numpy(frame.to_ndarray(format="rgb24") + self.shift) for frame in frames]
        self._times = [float((frame.pts or 0) * (frame.time_base or 0)) for frame in frames]
        height, width = self._pictures[0].shape[:2]
        self.metadata = SimpleNamespace(
            width=width, height=height, average_fps=10.0, num_frames=len(frames), duration_seconds=len(frames) / 10
        )

    def __len__(self) -> int:
        return len(self._pictures)

    def get_frames_in_range(self, start: int, stop: int) -> Any:
        if self.broken & set(range(start, stop)):
            raise RuntimeError("damaged")
        times = torch.tensor(self._times[start:stop], dtype=torch.float64)
        return SimpleNamespace(data=torch.stack(self._pictures[start:stop]), pts_seconds=times)

    def get_frame_at(self, index: int) -> Any:
        if index in self.broken:
            raise RuntimeError("damaged")
        return SimpleNamespace(data=self._pictures[index], pts_seconds=self._times[index])


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> type[Player]:
    """torchcodec as this environment can have it."""
    played = type("Played", (Player,), {})
    module = ModuleType("torchcodec.decoders")
    module.VideoDecoder = played  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)
    return played


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """40 frames of 64x48, frame i grey 5 * i; the first at 2 s, then 0.1 s apart, 0.2 s from frame 20 on."""
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 2000 + round(1000 * time_of(index)), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def time_of(index: int) -> float:
    return 0.1 * index + 0.1 * max(index - 19, 0)


def test_every_frame_at_its_own_time(player: type[Player], clip: Path) -> None:
    """Pictures, indices and the container's times from 0 on, at a varying rate and across blocks."""
    source = NvdecSource(clip, LIMITS, Sampling(), "cpu")
    frames = list(source.frames())
    assert [frame.frame_index for frame in frames] == list(range(40))
    assert [frame.timestamp_s for frame in frames] == pytest.approx([time_of(i) for i in range(40)], abs=1e-6)
    assert all(frame.image is not None and frame.image.shape == (48, 64, 3) for frame in frames)
    assert [int(frame.image[0, 0, 0]) for frame in frames if frame.image is not None] == [5 * i for i in range(40)]
    assert (source.decoded, source.warnings, source.info.frame_count) == (40, [], 40)


def test_a_part_of_it(player: type[Player], clip: Path) -> None:
    """Sampling, start and end choose the frames that OpenCV's source chooses."""
    source = NvdecSource(clip, LIMITS, Sampling(sample_fps=5, start_s=1.0, end_s=3.0), "cpu")
    assert [frame.frame_index for frame in source.frames()] == [10, 12, 14, 16, 18, 20, 21, 22, 23, 24]


def test_a_damaged_frame_is_a_frame_without_picture(player: type[Player], clip: Path) -> None:
    """Those around it are whole; a warning counts it; its time lies between theirs."""
    player.broken = frozenset({5})
    source = NvdecSource(clip, LIMITS, Sampling(), "cpu")
    frames = list(source.frames())
    assert [frame.frame_index for frame in frames if frame.image is None] == [5]
    assert frames[4].timestamp_s < frames[5].timestamp_s <= frames[6].timestamp_s
    assert source.warnings == ["1 frames could not be decoded and have no faces"]


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfDeviceMemoryError),
        (RuntimeError("cuvid: CUDA_ERROR_OUT_OF_MEMORY, out of memory"), OutOfDeviceMemoryError),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), DeviceLostError),
    ],
)
@pytest.mark.parametrize("alone", [False, True], ids=["block", "frame"])
def test_what_the_device_does_not_do_is_no_damage_of_the_input(
    player: type[Player], clip: Path, error: RuntimeError, becomes: type[Exception], alone: bool
) -> None:
    """The job does not succeed with frames that look damaged."""

    def fails(*_: Any) -> Any:
        raise error

    player.broken = frozenset({3}) if alone else frozenset()
    setattr(player, "get_frame_at" if alone else "get_frames_in_range", fails)
    with pytest.raises(becomes):
        list(NvdecSource(clip, LIMITS, Sampling(), "cpu").frames())


def test_a_damaged_start_moves_nothing(player: type[Player], clip: Path) -> None:
    """Time begins at the first frame, also where that cannot be read."""
    player.broken = frozenset({0, 1})
    source = NvdecSource(clip, LIMITS, Sampling(), "cpu")
    times = [frame.timestamp_s for frame in source.frames()]
    assert times == pytest.approx([time_of(i) for i in range(40)], abs=1e-6)


def test_nothing_readable_is_no_success(player: type[Player], clip: Path) -> None:
    """As from the other decoder."""
    player.broken = frozenset(range(40))
    with pytest.raises(UndecodableInputError):
        list(NvdecSource(clip, LIMITS, Sampling(), "cpu").frames())


def test_limits_and_errors(player: type[Player], clip: Path, tmp_path: Path) -> None:
    """Too many frames, too many pixels and what is no video end as they do elsewhere."""
    with pytest.raises(LimitExceededError, match="more than 30 frames"):
        list(NvdecSource(clip, DecodeLimits(30, 100_000, 60.0, 2**30), Sampling(), "cpu").frames())
    with pytest.raises(LimitExceededError, match="pixels"):
        NvdecSource(clip, DecodeLimits(1000, 3071, 60.0, 2**30), Sampling(), "cpu")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    with pytest.raises(UndecodableInputError):
        NvdecSource(broken, LIMITS, Sampling(), "cpu")


@pytest.mark.parametrize(
    ("head", "read"),
    [
        (b"\0\0\0\x18ftypisom", True),
        (b"\x1a\x45\xdf\xa3\x01\0\0\0", True),
        (b"#EXTM3U\n/etc/passwd", False),
        (b"ffconcat version 1.0", False),
        (b"RIFF\0\0\0\0AVI LIST", False),
        (b"", False),
    ],
)
def test_containers_that_can_point_elsewhere_are_not_read(tmp_path: Path, head: bytes, read: bool) -> None:
    """Only MP4 and Matroska are left to it."""
    path = tmp_path / "input"
    path.write_bytes(head)
    assert nvdec.reads(path) is read


def test_check_accepts_what_decodes_rightly(player: type[Player]) -> None:
    """The test clip comes back as it was made."""
    nvdec.check("cpu")


def test_check_refuses_what_does_not(player: type[Player]) -> None:
    """Wrong pictures, a fall back to the CPU, frames that do not decode, or no torchcodec at all: a clear sentence."""
    player.shift = 20
    with pytest.raises(DecoderMissingError, match="other pictures or times"):
        nvdec.check("cpu")
    player.shift, player.cpu_fallback = 0, True
    with pytest.raises(DecoderMissingError, match="on the CPU"):
        nvdec.check("cuda:0")
    player.broken = frozenset({1})
    with pytest.raises(DecoderMissingError, match="damaged"):
        nvdec.check("cpu")


def test_asked_for_and_missing_is_an_error() -> None:
    """A worker that is to decode with torchcodec and cannot does not start."""
    with pytest.raises(DeviceError, match=r"MIEN_DECODER=torchcodec, but torchcodec does not decode on cpu"):
        load(WorkerSettings(decoder="torchcodec", device="cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(find_spec("torchcodec") is None, reason="torchcodec is not installed")
def test_the_real_one_on_a_gpu(clip: Path) -> None:
    """torchcodec itself passes the check."""
    nvdec.check("cuda:0")
