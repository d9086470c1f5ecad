"""Live workers and the bundles they serve, as they say in Redis."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import cast

import redis.asyncio

from app.contract import keys
from app.contract.workers import WORKER_TTL_S, ModelInfo, WorkerInfo


@dataclass(frozen=True)
class Registry:
    """Reads what workers write; nothing is cached."""

    connection: redis.asyncio.Redis

    async def live_workers(self) -> list[WorkerInfo]:
        """Workers that said something lately, by name."""
        seen = await self.connection.zrangebyscore(keys.WORKERS, time.time() - WORKER_TTL_S, "+inf")
        names = cast(list[bytes], seen)
        if not names:
            return []
        found = await self.connection.mget([keys.worker(name.decode()) for name in names])
        workers = [WorkerInfo.model_validate_json(text) for text in found if text is not None]
        return sorted(workers, key=lambda worker: worker.name)

    async def model(self, name: str) -> ModelInfo | None:
        """A bundle that ever was served here."""
        text = await self.connection.hget(keys.MODELS, name)
        return None if text is None else ModelInfo.model_validate_json(text)
