"""Workers that die, stop, hang, or run out of memory: every job ends exactly once, with the same records."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.contract import keys
from tests.faults.conftest import FRAMES, Faulty, send
from tests.waiting import until

if TYPE_CHECKING:
    from tests.service import Clips, Record
    from worker.demo.processes import Process

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def expected(faulty: Faulty, clip: bytes) -> list[Record]:
    """The clip's records without a fault."""
    faulty.sound()
    job = faulty.api.ended(faulty.api.submit(clip)["id"])
    records = faulty.records(job)
    assert [record["frame_index"] for record in records] == list(range(FRAMES))
    assert any(record["faces"] for record in records)
    return records


def begun(faulty: Faulty, clip: bytes) -> Record:
    """A job that has frames and runs."""
    faulty.sound()
    return faulty.api.running(faulty.api.submit(clip)["id"])


def test_a_killed_worker(faulty: Faulty, clip: bytes, expected: list[Record]) -> None:
    """After a kill another worker labels the whole job with the same records; `attempts` is 2."""
    job = begun(faulty, clip)
    faulty.kill_sound()
    faulty.sound()
    ended = faulty.api.ended(job["id"])
    assert (ended["state"], ended["attempts"]) == ("succeeded", 2)
    assert faulty.records(ended) == expected


def test_a_worker_told_to_stop(faulty: Faulty, clip: bytes, expected: list[Record]) -> None:
    """SIGTERM: it exits within ten seconds; the job continues elsewhere without an attempt charged, same records."""
    job = begun(faulty, clip)
    started = time.monotonic()
    last_words = faulty.stop_sound()
    assert time.monotonic() - started < 10
    assert "stopped" in last_words or "ended_at_once" in last_words
    waiting = faulty.api.job(job["id"])
    assert (waiting["state"], waiting["attempts"], waiting["progress"]["frames_done"]) == ("queued", 0, 0)
    faulty.sound()
    ended = faulty.api.ended(job["id"])
    assert (ended["state"], ended["attempts"]) == ("succeeded", 1)
    assert faulty.records(ended) == expected


def test_a_worker_that_comes_back_late(faulty: Faulty, clip: bytes, expected: list[Record]) -> None:
    """Stopped until its job was given to another and done: going on, it changes nothing and serves the next job."""
    job = begun(faulty, clip)
    late = faulty.sound()
    send(late, signal.SIGSTOP)
    other = faulty.worker("other")
    ended = faulty.api.ended(job["id"])
    assert (ended["state"], ended["attempts"]) == ("succeeded", 2)
    with faulty.connection() as connection:
        before = connection.hgetall(keys.job(job["id"]))
        faulty.service.stop(other)
        send(late, signal.SIGCONT)
        until(lambda: "job_lost" in late.tail())
        assert connection.hgetall(keys.job(job["id"])) == before
        assert len(list(connection.scan_iter(f"{keys.FRAMES}{job['id']}:*"))) == 1
    assert faulty.records(ended) == expected
    assert faulty.api.ended(faulty.api.submit(clip, sample_fps=1)["id"])["state"] == "succeeded"


@pytest.mark.long
def test_a_worker_that_hangs_again_and_again(faulty: Faulty, clips: Clips) -> None:
    """The watchdog ends each worker; after the third the job fails as `worker_lost`, and the queue continues."""
    faulty.stop_sound()
    job, next_ = (faulty.api.submit(clips.video(clips.pictures(2))) for _ in range(2))
    for attempt in (1, 2, 3):
        hanging = faulty.worker(f"hanging-{attempt}", "hangs")
        assert until(lambda process=hanging: process._child.poll()) == 70  # type: ignore[misc]
        assert "job_hangs" in hanging.tail()
        faulty.service.stop(hanging)
        until(lambda n=attempt: _given_up(faulty, job["id"], n))  # type: ignore[misc]
    ended = faulty.api.ended(job["id"])
    assert (ended["state"], ended["error"]["code"], ended["attempts"]) == ("failed", "worker_lost", 3)
    faulty.sound()
    assert faulty.api.ended(next_["id"])["state"] == "succeeded"


