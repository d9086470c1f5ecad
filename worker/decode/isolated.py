"""Isolated decoding: an input that crashes or hangs its decoder, or exhausts its memory, fails alone.

`IsolatedSource` yields the same frames as `VideoSource` and `ImagesSource`; `add_sound` runs `sound.add_sound`.  Each
worker has one decoding process that forks a child for each, see `child`.  Messages of a child are validated like
untrusted input.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from worker.core.picture import Colours, Picture, sample_count
from worker.core.records import DecodedFrame, VideoInfo
from worker.decode import (
    THREADS_VARIABLE,
    DecodeLimits,
    DecoderError,
    DecoderHungError,
    DecoderKilledError,
    DecodingProcessLostError,
    InputUnreadableError,
    LimitExceededError,
    UndecodableInputError,
)
from worker.decode.messages import MESSAGE_BYTES, Input, Sound
from worker.decode.ring import copy_samples, make_memory

SILENCE_S = 30.0  # timeout without a message; a decoder without one hangs
OPEN_S = 60.0  # timeout of the first picture; shorter than the worker's watchdog
CONTROL_S = 60.0  # timeout of the decoding process, which normally responds at once
MAX_WARNINGS = 10
MAX_TEXT = 500  # characters of a decoder's text
# Allow-list of environment variables for the decoding process, so that it gets no passwords.
ENVIRONMENT = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "HOME",
    "MIEN_MAX_PIXELS",
    THREADS_VARIABLE,
)


class DecodingProcess:
    """The process that forks decoders; started by `start` or the first input, and restarted if it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it unless it runs; cheapest before the caller loads other libraries."""
        with self._lock:
            self._start()

    def stop(self) -> None:
        """End it and its decoders."""
        with self._lock:
            self._stop()

    @property
    def pid(self) -> int | None:
        """Its process id, None if it does not run."""
        return None if self._process is None else self._process.pid

    def fork(self, given: Input | Sound, limits: DecodeLimits, descriptors: Sequence[int]) -> int:
        """Fork a child that does what is given; returns its process id."""
        request = {given.name: given.to_json(), "limits": asdict(limits)}
        return int(self._ask(request, descriptors)["pid"])

    def end(self, pid: int) -> int:
        """Kill a child; returns the signal that ended it, 0 if it had exited."""
        return int(self._ask({"end": pid}, ())["signal"])

    def forget(self, pid: int) -> None:
        """End a child after its last message, without waiting for it to release its memory."""
        with self._lock, suppress(OSError):  # if the process died, its children have ended, too
            if self._control is not None:
                self._control.send(json.dumps({"forget": pid}).encode())

    def _ask(self, request: dict[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
        with self._lock:
            control = self._start()
            try:
                socket.send_fds(control, [json.dumps(request).encode()], descriptors)
                answer = control.recv(MESSAGE_BYTES)
                if answer:
                    found: dict[str, Any] = json.loads(answer)
                    return found
            except OSError:
                pass  # it died or hangs
            self._stop()
            raise DecodingProcessLostError("the decoding process has ended")

    def _start(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(CONTROL_S)
        seen = {name: value for name, value in os.environ.items() if name in ENVIRONMENT or name.startswith("OPENCV_")}
        # A single thread, since threads that libraries start at import do not survive a fork.
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 (our own command)
                [sys.executable, "-m", "worker.decode.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**seen, **quiet},
                pass_fds=[theirs.fileno()],
            )
        self._control = ours
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


PROCESS = DecodingProcess()  # shared by all jobs of this process
atexit.register(PROCESS.stop)


class _Child:
    """A child of the decoding process, and its messages.

    Raises: UndecodableInputError, LimitExceededError; MemoryError if the system killed it; DecoderError.
    After those that are also a DecoderLostError, a retry may succeed.
    """

    def __init__(
        self,
        given: Input | Sound,
        limits: DecodeLimits,
        process: DecodingProcess,
        beat: Callable[[], None],
        descriptors: Sequence[int] = (),
    ) -> None:
        """beat: called about every second without a frame; its exceptions end the decoding."""
        self._limits = limits
        self._beat = beat
        self._process = process
        self._silence_s = min(SILENCE_S, limits.max_s)
        self._lines: deque[bytes] = deque()
        self._unread = b""
        self._closing = threading.Lock()
        self.decoded = 0
        self._child, theirs = socket.socketpair()
        try:
            self._child.settimeout(self._silence_s)
            self._pid: int | None = process.fork(given, limits, [theirs.fileno(), *descriptors])
        except BaseException:
            self._child.close()
            raise
        finally:
            theirs.close()

    def close(self) -> None:
        """End the decoder; idempotent, also while another thread waits for a frame."""
        with self._closing:
            pid, self._pid = self._pid, None
            if pid is not None:
                with suppress(DecoderError):  # if the process died, the child has ended, too
                    self._end(pid)

    def _leave(self) -> None:
        with self._closing:
            pid, self._pid = self._pid, None
            if pid is not None:
                self._child.close()
                self._process.forget(pid)

    def _end(self, pid: int) -> int:
        with suppress(OSError):
            self._child.shutdown(socket.SHUT_RDWR)  # wakes a waiting thread
        try:
            return self._process.end(pid)
        finally:
            self._child.close()

    def _next(self) -> list[Any]:
        """The child's next message: `opened`, `frame`, `beat` or `done`.  Raises the error of any other message."""
        while not self._lines:
            self._receive()
        with _sense():
            kind, *said = json.loads(self._lines.popleft())
            text = str(said[0])[:MAX_TEXT]
            if kind == "beat":
                self.decoded = int(said[0])
        if kind == "beat":
            self._beat()
        match kind:
            case "opened" | "frame" | "beat" | "done":
                return [kind, *said]
            case "undecodable":
                raise UndecodableInputError(text)
            case "unreadable":
                raise InputUnreadableError(f"the input could not be read: {text}")
            case "limit" | "memory":
                raise LimitExceededError(text)
            case _:
                raise DecoderError(text)

    def _receive(self) -> None:
        try:
            received = self._child.recv(MESSAGE_BYTES)
        except TimeoutError:
            why = f"decoding did not get on for {self._silence_s:g} s"
            if self._silence_s < self._limits.max_s:
                raise DecoderHungError(why) from None
            raise LimitExceededError(why) from None
        except ConnectionResetError:  # it ended without reading all acknowledgements
            received = b""
        if not received:
            raise self._crash()
        *lines, self._unread = (self._unread + received).split(b"\n")
        self._lines.extend(lines)
        if len(self._unread) > MESSAGE_BYTES:
            raise DecoderError("a message of the decoder is too long")

    def _crash(self) -> Exception:
        """The error for a child that ended without a final message."""
        with self._closing:
            pid, self._pid = self._pid, None
            ended_by = 0 if pid is None else self._end(pid)
        if ended_by == signal.SIGXCPU:
            return LimitExceededError(f"decoding took longer than the limit of {self._limits.max_s:g} s")
        if ended_by == signal.SIGKILL:
            return DecoderKilledError("the decoder was ended by the system")
        return UndecodableInputError("the input is damaged in a way that ends its decoder")


