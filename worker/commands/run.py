"""`python -m worker run`: load the bundle once, say READY, take jobs until SIGTERM."""

from __future__ import annotations

import subprocess
import sys
import threading

import redis
import structlog

from app.contract.jobs import utc_now
from app.contract.uploads import UploadStore
from app.contract.workers import WorkerInfo
from model_store.bundle import BundleError, find_bundle, read_manifest
from worker import service, serving
from worker.commands import CommandError
from worker.ensemble.precision import PrecisionError
from worker.faces.yunet import DetectorError
from worker.logs import configure
from worker.presence import Presence, model_info
from worker.priority import step_back
from worker.resident import ResidentWorker, connect, process_name, run_until_stopped
from worker.settings import WorkerSettings

log = structlog.get_logger(__name__)


def command() -> None:
    """Serve the bundle `MIEN_BUNDLE` on `MIEN_DEVICE`; every setting is an environment variable, see the README."""
    settings = WorkerSettings()
    configure(settings)
    step_back(settings.nice)
    # Before CUDA is touched, and without it: draws annotated videos, so that the GPU never waits for that.
    renderer = subprocess.Popen([sys.executable, "-m", "worker.renderer"])
    try:
        _serve(settings)
    except (BundleError, serving.DeviceError, DetectorError, PrecisionError, redis.RedisError) as error:
        raise CommandError(str(error)) from None
    finally:
        renderer.terminate()
        renderer.wait()


def _serve(settings: WorkerSettings) -> None:
    connection = connect(settings.redis_url)
    manifest = read_manifest(find_bundle(settings.bundle))
    queue = settings.default_queue
    name = process_name()
    starting = WorkerInfo(name=name, state="starting", bundle=manifest.name, queue=queue, started_at=utc_now())
    presence = Presence(connection, starting)
    try:
        loaded = serving.load(settings)
        presence.register(model_info(manifest, queue))
        stopping = threading.Event()
        store = UploadStore(settings.uploads)
        service.install(service.Service(settings, connection, store, loaded, presence, stopping))
        about = {
            "version": manifest.version,
            "device": loaded.device,
            "precision": loaded.precision,
            "detector": loaded.pipeline.detector.name,
        }
        presence.say(state="ready", **about)
        log.info("ready", bundle=manifest.name, mode=loaded.pipeline.engine.mode, **about)
        run_until_stopped(ResidentWorker(queue, connection, name, stopping.set))
    finally:
        presence.close()
    log.info("stopped")
