"""Long jobs: what 100,000 frames cost in Redis, and that their exports, and large uploads, pass with flat memory.

For the figures, and for an upload of another size:

    UPLOAD_MIB=1024 python -m pytest -s tests/app/contract/test_exports.py -k "redis or flat"
"""

from __future__ import annotations

import math
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.contract import chunks
from app.contract.exports import export
from app.contract.exports.captions import vtt_cues
from app.contract.exports.content import Content
from app.contract.exports.text import table_header
from app.contract.frames import Face, Frame

FRAMES = 100_000
UPLOAD_BYTES = int(os.environ.get("UPLOAD_MIB", "256")) * 2**20
LABELS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
MEMBERS = ("cnn", "cnn_rnn", "cnn_transformer")


def lively(count: int, members: int) -> Iterator[Frame]:
    """One face whose box wanders and whose scores change with noise, as a person's do."""
    noise = random.Random(7)
    x = y = 200.0
    logits = [0.0] * 7
    for i in range(count):
        x += noise.gauss(0, 1.5)
        y += noise.gauss(0, 1.5)
        logits = [0.97 * value + noise.gauss(0, 0.25) for value in logits]
        own = tuple(_softmax([value + noise.gauss(0, 0.2) for value in logits]) for _ in range(members))
        face = Face(0, (x, y, 90 + noise.random(), 100.0), 0.85 + noise.random() / 10, _softmax(logits), own)
        yield Frame(i, i / 29.97, (face,))


def _softmax(logits: list[float]) -> tuple[float, ...]:
    powers = [math.exp(value) for value in logits]
    return tuple(power / sum(powers) for power in powers)


@pytest.mark.parametrize(("members", "most"), [(0, 40), (3, 90)])
def test_bytes_a_frame_in_redis(members: int, most: int, worker: Any, redis_url: str) -> None:
    """Redis holds a frame with one face in at most 40 bytes, with every member's scores in at most 90."""
    frames = list(lively(6400, members))
    for start in range(0, len(frames), 64):
        worker.redis.rpush("frames", chunks.encode(frames[start : start + 64]))
    bytes_a_frame = worker.redis.memory_usage("frames", samples=0) / len(frames)
    print(f"{members} members: {bytes_a_frame:.1f} bytes a frame")
    assert bytes_a_frame <= most


def test_exports_of_a_long_job_stream_with_flat_memory(redis_url: str, uploads: Path, worker: Any) -> None:
    """The text exports of 100,000 frames have every row, and the server's memory does not grow with them."""
    base_process = _Server(redis_url, uploads)
    with base_process as base:
        content = b"\x00\x00\x00\x18ftypisom" + bytes(500)
        job_id = httpx.post(f"{base}/v1/jobs", content=content).json()["id"]
        worker.claim(job_id)
        block = [chunks.encode(part) for part in _parts(list(lively(6400, 3)))]
        key = f"mien:frames:{job_id}:{worker.record(job_id).execution}"
        with worker.redis.pipeline() as pipe:
            for i in range(math.ceil(FRAMES / 64)):
                pipe.rpush(key, block[i % len(block)])
            pipe.execute()
        worker.finish(job_id)
        rows = math.ceil(FRAMES / 64) * 64
        httpx.get(f"{base}/v1/jobs/{job_id}/frames?format=csv&from={rows - 640}")
        before = base_process.rss_bytes()
        for name, lines in (("ndjson", rows), ("csv", rows + 1)):
            seen = 0
            with httpx.stream("GET", f"{base}/v1/jobs/{job_id}/frames?format={name}", timeout=60) as stream:
                for piece in stream.iter_bytes():
                    seen += piece.count(b"\n")
            assert seen == lines
        grown = base_process.rss_bytes() - before
        print(f"exports of {rows} frames: memory grew by {grown / 2**20:.1f} MiB")
        assert grown < 30 * 2**20


def _parts(frames: list[Frame]) -> Iterator[list[Frame]]:
    for start in range(0, len(frames), 64):
        yield frames[start : start + 64]


class _Server:
    """`python -m app`, in a process whose memory is measured."""

    def __init__(self, redis_url: str, uploads: Path) -> None:
        environment = {**os.environ, "MIEN_REDIS_URL": redis_url, "MIEN_UPLOADS": str(uploads)}
        command = [sys.executable, "-m", "app", "--port", "0"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    def __enter__(self) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                return found[0]
        raise AssertionError("it did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=20)

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


def test_a_large_upload_leaves_memory_flat(redis_url: str, uploads: Path) -> None:
    """A large raw upload is stored whole while the server's memory stays where it was."""
    server = _Server(redis_url, uploads)
    with server as base:
        head = b"\x00\x00\x00\x18ftypisom" + bytes(2**20 - 12)

        def body() -> Iterator[bytes]:
            yield head
            for _ in range(UPLOAD_BYTES // 2**20 - 1):
                yield bytes(2**20)

        httpx.post(f"{base}/v1/jobs", content=head)
        before = server.rss_bytes()
        began = time.monotonic()
        answer = httpx.post(f"{base}/v1/jobs", content=body(), timeout=240)
        seconds = time.monotonic() - began
        assert answer.json()["input"]["bytes"] == UPLOAD_BYTES
        grown = server.rss_bytes() - before
        print(f"upload of {UPLOAD_BYTES / 2**20:.0f} MiB in {seconds:.1f} s: memory grew by {grown / 2**20:.1f} MiB")
        assert grown < 30 * 2**20


Make = Callable[..., list[Frame]]


def test_every_format_of_no_frames() -> None:
    """An empty job's exports are valid: a header, an object, nothing."""
    content = Content(LABELS)
    assert b"".join(export([], "csv", content)).decode().strip() == ",".join(table_header(content))
    assert (
        b"".join(export([], "json", content)).decode().split() == b"".join(export([], "json", content)).decode().split()
    )
    assert b"".join(export([], "ndjson", content)).decode() == ""
    assert b"".join(export([], "vtt", content)).decode() == "WEBVTT\n"


def test_vtt_escapes_and_has_a_last_cue(make_frames: Make) -> None:
    """Labels cannot break the cue's markup, and a single frame is shown for a moment."""
    strange = ("<b>&", *LABELS[1:])
    text = "".join(vtt_cues(make_frames(1), Content(strange)))
    assert "&lt;b&gt;&amp;" in text
    assert "00:00:00.000 --> 00:00:00.040" in text
