"""The API under test, as a real server in a thread, and a worker that writes what a test says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest
import redis
import uvicorn

from app.contract import heartbeats
from app.contract.frames import Face, Frame
from app.contract.uploads import UploadStore
from app.main import create_app
from app.settings import Settings
from tests.manual_worker import LABELS, ManualWorker
from worker.demo.processes import free_port


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    """Folder of the upload store."""
    return tmp_path / "uploads"


MakeApi = Callable[..., httpx.Client]


@pytest.fixture
def make_api(redis_url: str, uploads: Path) -> Iterator[MakeApi]:
    """Starts a front end with the given settings; returns a client for it."""
    with ExitStack() as stack:

        def make(**settings: Any) -> httpx.Client:
            values = {"redis_url": redis_url, "uploads": str(uploads), **settings}
            base = stack.enter_context(serving(Settings(**values)))
            return stack.enter_context(httpx.Client(base_url=base, timeout=30))

        yield make


@pytest.fixture
def api(make_api: MakeApi) -> httpx.Client:
    """A client for a front end with default settings."""
    return make_api()


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """A front end on a free port, in a thread -> its base URL."""
    config = uvicorn.Config(
        create_app(settings),
        host="127.0.0.1",
        port=0,
        log_config=None,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of a running S3 service, moto's; shared by all tests."""
    port = free_port()
    program = Path(sys.executable).parent / "moto_server"
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([program, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(url, trust_env=False)
                break
            except httpx.TransportError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield url
        server.terminate()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A client of an S3 service without buckets, which fsspec's `s3` reaches, too."""
    account = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (account | {"AWS_ENDPOINT_URL": s3_server}).items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # they keep their endpoint
    with httpx.Client(base_url=s3_server, trust_env=False) as client:
        client.post("/moto-api/reset").raise_for_status()
        yield client


@pytest.fixture
def worker(redis_url: str, uploads: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManualWorker]:
    """A scripted worker; its record lasts until the test changes it."""
    monkeypatch.setattr(heartbeats, "WORKER_S", 3600)
    monkeypatch.setattr(heartbeats, "WORKER_TTL_S", 3600)
    with redis.Redis.from_url(redis_url) as connection:
        worker = ManualWorker(connection, UploadStore(str(uploads)))
        yield worker
        worker.close()


MakeFrames = Callable[..., list[Frame]]


@pytest.fixture
def make_frames() -> MakeFrames:
    """Makes frames: one or more smoothly changing faces in each, or none in every `empty_every`th."""

    def make(count: int, faces: int = 1, fps: float = 25, empty_every: int = 0, members: int = 3) -> list[Frame]:
        return [
            Frame(i, round(i / fps, 6), () if empty_every and i % empty_every == 0 else _faces(i, faces, members))
            for i in range(count)
        ]

    return make


def _faces(index: int, count: int, members: int) -> tuple[Face, ...]:
    return tuple(
        Face(
            track_id=track,
            bbox=(10.0 + track * 50, 20.5, 40.0, 40.0),
            detection_score=0.9,
            scores=_scores(index, track),
            members=tuple(_scores(index + member, track) for member in range(members)),
        )
        for track in range(count)
    )


def _scores(index: int, track: int) -> tuple[float, ...]:
    best = (index // 40 + track) % len(LABELS)
    return tuple(0.4 if k == best else 0.1 for k in range(len(LABELS)))


@pytest.fixture
def submit(api: httpx.Client) -> Callable[..., str]:
    """Submits a small video -> the job's id."""

    def post(client: httpx.Client = api, **options: Any) -> str:
        answer = client.post("/v1/jobs", files={"file": ("a.mp4", MP4)}, data=options)
        assert answer.status_code == 202, answer.text
        job_id: str = json.loads(answer.content)["id"]
        return job_id

    return post


# The start of an MP4; the front end looks no further.
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)
