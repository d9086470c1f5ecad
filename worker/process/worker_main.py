"""One worker process: loads the bundle once, registers as ready, runs jobs until SIGTERM."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial

import redis
import structlog

from app.contract import keys, metrics
from app.contract.jobs import utc_now
from app.contract.priorities import queue_for
from app.contract.release import release
from app.contract.uploads import UnusableStoreError, UploadStore
from app.contract.workers import WorkerInfo
from model_store.bundle import BundleError, find_bundle, read_manifest
from worker.core.devices import DeviceError, DeviceFailedError, DeviceLostError
from worker.ensemble.precision import PrecisionError
from worker.errors import CommandError
from worker.faces import DetectorError
from worker.inference import serving
from worker.jobs.connection import Patience, address_of, connect
from worker.jobs.idle_unload import IdleUnloader
from worker.jobs.label_job import Service, give_up, label_job
from worker.jobs.registration import Registration, model_info
from worker.jobs.rq_worker import ResidentWorker
from worker.jobs.watchdog import EXIT_STATUS, Watchdog
from worker.process.gpu_use import GpuUse
from worker.settings import WorkerSettings

log = structlog.get_logger(__name__)


def serve(settings: WorkerSettings, name: str, on_stop: Callable[[], None]) -> None:
    """Serve the bundle until SIGTERM.  name: of this worker.  Raises: CommandError.

    on_stop: called on the signal, while jobs are handed back.
    """
    try:
        _serve(settings, name, on_stop)
    except (BundleError, DeviceError, DetectorError, PrecisionError, UnusableStoreError) as error:
        raise CommandError(str(error), lasting=True) from None
    except (DeviceFailedError, redis.RedisError) as error:
        raise CommandError(str(error)) from None


def _serve(settings: WorkerSettings, name: str, on_stop: Callable[[], None]) -> None:
    patience = Patience(address_of(settings.redis_url))
    connection = connect(settings.redis_url, patience)
    manifest = read_manifest(find_bundle(settings.bundle))
    queue = settings.default_queue
    starting = WorkerInfo(
        name=name,
        release=release(),
        state="starting",
        bundle=manifest.name,
        queue=queue,
        started_at=utc_now(),
        slots=settings.concurrency,
    )
    registration = Registration(connection, starting, GpuUse(lambda: serving.choose_device(settings.device)).measure)
    try:

        def load() -> serving.Serving:
            log.info("loading", bundle=settings.bundle, device=settings.device)
            loaded = serving.load(settings, jobs=settings.concurrency)
            metrics.add(connection, {metrics.MODEL_LOADS: 1})
            return loaded

        unloader = IdleUnloader(load, settings.idle_release_s, lambda detail: registration.say(detail=detail))
        about, mode = _about(unloader)
        registration.register(model_info(manifest, queue))
        stopping = threading.Event()

        def stop() -> None:
            stopping.set()
            unloader.stop()
            on_stop()
            patience.end()
            registration.say(state="stopping")

        watchdog = Watchdog(settings.stall_s, lambda: patience.waiting)
        store = UploadStore(settings.uploads)
        functions: dict[str, Callable[[str], object]] = {}
        worker = ResidentWorker(
            queue,
            connection,
            name,
            functions,
            stop,
            settings.concurrency,
            settings,
            lambda: give_up(service),
            lambda: registration.drained,
            queue_for(queue, "interactive"),
        )
        service = Service(settings, connection, store, unloader, registration, watchdog, stopping, worker.stop)
        functions[keys.LABEL_FUNCTION] = partial(label_job, service)
        registration.say(state="ready", **about)
        log.info("ready", bundle=manifest.name, mode=mode, concurrency=settings.concurrency, **about)
        worker.serve()
    finally:
        registration.close()
    if isinstance(service.fault, DeviceLostError):
        log.error("device_lost", why=str(service.fault))
        os._exit(EXIT_STATUS)  # without clean-up, which would use the lost device
    if service.fault is not None:
        raise CommandError(str(service.fault))
    log.info("stopped")


def _about(unloader: IdleUnloader) -> tuple[dict[str, str], str]:
    """Fields of the worker's record, and the engine's mode.

    A function, since a reference in `_serve` would keep the loaded model in memory until the process ends.
    """
    with unloader.using() as loaded:
        about = {
            "version": loaded.manifest.version,
            "device": loaded.device,
            "precision": str(loaded.precision),
            "detector": loaded.pipeline.detector_name,
        }
        return about, loaded.pipeline.engine.mode
