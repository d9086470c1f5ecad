"""Decoding in a process of its own: the same frames, and whatever becomes of that process, an error of this input."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.core.records import DecodedFrame
from worker.decode import (
    DecodeLimits,
    DecoderError,
    DecoderHungError,
    DecoderKilledError,
    DecoderLostError,
    InputUnreadableError,
    LimitExceededError,
    Sampling,
    UndecodableInputError,
    isolated,
)
from worker.decode.images import ImagesSource
from worker.decode.isolated import DecodingProcess, IsolatedSource
from worker.decode.messages import Input, Sound
from worker.decode.video import VideoSource

LIMITS = DecodeLimits(max_frames=5000, max_pixels=4_000_000, max_s=60)
MakeClip = Callable[..., Path]


@pytest.fixture(scope="module")
def process() -> Iterator[DecodingProcess]:
    own = DecodingProcess()
    yield own
    own.stop()


def given(path: Path, media: str = "mp4", sampling: Sampling | None = None) -> Input:
    return Input(str(path), media, 25, sampling or Sampling())


def same(a: list[DecodedFrame], b: list[DecodedFrame]) -> bool:
    return len(a) == len(b) and all(
        (x.frame_index, x.timestamp_s) == (y.frame_index, y.timestamp_s)
        and (x.image is None) == (y.image is None)
        and (x.image is None or y.image is None or np.array_equal(x.image, y.image))
        for x, y in zip(a, b, strict=True)
    )


def child_of(source: IsolatedSource) -> int:
    assert source._pid is not None
    return source._pid


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(sample_fps=5, start_s=0.2, end_s=3)])
def test_video_is_the_same(process: DecodingProcess, make_clip: MakeClip, sampling: Sampling) -> None:
    """Indices, times, pictures, claims and counts are those of decoding here."""
    path = make_clip(100, 320)
    here, isolated = (
        VideoSource(path, LIMITS, sampling),
        IsolatedSource(given(path, sampling=sampling), LIMITS, process),
    )
    assert isolated.info == here.info
    assert same(list(isolated.frames()), list(here.frames()))
    assert (isolated.decoded, isolated.warnings) == (here.decoded, here.warnings)


def test_images_are_the_same(process: DecodingProcess, tmp_path: Path) -> None:
    """Images of several sizes with a damaged one among them come out alike, with the same warning."""
    path = tmp_path / "images.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(40):
            picture = rng.integers(0, 256, (20 + 37 * i % 900, 30 + i, 3), np.uint8)
            archive.writestr(f"{i}.png", cv2.imencode(".png", picture)[1].tobytes()[: 40 if i == 7 else None])
    here, isolated = ImagesSource(path, "zip", 25, LIMITS), IsolatedSource(given(path, "zip"), LIMITS, process)
    assert isolated.info == here.info
    assert same(list(isolated.frames()), list(here.frames()))
    assert isolated.warnings == here.warnings != []


def test_errors_come_through(process: DecodingProcess, make_clip: MakeClip, tmp_path: Path) -> None:
    """The owner of an input gets the same message as with in-process decoding."""
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(UndecodableInputError, match="send mp4"):
        IsolatedSource(given(text), LIMITS, process)
    path = make_clip(20)
    with pytest.raises(LimitExceededError, match="more than 9 frames"):
        list(IsolatedSource(given(path), DecodeLimits(9, 10_000), process).frames())
    with pytest.raises(LimitExceededError, match="64 x 64"):
        IsolatedSource(given(path), DecodeLimits(9, 64 * 64 - 1), process)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE])
def test_a_crash_costs_the_input_only(process: DecodingProcess, make_clip: MakeClip, number: int) -> None:
    """A decoder that crashes is an undecodable input; the next input is decoded as if nothing had been."""
    path = make_clip(200)
    source = IsolatedSource(given(path), LIMITS, process)
    frames = source.frames()
    next(frames)
    os.kill(child_of(source), number)
    with pytest.raises(UndecodableInputError, match="damaged"):
        list(frames)
    assert len(list(IsolatedSource(given(make_clip(20)), LIMITS, process).frames())) == 20


def test_a_child_killed_by_the_system_is_a_lack_of_memory(process: DecodingProcess, make_clip: MakeClip) -> None:
    """A kill for lack of memory is distinguished from a crash."""
    source = IsolatedSource(given(make_clip(200)), LIMITS, process)
    frames = source.frames()
    next(frames)
    os.kill(child_of(source), signal.SIGKILL)
    with pytest.raises(DecoderKilledError):
        list(frames)


@pytest.mark.parametrize(("silence_s", "max_s", "again"), [(1, 60, True), (30, 1, False)])
def test_a_hang_ends(
    process: DecodingProcess,
    make_clip: MakeClip,
    monkeypatch: pytest.MonkeyPatch,
    silence_s: float,
    max_s: float,
    again: bool,
) -> None:
    """A silent decoder is ended without an orphan; a retry may succeed unless its time was up."""
    monkeypatch.setattr(isolated, "SILENCE_S", silence_s)
    limits = DecodeLimits(5000, 4_000_000, max_s=max_s)
    source = IsolatedSource(given(make_clip(200)), limits, process)
    child = child_of(source)
    frames = source.frames()
    next(frames)
    os.kill(child, signal.SIGSTOP)
    with pytest.raises(LimitExceededError, match="did not get on for 1 s") as raised:
        list(frames)
    assert isinstance(raised.value, DecoderHungError) == again
    assert not is_alive(child)


def test_decoding_has_its_time(process: DecodingProcess, make_clip: MakeClip) -> None:
    """Seconds spent decoding are limited, here and in a child; those that frames wait to be taken do not count."""
    path = make_clip(600, 320)
    limits = DecodeLimits(5000, 4_000_000, max_s=0.02)
    with pytest.raises(LimitExceededError, match=r"longer than the limit of 0\.02 s"):
        list(VideoSource(path, limits).frames())
    with pytest.raises(LimitExceededError, match=r"0\.02 s"):
        list(IsolatedSource(given(path), limits, process).frames())
    slow = VideoSource(make_clip(3), DecodeLimits(5000, 4_000_000, max_s=0.5))
    for _ in slow.frames():
        time.sleep(0.3)


def test_decoding_has_its_memory(process: DecodingProcess, tmp_path: Path) -> None:
    """An input whose decoder wants more memory than allowed fails; with more memory it does not."""
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.png", cv2.imencode(".png", np.zeros((5600, 5600, 3), np.uint8))[1].tobytes())
    for max_bytes, fits in ((2**26, False), (2**29, True)):
        limits = DecodeLimits(10, 33_000_000, max_bytes=max_bytes)
        if fits:
            assert len(list(IsolatedSource(given(path, "zip"), limits, process).frames())) == 1
        else:
            with pytest.raises(LimitExceededError, match="memory"):
                list(IsolatedSource(given(path, "zip"), limits, process).frames())


def test_the_kernel_confines_the_child(process: DecodingProcess, make_clip: MakeClip) -> None:
    """A compromised decoder writes no file, opens few, leaves no core, and has limited time and memory."""
    source = IsolatedSource(given(make_clip(200)), LIMITS, process)
    frames = source.frames()
    next(frames)
    lines = Path(f"/proc/{child_of(source)}/limits").read_text().splitlines()
    hard = {line[:26].strip(): line[47:68].strip() for line in lines[1:]}
    source.close()
    assert hard["Max file size"] == hard["Max core file size"] == "0"
    assert int(hard["Max open files"]) <= 32
    assert int(hard["Max cpu time"]) <= (LIMITS.max_s + 1) * (os.cpu_count() or 1)
    assert LIMITS.max_bytes <= int(hard["Max address space"]) < 2 * LIMITS.max_bytes


def test_closing_ends_the_child(process: DecodingProcess, make_clip: MakeClip) -> None:
    """A cancelled job's decoder is gone at once, also while another thread waits for its frames."""
    source = IsolatedSource(given(make_clip(200)), LIMITS, process)
    child = child_of(source)
    ended: list[BaseException] = []

    def read() -> None:
        try:
            list(source.frames())
        except (UndecodableInputError, OSError) as error:
            ended.append(error)

    os.kill(child, signal.SIGSTOP)
    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.1)
    source.close()
    source.close()
    thread.join(5)
    assert not thread.is_alive()
    assert not is_alive(child)


