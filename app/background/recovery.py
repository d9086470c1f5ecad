"""Recovery: restarts the jobs of dead workers (killed, out of memory, host lost).

Every open job must be queued or have a lease that its worker's heartbeats extend.  A round checks the jobs that are not
queued; an atomic script (`app.contract.scripts.recovery`) decides and acts, so any number of front ends may run rounds
concurrently, and one that is killed during a round delays none.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from app.contract import heartbeats, keys
from app.contract.jobs import MAX_ATTEMPTS, JobError, JobRecord, UnreadableRecordError, ending, to_pairs
from app.contract.renditions import key_of_rq_id
from app.contract.scripts import transitions
from app.contract.scripts.recovery import RECOVER
from app.contract.settings import SharedSettings
from app.contract.uploads import UploadStore
from app.jobs.queueing import Queueing

RQ_QUEUE_PREFIX = keys.rq_queue("")
LOST = JobError(code="worker_lost", detail="its worker died again and again; the input may be too much for it")

log = structlog.get_logger(__name__)


class Recovery:
    """Recovers lost jobs.  every_s: interval of rounds, two heartbeats."""

    def __init__(
        self, connection: redis.asyncio.Redis, queueing: Queueing, uploads: UploadStore, settings: SharedSettings
    ) -> None:
        self._redis = connection
        self._queueing = queueing
        self._uploads = uploads
        self._ttl_s = settings.result_ttl_s
        self.every_s = heartbeats.RECOVERY * settings.heartbeat_s
        self._grace_s = settings.heartbeat_ttl_s
        self._not_before = 0.0
        self._suspects: set[str] = set()
        self._recover = connection.register_script(RECOVER)
        self._finish = connection.register_script(transitions.FINISH)

    async def look_if_settled(self) -> None:
        """One round, unless Redis was unreachable or has just started."""
        try:
            if time.monotonic() >= self._not_before and not await self._redis_is_young():
                await self.look()
        except (RedisError, OSError):
            self._wait()
            raise

    async def look(self) -> None:
        """One round."""
        before, self._suspects = self._suspects, set()
        for queue, job_id in await self._not_waiting():
            try:
                await self._look_after(queue, job_id, suspected=job_id in before)
            except UnreadableRecordError as error:  # left to a front end that reads it
                log.error("job_unreadable", job_id=job_id, why=str(error))

    async def _look_after(self, queue: str, job_id: str, *, suspected: bool) -> None:
        answer = await self._ask(queue, job_id, suspected=suspected)
        if answer == "unqueued":
            await self._queueing.restore(queue, job_id)
            answer = await self._ask(queue, job_id, suspected=True)
        if answer == "suspect":
            self._suspects.add(job_id)
        elif answer == "sealed":
            await self._end(job_id)
        elif answer == "cleared" and (rendition := key_of_rq_id(job_id)):
            # An interrupted rendition: the next request for it starts it again.
            await self._redis.delete(rendition)
        elif answer == "waits":
            log.warning("job_recovered", job_id=job_id)

    async def _redis_is_young(self) -> bool:
        """Whether Redis has just started, so that heartbeats may be missing."""
        server = await self._redis.info("server")
        return int(server["uptime_in_seconds"]) < self._grace_s

    def _wait(self) -> None:
        """Postpone recovery after an outage of Redis, until workers could send heartbeats."""
        self._not_before = time.monotonic() + self._grace_s
        self._suspects = set()

    async def _not_waiting(self) -> list[tuple[str, str]]:
        """Queue and id of every job that is not queued: open jobs, and jobs that RQ records as popped or running."""
        names = cast(set[bytes], await self._redis.smembers(keys.RQ_QUEUES))
        queues = sorted(name.decode().removeprefix(RQ_QUEUE_PREFIX) for name in names)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.OPEN)
            for queue in queues:
                pipe.lrange(keys.rq_queue(queue), 0, -1)
                pipe.lrange(keys.rq_taken(queue), 0, -1)
                pipe.zrange(keys.rq_running(queue), 0, -1)
            opened, *lists = await pipe.execute()
        found = {job_id.decode(): queue.decode() for job_id, queue in opened.items()}
        waiting: set[str] = set()
        for number, queue in enumerate(queues):
            waits, taken, running = lists[3 * number : 3 * number + 3]
            waiting |= {job_id.decode() for job_id in waits}
            for entry in (*taken, *running):
                found.setdefault(entry.decode().partition(":")[0], queue)
        return [(queue, job_id) for job_id, queue in found.items() if job_id not in waiting]

    async def _ask(self, queue: str, job_id: str, *, suspected: bool) -> str:
        answer = await self._recover(
            keys=[
                keys.job(job_id),
                keys.rq_queue(queue),
                keys.rq_job(job_id),
                keys.rq_taken(queue),
                keys.rq_running(queue),
            ],
            args=[
                job_id,
                keys.frames(job_id, ""),
                keys.changed(job_id),
                int(suspected),
                MAX_ATTEMPTS,
                self._ttl_s,
                json.dumps(to_pairs(ending("failed", self._ttl_s, error=LOST.model_dump()))),
                json.dumps(to_pairs(ending("canceled", self._ttl_s))),
            ],
        )
        return bytes(answer).decode()

    async def _end(self, job_id: str) -> None:
        """Finish a sealed job in place of its worker."""
        raw = cast(dict[bytes, bytes], await self._redis.hgetall(keys.job(job_id)))
        if not raw:
            return
        record = JobRecord.from_hash(raw)
        if not record.options.keep_input:
            await asyncio.to_thread(self._uploads.delete, job_id)
        await self._finish(
            keys=[keys.job(job_id), keys.frames(job_id, record.execution)],
            args=[record.execution, keys.changed(job_id)],
        )
        log.warning("job_ended_by_recovery", job_id=job_id)
