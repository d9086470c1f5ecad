"""Live workers and the bundles they serve, as they say in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import redis.asyncio

from app.contract import keys
from app.contract.workers import ModelInfo, WorkerInfo


@dataclass(frozen=True)
class Registry:
    """Reads what workers write; nothing is cached."""

    connection: redis.asyncio.Redis

    async def live_workers(self) -> list[WorkerInfo]:
        """Workers that said something lately, by name.  What each says expires by the clock of Redis."""
        names = cast(list[bytes], await self.connection.zrange(keys.WORKERS, 0, -1))
        if not names:
            return []
        found = await self.connection.mget([keys.worker(name.decode()) for name in names])
        workers = [WorkerInfo.model_validate_json(text) for text in found if text is not None]
        return sorted(workers, key=lambda worker: worker.name)

    async def serving(self, queue: str) -> ModelInfo | None:
        """The bundle that a queue's live workers serve; where none is alive, the one that ever was served there."""
        for worker in await self.live_workers():
            if worker.queue == queue and (info := await self.model(worker.bundle)) is not None:
                return info
        there = [info for info in await self.models() if info.queue == queue]
        return there[0] if len(there) == 1 else None

    async def models(self) -> list[ModelInfo]:
        """Every bundle that ever was served here."""
        found = cast(list[bytes], await self.connection.hvals(keys.MODELS))
        return [ModelInfo.model_validate_json(text) for text in found]

    async def model(self, name: str) -> ModelInfo | None:
        """A bundle that ever was served here."""
        text = await self.connection.hget(keys.MODELS, name)
        return None if text is None else ModelInfo.model_validate_json(text)