def test_the_decoding_process_comes_back(process: DecodingProcess, make_clip: MakeClip) -> None:
    """Killed, it takes its children with it and is started again for the next input."""
    source = IsolatedSource(given(make_clip(200)), LIMITS, process)
    child, old = child_of(source), process.pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    with pytest.raises(DecoderLostError):
        list(source.frames())
    assert len(list(IsolatedSource(given(make_clip(20)), LIMITS, process).frames())) == 20
    assert process.pid != old
    assert not is_alive(child)


def test_forks_from_a_process_with_one_thread(make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork copies one thread, no password, and few open files."""
    monkeypatch.setenv("MIEN_REDIS_URL", "redis://:password@127.0.0.1")
    process = DecodingProcess()
    list(IsolatedSource(given(make_clip(20)), LIMITS, process).frames())
    proc = Path(f"/proc/{process.pid}")
    assert len(list((proc / "task").iterdir())) == 1
    names = {line.partition(b"=")[0] for line in (proc / "environ").read_bytes().split(b"\0")}
    assert not {name for name in names if name.startswith(b"MIEN_") and name != b"MIEN_MAX_PIXELS"}
    assert len(list((proc / "fd").iterdir())) < 8
    process.stop()


def test_a_child_s_threads_are_ffmpeg_s(make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV starts none of its own, which would take the cores from those that decode."""
    monkeypatch.setenv("DECODING_THREADS", "1")
    process = DecodingProcess()
    source = IsolatedSource(given(make_clip(40, 640)), LIMITS, process)
    frames = source.frames()
    for _ in range(5):
        next(frames)
    assert len(list(Path(f"/proc/{child_of(source)}/task").iterdir())) == 1
    source.close()
    process.stop()


def test_nothing_is_left(process: DecodingProcess, make_clip: MakeClip) -> None:
    """Descriptors and children do not pile up over jobs, read to the end or not."""
    path = make_clip(20)

    def use() -> None:
        list(IsolatedSource(given(path), LIMITS, process).frames())
        next(IsolatedSource(given(path), LIMITS, process).frames())
        IsolatedSource(given(path), LIMITS, process).close()

    use()
    gc.collect()  # what other tests have left
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        use()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children == []


class Puppet(DecodingProcess):
    """Instead of a decoder, lines of the test's."""

    def __init__(self, *lines: bytes, then_silent: bool = False) -> None:
        super().__init__()
        self._lines = lines
        self._then_silent = then_silent
        self._held: list[socket.socket] = []

    def fork(self, given: Input | Sound, limits: DecodeLimits, descriptors: Sequence[int]) -> int:
        child = socket.socket(fileno=os.dup(descriptors[0]))
        child.sendall(b"\n".join(self._lines) + b"\n")
        if self._then_silent:
            self._held.append(child)
        else:
            child.close()
        return 1

    def end(self, pid: int) -> int:
        for child in self._held:
            child.close()
        return 0


OPENED = b'["opened", 64, 48, 25.0, 100, 4.0]'


def test_the_count_grows_between_frames(tmp_path: Path) -> None:
    """While frames are skipped, `decoded` still shows progress to the watchdog."""
    beats = [b'["beat", 50]', b'["frame", 70, 2.8, null, 0, 0, null]', b'["beat", 90]', b'["done", 100, ["odd"]]']
    source = IsolatedSource(given(tmp_path), LIMITS, Puppet(b'["beat", 0]', OPENED, *beats))
    frames = source.frames()
    assert next(frames).frame_index == 70
    assert source.decoded == 71
    assert list(frames) == []
    assert (source.decoded, source.warnings) == (100, ["odd"])


@pytest.mark.parametrize("lines", [[OPENED, b'["beat", 1]'], [b'["beat", 0]']], ids=["between frames", "opening"])
def test_a_beat_may_end_it(tmp_path: Path, lines: list[bytes]) -> None:
    """A consumer can end the decoder at a heartbeat."""

    def beat() -> None:
        raise KeyError("enough")

    puppet = Puppet(*lines, then_silent=True)
    with pytest.raises(KeyError, match="enough"):
        list(IsolatedSource(given(tmp_path), LIMITS, puppet, beat).frames())
    assert [held.fileno() for held in puppet._held] == [-1]


def test_a_file_that_cannot_be_read_is_not_undecodable(process: DecodingProcess, tmp_path: Path) -> None:
    """An error of the file system is not the input's; another try may do better."""
    path = tmp_path / "input"
    path.symlink_to(path)
    with pytest.raises(InputUnreadableError):
        IsolatedSource(given(path, "zip"), LIMITS, process)


def test_an_input_that_is_opened_for_ever(tmp_path: Path) -> None:
    """A decoder that is still at it but finds no picture is ended in time."""
    limits = DecodeLimits(10, 10_000, max_s=0.2)
    puppet = Puppet(b'["beat", 0]', then_silent=True)
    with pytest.raises(LimitExceededError, match=r"did not get on for 0\.2 s"):
        IsolatedSource(given(tmp_path), limits, puppet)
    late = DecodeLimits(10, 10_000, max_s=1e-9)
    with pytest.raises(LimitExceededError, match="no picture"):
        IsolatedSource(given(tmp_path), late, Puppet(*[b'["beat", 0]'] * 3))


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b"7",
        b'{"a": 1}',
        b'["frame", 0]',
        b'["frame", 0, 0.0, 0, 10000000, 10000000, null]',
        b'["frame", 0, 0.0, -5, 4, 4, null]',
        b'["frame", 0, 0.0, 999999999999, 4, 4, null]',
        b'["frame", "x", 0.0, null, 0, 0, null]',
        b'["frame", 0, 0.0, 0, 0, 0, null]',
        b'["frame", 0, 0.0, 0, 4, 4, [77, false, 0]]',
        b'["frame", 0, 0.0, 0, 4, 4, [1, false, 99]]',
        b'["frame", 0, 0.0, 0, 4, 4, [1]]',
        b'["done", 1e999, []]',
        b'["done", 0, 5]',
        b'["shutdown", "now"]',
        b'["error", {"a": []}]',
        b"[" * 50_000,
        b"[" + b" " * 150_000,
    ],
    ids=range(19),
)
def test_what_a_decoder_says_is_not_trusted(tmp_path: Path, line: bytes) -> None:
    """Words that make no sense, and frames that cannot be, fail the input and nothing else."""
    with pytest.raises((DecoderError, LimitExceededError)):
        list(IsolatedSource(given(tmp_path), LIMITS, Puppet(OPENED, line)).frames())
