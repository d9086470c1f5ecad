"""Lost jobs: what recovery does with those that no worker has any more, and that it leaves all others alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio
from rq import Queue
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job as RqJob
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from app.background.__main__ import work
from app.background.recovery import Recovery
from app.background.rounds import repeat
from app.contract import keys
from app.contract.renditions import VIDEO
from app.contract.uploads import UploadStore
from app.jobs.queueing import Queueing
from app.settings import Settings
from worker.jobs.execution import LostError

QUEUE = "mien-default"
Look = Callable[..., None]


@pytest.fixture
def look(redis_url: str, uploads: Path) -> Look:
    """Runs rounds of one recovery."""

    def rounds(count: int = 1) -> None:
        async def run() -> None:
            reader = redis.asyncio.Redis.from_url(redis_url)
            with redis.Redis.from_url(redis_url) as writer:
                store = UploadStore(str(uploads))
                recovery = Recovery(reader, Queueing(writer, reader), store, Settings(redis_url=redis_url))
                for _ in range(count):
                    await recovery.look()
            await reader.aclose()

        asyncio.run(run())

    return rounds


def waiting(connection: redis.Redis) -> list[bytes]:
    return list(connection.lrange(keys.rq_queue(QUEUE), 0, -1))  # type: ignore[arg-type]


def beat(connection: redis.Redis, job_id: str, seconds: float) -> None:
    """Send a heartbeat of the job's worker with this time to live."""
    connection.zadd(keys.rq_running(QUEUE), {f"{job_id}:execution": time.time() + seconds})


def test_keys_are_those_of_rq(redis_url: str) -> None:
    """The names by which scripts change RQ's keys are RQ's own."""
    with redis.Redis.from_url(redis_url) as connection:
        queue = Queue("q", connection=connection)
        assert keys.rq_queue("q") == queue.key
        assert Queue.redis_queues_keys == keys.RQ_QUEUES
        assert keys.rq_taken("q") == IntermediateQueue.get_intermediate_queue_key(queue.key)
        assert keys.rq_running("q") == StartedJobRegistry("q", connection=connection).key
        assert keys.rq_job("j") == RqJob.key_for("j")


def test_jobs_in_good_hands_are_left_alone(submit: Callable[..., str], worker: Any, look: Look) -> None:
    """Jobs that wait, run or have ended stay as they are, however often recovery looks."""
    running, ended, first, second = submit(), submit(), submit(), submit()
    worker.claim(running)
    beat(worker.redis, running, 20)
    worker.label(ended, [])
    before = [worker.record(job_id) for job_id in (running, ended, first, second)]
    look(3)
    assert [worker.record(job_id) for job_id in (running, ended, first, second)] == before
    assert waiting(worker.redis) == [first.encode(), second.encode()]


def test_a_dead_workers_job_waits_again(submit: Callable[..., str], worker: Any, look: Look, make_frames: Any) -> None:
    """A recovered job is queued once, first, without its frames, and charged an attempt."""
    lost, other = submit(), submit()
    worker.claim(lost)
    worker.append(lost, make_frames(3))
    beat(worker.redis, lost, -1)
    look(3)
    record = worker.record(lost)
    assert (record.state, record.attempts, record.progress.frames_done) == ("queued", 1, 0)
    assert waiting(worker.redis) == [lost.encode(), other.encode()]
    assert worker.redis.keys(f"{keys.FRAMES}*") == []
    assert worker.redis.zcard(keys.rq_running(QUEUE)) == 0
    assert RqJob.fetch(lost, connection=worker.redis, serializer=JSONSerializer).args == [lost]
    with pytest.raises(LostError, match="lost"):
        worker.append(lost, make_frames(3))


def test_a_popped_job_waits_again(submit: Callable[..., str], worker: Any, look: Look) -> None:
    """A job whose worker died before its start is requeued by the second round, without charge."""
    job_id = submit()
    worker.redis.lmove(keys.rq_queue(QUEUE), keys.rq_taken(QUEUE), "LEFT", "RIGHT")
    look()
    assert waiting(worker.redis) == []
    look(2)
    assert waiting(worker.redis) == [job_id.encode()]
    assert worker.redis.llen(keys.rq_taken(QUEUE)) == 0
    assert worker.record(job_id).attempts == 0


def test_a_job_in_nobodys_hands_waits_again(submit: Callable[..., str], worker: Any, look: Look) -> None:
    """Also if the queue has lost all of its entries."""
    job_id = submit()
    worker.redis.delete(keys.rq_queue(QUEUE), keys.rq_job(job_id))
    look(2)
    assert waiting(worker.redis) == [job_id.encode()]
    assert RqJob.fetch(job_id, connection=worker.redis, serializer=JSONSerializer).func_name == keys.LABEL_FUNCTION


