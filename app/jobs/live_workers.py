"""Live workers and their bundles, from the records that they publish in Redis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar, cast

import redis.asyncio
import structlog
from pydantic import BaseModel, ValidationError

from app.contract import keys
from app.contract.workers import ModelInfo, WorkerInfo

Said = TypeVar("Said", bound=BaseModel)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Registry:
    """Reads workers' records without a cache."""

    connection: redis.asyncio.Redis

    async def live_workers(self) -> list[WorkerInfo]:
        """Workers with a current heartbeat, by name.  Records expire by Redis' clock."""
        names = cast(list[bytes], await self.connection.zrange(keys.WORKERS, 0, -1))
        if not names:
            return []
        found = await self.connection.mget([keys.worker(name.decode()) for name in names])
        return sorted(_known(WorkerInfo, found), key=lambda worker: worker.name)

    async def serving(self, queue: str) -> ModelInfo | None:
        """The bundle of a queue's live workers; without any, the bundle that the queue served last."""
        for worker in await self.live_workers():
            if worker.queue == queue and (info := await self.model(worker.bundle)) is not None:
                return info
        there = [info for info in await self.models() if info.queue == queue]
        return there[0] if len(there) == 1 else None

    async def models(self) -> list[ModelInfo]:
        """Every bundle ever served here."""
        found = cast(list[bytes], await self.connection.hvals(keys.MODELS))
        return _known(ModelInfo, found)

    async def model(self, name: str) -> ModelInfo | None:
        """A bundle ever served here."""
        text = await self.connection.hget(keys.MODELS, name)
        return next(iter(_known(ModelInfo, [text])), None)


def _known(kind: type[Said], texts: Iterable[bytes | str | None]) -> list[Said]:
    """The records that this release can parse; workers of other releases may write others."""
    found = []
    for text in texts:
        try:
            if text is not None:
                found.append(kind.model_validate_json(text))
        except ValidationError:
            log.warning("worker_not_understood", said=kind.__name__)
    return found