def _given_up(faulty: Faulty, job_id: str, attempts: int) -> bool:
    job = faulty.api.job(job_id)
    return bool(job["attempts"] == attempts and job["state"] in {"queued", "failed"})


def test_a_worker_that_dies_between_taking_and_starting(faulty: Faulty, clips: Clips) -> None:
    """Killed with a job that it has popped, and with one that it is about to claim: it still runs, at no charge."""
    faulty.stop_sound()
    job = faulty.api.submit(clips.video(clips.pictures(2)))
    for when in ("taken", "begun"):
        dying = faulty.launch(f"dying-{when}", when)
        assert until(dying._child.poll) == -signal.SIGKILL
        faulty.service.stop(dying)
        until(lambda: faulty.waiting() == [job["id"]])
    faulty.sound()
    ended = faulty.api.ended(job["id"])
    assert (ended["state"], ended["attempts"]) == ("succeeded", 1)


def test_a_decoder_that_hangs_or_dies(faulty: Faulty, clip: bytes, expected: list[Record]) -> None:
    """After a stop or kill the job starts again and ends with the same records; its worker continues."""
    worker, file = faulty.sound(), faulty.happens("decoder")
    for word in ("SIGSTOP", "SIGKILL"):
        file.write_text(word)
        ended = faulty.api.ended(faulty.api.submit(clip)["id"])
        assert not file.exists()
        assert (ended["state"], ended["attempts"], ended["warnings"]) == ("succeeded", 2, [])
        assert faulty.records(ended) == expected
        worker.check()


def test_a_renderer_that_is_killed(faulty: Faulty, clips: Clips) -> None:
    """The worker starts another, which draws."""
    worker = faulty.sound()
    job = faulty.api.ended(faulty.api.submit(clips.video(clips.pictures(2)), keep_input=True)["id"])
    (renderer,) = children(worker, "worker.process.renderer_main")
    os.kill(renderer, signal.SIGKILL)
    until(lambda: children(worker, "worker.process.renderer_main") not in ([], [renderer]))
    until(lambda: faulty.api.http.get(f"/v1/jobs/{job['id']}/video").status_code == 200)
    worker.check()
    faulty.api.http.delete(f"/v1/jobs/{job['id']}")


def children(process: Process, module: str) -> list[int]:
    """Those of its children that run a module."""
    found = []
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            with suppress(FileNotFoundError):
                if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
    return found


def test_a_device_short_of_memory(faulty: Faulty, clip: bytes) -> None:
    """Batches are halved until they fit, with a warning; where one crop does not fit, the job alone fails."""
    faulty.sound()
    room = faulty.happens("room")
    room.write_text("5")
    ended = faulty.api.ended(faulty.api.submit(clip, sample_fps=5)["id"])
    assert ended["state"] == "succeeded"
    assert any("short of memory" in warning for warning in ended["warnings"])
    assert len(faulty.records(ended)) == -(-FRAMES // 5)
    room.write_text("0")
    ended = faulty.api.ended(faulty.api.submit(clip)["id"])
    assert (ended["state"], ended["error"]["code"]) == ("failed", "out_of_memory")
    room.unlink()
    ended = faulty.api.ended(faulty.api.submit(clip, sample_fps=5)["id"])
    assert (ended["state"], ended["error"]) == ("succeeded", None)


def test_nothing_is_left(faulty: Faulty) -> None:
    """At the end no input is stored, and RQ has no job."""
    assert faulty.service.stored() == []
    with faulty.connection() as connection:

        def left() -> list[Any]:
            return [key for name in ("rq:job:*", "rq:wip:*", "rq:queue:mien*") for key in connection.scan_iter(name)]

        until(lambda: not left())
        assert connection.hgetall(keys.OPEN) == {}