class IsolatedSource(_Child):
    """One input, decoded in a child process.  Iterating `frames` decodes it once; `info` is available at once.

    `decoded` grows during the iteration; after it, `decoded` and `warnings` equal those of the plain sources.
    """

    def __init__(
        self,
        given: Input,
        limits: DecodeLimits,
        process: DecodingProcess = PROCESS,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.warnings: list[str] = []
        descriptor, self._memory = make_memory(limits.max_pixels)
        try:
            super().__init__(given, limits, process, beat, [descriptor])
        finally:
            os.close(descriptor)
        try:
            self.info = self._opened()
        except BaseException:
            self.close()
            raise

    def frames(self) -> Iterator[DecodedFrame]:
        """Sampled frames in order."""
        try:
            while (message := self._next())[0] != "done":
                if message[0] == "frame":
                    with _sense():
                        frame = self._frame(message)
                    yield frame
            with _sense():
                self.decoded = int(message[1])
                self.warnings = [str(text)[:MAX_TEXT] for text in message[2][:MAX_WARNINGS]]
            self._leave()
        finally:
            self.close()

    def _opened(self) -> VideoInfo:
        deadline = time.monotonic() + min(OPEN_S, self._limits.max_s)
        while (message := self._next())[0] != "opened":
            if time.monotonic() > deadline:
                raise LimitExceededError("no picture was found in the input in time")
        with _sense():
            _, width, height, fps, frame_count, duration_s = message
            return VideoInfo(
                int(width),
                int(height),
                None if fps is None else float(fps),
                None if frame_count is None else int(frame_count),
                None if duration_s is None else float(duration_s),
            )

    def _frame(self, message: list[Any]) -> DecodedFrame:
        _, index, timestamp_s, offset, height, width, means = message
        picture: Picture | None = None
        if offset is not None:
            self._limits.check_pixels(int(width), int(height))
            colours = None if means is None else Colours(int(means[0]), bool(means[1]), int(means[2]))
            size = sample_count(int(height), int(width), rgb=colours is None)
            samples = copy_samples(self._memory, int(offset), size)
            picture = Picture.in_samples(samples, int(height), int(width), colours)
            with suppress(BrokenPipeError, ConnectionResetError):  # it ended; its last messages can still be read
                self._child.send(b"\0")
        self.decoded = int(index) + 1
        return DecodedFrame(int(index), float(timestamp_s), picture)


def add_sound(
    given: Sound, limits: DecodeLimits, beat: Callable[[], None] = lambda: None, process: DecodingProcess = PROCESS
) -> bool:
    """As `sound.add_sound`, in a child process.  beat, and errors: as of `_Child`."""
    child = _Child(given, limits, process, beat)
    try:
        while (message := child._next())[0] != "done":
            pass
        with _sense():
            return bool(message[1])
    finally:
        child.close()


@contextmanager
def _sense() -> Iterator[None]:
    """A malformed message from the decoder raises DecoderError."""
    try:
        yield
    except (ValueError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise DecoderError(f"the decoder sent a malformed message: {type(error).__name__}") from None
