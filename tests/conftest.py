"""A Redis of the tests' own: on a free port, in an empty folder, gone at the end.

The whole service with real processes, for tests anywhere, is in `tests/service.py`.
"""

from __future__ import annotations

import os

# Two processes of tests, each with threads on every core, wait for each other's: training tests take ten times as long.
# PyTorch reads the first when it is loaded; the second is the worker's, which sets PyTorch's.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MIEN_THREADS", "1")

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import worker  # noqa: F401  # restricts OpenCV, which reads its settings when it is loaded
from worker.demo.processes import free_port

pytest_plugins = ["tests.service"]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a running Redis server that keeps nothing; shared by all tests."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("redis-server is not installed (Debian: apt-get install redis-server)")
    folder: Path = tmp_path_factory.mktemp("redis")
    port = free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL) as server:
        client = redis.Redis(port=port)
        deadline = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        client.close()
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of an empty Redis database."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` run where there is one."""
    if item.get_closest_marker("gpu") is not None:
        import torch  # most tests of the front end do without it

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
