"""Write access to Redis can run the contract's functions only; bundles with pickles are rejected."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from app.contract import keys
from app.contract.renditions import VIDEO
from model_store.bundle import BUNDLES_DIR
from tests.hostile.conftest import WITHIN_S
from tests.service import ROOT, no_settings

if TYPE_CHECKING:
    from tests.hostile.conftest import HostileApi
    from tests.service import Clips, Service

pytestmark = pytest.mark.e2e

LABEL_QUEUE = "mien-default"


class Harmful:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._folder),)


def wait_until_gone(connection: redis.Redis, queue: str) -> None:
    """Until workers have taken everything out of the queue."""
    deadline = time.monotonic() + WITHIN_S
    while connection.llen(f"rq:queue:{queue}") or connection.zcard(f"rq:wip:{queue}"):
        assert time.monotonic() < deadline, "the worker does not take it"
        time.sleep(0.05)


@pytest.mark.parametrize("queue", [LABEL_QUEUE, keys.RENDER_QUEUE])
def test_other_functions_are_not_run(service: Service, tmp_path: Path, queue: str) -> None:
    """A job that names another function, a file or a module ends as failed; nothing of it was called or imported."""
    made, module = tmp_path / "made", "mien_hostile_module"
    with redis.Redis.from_url(service.redis_url) as connection:
        into = Queue(queue, connection=connection, serializer=JSONSerializer)
        for function in (
            "os.mkdir",
            "builtins.exec",
            "worker.jobs.label_job.os.mkdir",
            f"{module}.run",
            "mien.label.os",
        ):
            into.enqueue(function, str(made))
        wait_until_gone(connection, queue)
    assert not made.exists()


def test_a_pickle_in_a_job_is_not_opened(service: Service, tmp_path: Path) -> None:
    """A job whose data is a pickle, as RQ's own default would write it, is never unpickled."""
    made = tmp_path / "made"
    with redis.Redis.from_url(service.redis_url) as connection:
        job = Job.create(keys.LABEL_FUNCTION, args=("0" * 32,), connection=connection, serializer=JSONSerializer)
        job.save()
        data = zlib.compress(pickle.dumps((keys.LABEL_FUNCTION, None, (Harmful(made),), {})))
        connection.hset(job.key, "data", data)
        connection.hset(job.key, "meta", pickle.dumps(Harmful(made)))
        connection.rpush(f"rq:queue:{LABEL_QUEUE}", job.id)
        wait_until_gone(connection, LABEL_QUEUE)
    assert not made.exists()


@pytest.mark.parametrize("argument", ["../../etc", "*", 7, None, {"a": 1}, ["x"], "0" * 32], ids=range(7))
def test_arguments_that_are_no_job(service: Service, hostile: HostileApi, clips: Clips, argument: object) -> None:
    """The contract's own functions, with arguments that are no job's id, do nothing."""
    with redis.Redis.from_url(service.redis_url) as connection:
        for queue, function in ((LABEL_QUEUE, keys.LABEL_FUNCTION), (keys.RENDER_QUEUE, VIDEO.function)):
            Queue(queue, connection=connection, serializer=JSONSerializer).enqueue(function, argument)
            wait_until_gone(connection, queue)
    service.process("worker").check()


def test_a_bundle_with_a_pickle_is_not_served(service: Service, tmp_path: Path) -> None:
    """A worker refuses a bundle's folder with a pickle, with one clear line."""
    bundle, made, name = tmp_path / "mine", tmp_path / "made", "weights.pkl"
    shutil.copytree(BUNDLES_DIR / "default", bundle)
    (bundle / name).write_bytes(pickle.dumps(Harmful(made)))
    with no_settings():
        environment = os.environ | service.environment | {"MIEN_BUNDLE": str(bundle)}
    command = [sys.executable, "-m", "worker", "run"]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    said = [line for line in ended.stderr.splitlines() if name in line]
    assert len(said) == 1
    assert "pickle" in said[0]
    assert "Traceback" not in ended.stderr
    assert not made.exists()
