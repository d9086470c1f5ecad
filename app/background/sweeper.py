"""The sweeper removes orphans: files of jobs that expired or were never created.

A job's record expires in Redis; its files do not.  Its entry in its owner's list stays for a while, so that the owner
gets 410 instead of 404.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import cast

import redis.asyncio
import structlog

from app.contract import heartbeats, keys
from app.contract.uploads import UploadStore

REMEMBERED_S = 7 * 86_400  # minimum time after its creation for which an expired job gets 410
BATCH = 500

log = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps orphans; a lock selects one of several processes."""

    def __init__(
        self, connection: redis.asyncio.Redis, uploads: UploadStore, result_ttl_s: int, heartbeat_s: float = 5
    ) -> None:
        self._redis = connection
        self._uploads = uploads
        self._remembered_s = result_ttl_s + REMEMBERED_S
        self.every_s = heartbeats.UPKEEP * heartbeat_s
        self._token, self._lock_ms = uuid.uuid4().hex, round(2000 * self.every_s)
        self._suspects: set[str] = set()

    async def sweep_in_turn(self) -> None:
        """One round, unless another process holds the lock."""
        # The lock of a dead process expires; two sweepers at once would do no harm.
        held = await self._redis.set(keys.SWEEP_LOCK, self._token, nx=True, px=self._lock_ms)
        if held or await self._redis.get(keys.SWEEP_LOCK) == self._token.encode():
            await self._redis.pexpire(keys.SWEEP_LOCK, self._lock_ms)
            await self.sweep()

    async def sweep(self) -> int:
        """One round.  Returns the number of jobs whose files were removed.

        Files are removed after two consecutive rounds without a record or an upload in progress, since between an
        upload's last byte and its record there is a moment with neither.
        """
        stored = await asyncio.to_thread(self._uploads.job_ids)
        orphans = {job_id for job_id in stored if not await self._is_known(job_id)}
        removed = orphans & self._suspects
        for job_id in removed:
            await asyncio.to_thread(self._uploads.delete, job_id)
            log.info("swept", job_id=job_id)
        self._suspects = orphans - removed
        await self._forget_old()
        return len(removed)

    async def _is_known(self, job_id: str) -> bool:
        return bool(await self._redis.exists(keys.job(job_id), keys.upload(job_id), keys.resumable(job_id)))

    async def _forget_old(self) -> None:
        """Remove list entries of jobs that expired long ago, and batch entries of all expired jobs."""
        now_ms = time.time() * 1000
        for indices, before_ms in ((keys.JOBS, now_ms - self._remembered_s * 1000), (keys.BATCHES, now_ms)):
            async for index in self._redis.scan_iter(match=f"{indices}*", count=BATCH):
                old = cast(list[bytes], await self._redis.zrangebyscore(index, "-inf", before_ms, 0, BATCH))
                gone = [job_id for job_id in old if not await self._redis.exists(keys.job(job_id.decode()))]
                if gone:
                    await self._redis.zrem(index, *gone)