def test_three_dead_workers_are_enough(
    api: httpx.Client, submit: Callable[..., str], worker: Any, look: Look, make_frames: Any, uploads: Path
) -> None:
    """The job has failed as `worker_lost`; its input is gone, its frames so far are readable, and all expires."""
    job_id = submit()
    for attempt in range(1, 4):
        worker.claim(job_id)
        worker.append(job_id, make_frames(3))
        beat(worker.redis, job_id, -1)
        assert (uploads / job_id).exists()
        look()
        assert worker.record(job_id).attempts == attempt
    job = api.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["error"]["code"]) == ("failed", "worker_lost")
    assert job["finished_at"] is not None
    assert not (uploads / job_id).exists()
    assert len(api.get(f"/v1/jobs/{job_id}/frames").json()["frames"]) == 3
    assert worker.redis.ttl(keys.job(job_id)) > 0
    assert worker.redis.ttl(keys.frames(job_id, worker.record(job_id).execution)) > 0
    assert not worker.redis.hexists(keys.OPEN, job_id)
    look()
    assert worker.redis.zcard(keys.rq_running(QUEUE)) == 0
    assert not worker.redis.exists(keys.rq_job(job_id))


def test_a_job_that_was_to_be_cancelled_is_not_started_again(
    api: httpx.Client, submit: Callable[..., str], worker: Any, look: Look, make_frames: Any, uploads: Path
) -> None:
    """If its worker died before it noticed, the job ends as cancelled, with its frames and without its input."""
    job_id = submit()
    worker.claim(job_id)
    worker.append(job_id, make_frames(3))
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    beat(worker.redis, job_id, -1)
    look()
    job = api.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["error"], job["attempts"]) == ("canceled", None, 1)
    assert len(api.get(f"/v1/jobs/{job_id}/frames").json()["frames"]) == 3
    assert not (uploads / job_id).exists()
    assert worker.redis.ttl(keys.job(job_id)) > 0
    assert waiting(worker.redis) == []
    look(2)
    assert not worker.redis.exists(keys.rq_job(job_id))


def test_a_sealed_job_is_ended_in_its_workers_place(
    submit: Callable[..., str], worker: Any, look: Look, uploads: Path
) -> None:
    """A worker that died between its last frame and the end costs nothing: the job ends as it had settled."""
    job_id = submit()
    worker.claim(job_id).seal("succeeded", {})
    beat(worker.redis, job_id, -1)
    look()
    assert (worker.record(job_id).state, worker.record(job_id).attempts) == ("succeeded", 1)
    assert not (uploads / job_id).exists()


def test_an_unreadable_job_is_left_and_stops_nothing(
    submit: Callable[..., str], worker: Any, redis_url: str, uploads: Path
) -> None:
    """A record of another release is skipped; the jobs after it and all other work continue."""
    strange, lost, orphan = submit(), submit(), submit()
    worker.claim(strange).seal("succeeded", {})
    worker.redis.hset(keys.job(strange), "options", '{"faces": "in a way to come"}')
    for job_id in (strange, lost):
        beat(worker.redis, job_id, -1)
        worker.redis.lrem(keys.rq_queue(QUEUE), 0, job_id)
    worker.redis.delete(keys.job(orphan))
    settings = Settings(redis_url=redis_url, uploads=str(uploads), heartbeat_s=0.1)

    async def run() -> None:
        task = asyncio.create_task(work(settings))
        deadline = time.monotonic() + 30
        while lost.encode() not in waiting(worker.redis) or (uploads / orphan).exists():
            assert not task.done()
            assert time.monotonic() < deadline, "it never came"
            await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert worker.redis.hget(keys.job(strange), "state") == b"running"
    assert (uploads / strange).exists()


def test_a_round_that_fails_is_not_the_last() -> None:
    """An error of one round is logged, and the next round runs."""
    rounds: list[Exception] = [ValueError("new"), redis.ConnectionError("away"), OSError("full")]
    done = asyncio.Event()

    async def round() -> None:
        if rounds:
            raise rounds.pop()
        done.set()

    async def run() -> None:
        task = asyncio.create_task(repeat("test", round, 0))
        async with asyncio.timeout(20):
            await done.wait()
        task.cancel()

    asyncio.run(run())


def test_what_rq_keeps_of_ended_jobs_goes(submit: Callable[..., str], worker: Any, look: Look) -> None:
    """A worker that died just after the end of a job, or of one that was deleted, leaves nothing in RQ."""
    ended, gone = submit(), submit()
    worker.label(ended, [])
    worker.claim(gone)
    worker.redis.delete(keys.job(gone))
    worker.redis.hdel(keys.OPEN, gone)
    worker.redis.rpush(keys.rq_taken(QUEUE), gone)
    beat(worker.redis, ended, -1)
    beat(worker.redis, gone, -1)
    look()
    assert worker.redis.keys("rq:job:*") == []
    assert not worker.redis.exists(keys.rq_taken(QUEUE), keys.rq_running(QUEUE))


def test_a_video_that_was_being_drawn_may_be_asked_for_again(worker: Any, look: Look) -> None:
    """A rendition whose process died does not stay `running`."""
    job_id = "a" * 32
    worker.redis.sadd(keys.RQ_QUEUES, keys.rq_queue(keys.RENDER_QUEUE))
    worker.redis.hset(VIDEO.key(job_id), "state", "running")
    worker.redis.zadd(keys.rq_running(keys.RENDER_QUEUE), {f"render-{job_id}:execution": time.time() - 1})
    look()
    assert not worker.redis.exists(VIDEO.key(job_id), keys.rq_running(keys.RENDER_QUEUE))
