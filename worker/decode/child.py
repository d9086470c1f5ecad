"""The decoding process (`python -m worker.decode.child DESCRIPTOR`): forks a child for every input.

It imports the decoders (PyAV, OpenCV, Pillow) but not torch, starts no thread and never initialises CUDA, so forking it
is cheap and safe.  A child reads one input under kernel limits and exits: an input that crashes it affects neither the
worker nor the next input.  Messages are JSON, never pickle, since a decoder's output is not trusted.

Requests over the descriptor, a socket: {"input": ..., "limits": ...} with two descriptors, the child's socket and the
memory for frames -> {"pid": N}; {"sound": ..., "limits": ...} with the child's socket alone, likewise; {"end": PID} ->
{"signal": N}, the signal that ended the child, 0 for none; {"forget": PID} likewise, without a response.  The process
exits, with all children, when that socket closes.

Messages of a child, one JSON list a line: ["opened", width, height, fps, frame_count, duration_s], then for every frame
["frame", index, timestamp_s, offset, height, width, colours] (offset null: no picture; colours null: RGB, else the
fields of `Colours`), the heartbeat ["beat", decoded], and finally ["done", decoded, warnings], or for sound ["done",
whether there is any], or ["undecodable" | "unreadable" | "limit" | "memory" | "error", message].
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

import cv2

from worker.decode import DecodeClock, DecodeLimits, LimitExceededError, UndecodableInputError
from worker.decode.images import ImagesSource
from worker.decode.messages import ARCHIVES, MESSAGE_BYTES, Input, Sound
from worker.decode.ring import RingWriter
from worker.decode.sound import add_sound
from worker.decode.video import VideoSource

OPEN_FILES = 32
PR_SET_PDEATHSIG = 1

Say = Callable[..., None]  # sends one message


def main() -> None:
    """Serve until the socket closes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # handled by the parent, which closes the socket
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)  # its threads would spin on the cores of FFmpeg's threads
    control = socket.socket(fileno=int(sys.argv[1]))
    children: set[int] = set()
    try:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 2)
            if not message:
                break
            request = json.loads(message)
            if "forget" in request:
                _end(request["forget"], children)
                continue
            if "end" in request:
                answer = {"signal": _end(request["end"], children)}
            else:
                answer = {"pid": _fork(request, descriptors, control)}
                children.add(answer["pid"])
            control.send(json.dumps(answer).encode())
    finally:
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _fork(request: dict[str, Any], descriptors: list[int], control: socket.socket) -> int:
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
        return pid
    try:
        control.close()
        limits, parent = DecodeLimits(**request["limits"]), socket.socket(fileno=descriptors[0])
        if Sound.name in request:
            _add_sound(Sound.from_json(request[Sound.name]), limits, _speaker(parent))
        else:
            given = Input.from_json(request[Input.name])
            _decode(given, limits, parent, mmap.mmap(descriptors[1], 0), _speaker(parent))
    finally:
        os._exit(0)


def _end(pid: int, children: set[int]) -> int:
    if pid not in children:  # it belonged to a previous decoding process and ended with it
        return signal.SIGKILL
    children.remove(pid)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _speaker(parent: socket.socket) -> Say:
    def say(*message: object) -> None:
        parent.sendall(json.dumps(message).encode() + b"\n")

    return say


def _decode(given: Input, limits: DecodeLimits, parent: socket.socket, memory: mmap.mmap, say: Say) -> None:
    source: VideoSource | ImagesSource | None = None
    clock = DecodeClock(limits.max_s, lambda: say("beat", 0 if source is None else source.decoded))
    ring = RingWriter(memory, parent, clock.tick, clock.resume)
    _confine(limits)
    with _errors_said(say):
        path = Path(given.path)
        if given.media in ARCHIVES:
            source = ImagesSource(path, given.media, given.fps, limits, given.sampling, clock, ring.room)
        else:
            source = VideoSource(path, limits, given.sampling, clock, ring.room)
        info = source.info
        say("opened", info.width, info.height, info.fps, info.frame_count, info.duration_s)
        for frame in source.frames():
            picture = frame.picture
            if picture is None:
                say("frame", frame.frame_index, frame.timestamp_s, None, 0, 0, None)
            else:
                height, width, _ = picture.shape
                colours = None if picture.colours is None else astuple(picture.colours)
                say("frame", frame.frame_index, frame.timestamp_s, ring.offset(picture.first), height, width, colours)
        say("done", source.decoded, source.warnings)


def _add_sound(given: Sound, limits: DecodeLimits, say: Say) -> None:
    clock = DecodeClock(limits.max_s, lambda: say("beat", 0))
    _confine(limits, given.made_bytes)
    with _errors_said(say):
        say("done", add_sound(given, clock.tick))


@contextmanager
def _errors_said(say: Say) -> Iterator[None]:
    try:
        yield
    except UndecodableInputError as error:
        say("undecodable", str(error))
    except LimitExceededError as error:
        say("limit", str(error))
    except MemoryError:
        say("memory", "decoding needs more memory than the limit of this service")
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent closed the socket
    except OSError as error:
        say("unreadable", error.strerror or type(error).__name__)
    except cv2.error as error:
        out_of_memory = error.code == cv2.Error.StsNoMem
        say("memory" if out_of_memory else "error", f"OpenCV: {error.err}")
    except Exception as error:
        say("error", f"{type(error).__name__}: {error}")


def _confine(limits: DecodeLimits, written_bytes: int = 0) -> None:
    """Set kernel limits for this process, and end it with its parent.  written_bytes: maximum size of a file."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, mapped + limits.max_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, written_bytes)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    if limits.max_s < sys.maxsize:
        # CPU seconds of all cores: a fallback of `DecodeClock` for a hanging decoder without a parent.
        _limit(resource.RLIMIT_CPU, int(limits.max_s + 1) * (os.cpu_count() or 1))


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    main()
