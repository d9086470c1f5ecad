"""A worker's registration in Redis, with heartbeats from a thread that needs no GPU."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
import structlog

from app.contract import heartbeats, keys
from app.contract.scripts.workers import WORKER_BEAT
from app.contract.workers import MemberInfo, ModelInfo, PriorInfo, WorkerInfo
from model_store.manifest import Manifest
from model_store.members import MEMBERS

DRAINED = "drained by the operator: it ends the jobs that it has and takes no others"

log = structlog.get_logger(__name__)


def model_info(manifest: Manifest, queue: str) -> ModelInfo:
    """A bundle as clients see it."""
    members = tuple(
        MemberInfo(
            name=member.name,
            title=MEMBERS[member.name].title,
            short=MEMBERS[member.name].short,
            note=MEMBERS[member.name].note,
            backbone=member.backbone.architecture,
            head=member.head.architecture,
            temperature=member.temperature,
            fusion_weight=member.fusion_weight,
        )
        for member in manifest.members
    )
    return ModelInfo(
        name=manifest.name,
        version=manifest.version,
        queue=queue,
        labels=manifest.labels,
        window=manifest.window,
        members=members,
        prior=None if manifest.prior is None else PriorInfo(**manifest.prior.model_dump()),
        metrics=[measurement.model_dump(mode="json") for measurement in manifest.measurements],
        provenance=manifest.provenance.model_dump(mode="json"),
        licence=manifest.licence,
        intended_use=manifest.intended_use,
    )


class Registration:
    """Keeps a worker's `WorkerInfo` in Redis alive until `close`; `say` changes it at once.

    drained: whether an operator drains the worker.  measure: returns fields to update with each heartbeat.
    """

    def __init__(
        self, connection: redis.Redis, info: WorkerInfo, measure: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        self._connection = connection
        self._info = info
        self._measure = measure
        self._frames = 0
        self.drained = False
        self._model: ModelInfo | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._run, name="registration", daemon=True)
        self._thread.start()

    @property
    def info(self) -> WorkerInfo:
        """The latest record."""
        return self._info

    def say(self, **changes: Any) -> None:
        """Change the record and send it; if Redis is unreachable, the next heartbeat sends it."""
        with self._lock:
            self._info = self._info.model_copy(update=changes)
        self._try_beat()

    def job_started(self) -> None:
        """Count a started job."""
        self._count(1, 0)

    def job_left(self, *, ended: bool) -> None:
        """Count a job that left.  ended: it reached its end here; otherwise it was handed back or lost."""
        self._count(-1, int(ended))

    def frame_done(self) -> None:
        """Count a labelled frame; the next heartbeat sends it."""
        with self._lock:
            self._frames += 1

    def register(self, model: ModelInfo) -> None:
        """Publish the bundle to front ends; heartbeats keep it published."""
        self._connection.hset(keys.MODELS, model.name, model.model_dump_json())
        with self._lock:
            self._model = model

    def close(self) -> None:
        """Remove the registration."""
        self._stop.set()
        self._thread.join()
        with suppress(redis.RedisError):  # it expires by itself
            self._connection.delete(keys.worker(self._info.name))
            self._connection.zrem(keys.WORKERS, self._info.name)

    def _count(self, running: int, done: int) -> None:
        with self._lock:
            running += self._info.jobs_running
            state = self._info.state
            if state in {"ready", "busy"}:
                state = "busy" if running else "ready"
            changes = {"state": state, "jobs_running": running, "jobs_done": self._info.jobs_done + done}
            self._info = self._info.model_copy(update=changes)
        self._try_beat()

    def _run(self) -> None:
        while not self._stop.wait(heartbeats.WORKER_S):
            self._try_beat()

    def _try_beat(self) -> None:
        try:
            self._beat()
        except redis.RedisError as error:  # Redis may return; the worker's main loop decides when to give up
            log.warning("registration_not_sent", error=str(error))

    def _beat(self) -> None:
        with self._lock:
            now = {"rss_bytes": _rss_bytes(), "frames_done": self._frames, **self._measure()}
            self._info = self._info.model_copy(update=now)
            names = [keys.worker(self._info.name), keys.WORKERS, keys.MODELS, keys.drained(self._info.name)]
            said = [self._info.name, self._info.model_dump_json(), str(heartbeats.WORKER_TTL_S)]
            if self._model is not None:
                said += [self._model.name, self._model.model_dump_json()]
            self._take(bool(self._connection.eval(WORKER_BEAT, len(names), *names, *said)))

    def _take(self, drained: bool) -> None:
        """An operator's wish; the next beat tells that it is followed."""
        if drained == self.drained:
            return
        self.drained = drained
        if self._info.state in {"ready", "busy"} or self._info.detail == DRAINED:
            state = "stopping" if drained else "busy" if self._info.jobs_running else "ready"
            self._info = self._info.model_copy(update={"state": state, "detail": DRAINED if drained else None})
        log.info("drained" if drained else "takes_jobs_again", jobs_running=self._info.jobs_running)


def _rss_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * resource.getpagesize()
