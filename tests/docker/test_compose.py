"""The images and docker-compose.yml as they are deployed, by `make test-docker`, where there is a Docker engine.

On a host with an NVIDIA GPU the worker for it is tested, elsewhere the one for CPUs.  Docker's own variables count:
COMPOSE_FILE may add a file with build arguments for a network with mirrors of its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import pytest

from worker.demo.clip import FPS, HEIGHT, SECONDS, WIDTH, make_clip
from worker.demo.processes import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]  # the worker's image for GPUs holds gigabytes

ROOT = Path(__file__).resolve().parents[2]
WORKER = "worker-cpu" if shutil.which("nvidia-smi") is None else "worker"
SERVICES = ("redis", "app", WORKER)
KEY = "a-key-of-the-tests"
REPEATS = 20  # of the demo's clip: the job is to last while services are stopped
REACHED_S = 300

Job = dict[str, Any]


class Compose:
    """The stack under a project name, a port and secrets of its own."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.project = f"mien-test-{secrets.token_hex(4)}"
        self._environment = os.environ | {
            "MIEN_REDIS_PASSWORD": secrets.token_hex(16),
            "MIEN_API_KEYS": KEY,
            "MIEN_PUBLISH": f"127.0.0.1:{port}",
        }

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`docker compose ARGUMENTS`; without check its failure is answered."""
        command = ["docker", "compose", "--project-name", self.project, "--profile", "cpu", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in a service's container."""
        return self("exec", "--no-TTY", service, *command, check=False)


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    """The running stack; its containers, networks and volumes are gone at the end, its images stay."""
    stack = Compose()
    try:
        stack("up", "--build", "--detach", "--wait", *SERVICES)
        yield stack
    finally:
        stack("down", "--volumes", "--remove-orphans", check=False)


@pytest.fixture
def api(compose: Compose) -> Iterator[httpx.Client]:
    """A client with the key."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=compose.url, headers=headers, timeout=90, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's clip."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="module")
def long_clip(clip: Path) -> Path:
    """The same, over and over."""
    path = clip.with_name("long.mp4")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    for _ in range(REPEATS):
        reader = cv2.VideoCapture(str(clip))
        while (read := reader.read())[0]:
            writer.write(read[1])
        reader.release()
    writer.release()
    return path


def test_labels_every_frame(api: httpx.Client, clip: Path) -> None:
    """A real face goes through all containers."""
    job = _when(api, _submit(api, clip), _ended)
    assert job["state"] == "succeeded", job["error"]
    records = api.get(f"/v1/jobs/{job['id']}/frames", params={"limit": 5000}).json()["frames"]
    assert [record["frame_index"] for record in records] == list(range(FPS * SECONDS))
    assert all(len(record["faces"]) == 1 for record in records)


def test_wants_a_key(compose: Compose) -> None:
    """Docker's port is no way around the key."""
    answer = httpx.get(f"{compose.url}/v1/jobs", trust_env=False)
    assert answer.status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.parametrize("service", ["redis", WORKER])
def test_a_killed_service_loses_nothing(compose: Compose, api: httpx.Client, long_clip: Path, service: str) -> None:
    """A job outlives the worker that runs it, and the Redis that knows of it."""
    job = _when(api, _submit(api, long_clip), _under_way)
    compose("kill", service)
    compose("up", "--detach", "--wait", *SERVICES)
    _ends_whole(api, job)


def test_a_stopped_worker_hands_over(compose: Compose, api: httpx.Client, long_clip: Path) -> None:
    """`docker compose stop` puts the running job back, uncharged."""
    job = _when(api, _submit(api, long_clip), _under_way)
    compose("stop", WORKER)
    job = api.get(f"/v1/jobs/{job['id']}").json()
    assert (job["state"], job["attempts"]) == ("queued", 0)
    compose("start", WORKER)
    _ends_whole(api, job)


@pytest.mark.parametrize("service", ["app", WORKER])
def test_containers_are_hardened(compose: Compose, service: str) -> None:
    """No root, no writable image; uploads are the containers' own."""
    assert compose.inside(service, "id", "-u").stdout.strip() == "10001"
    assert "Read-only file system" in compose.inside(service, "touch", "/opt/venv/x").stderr
    assert compose.inside(service, "sh", "-c", "touch /data/uploads/x && rm /data/uploads/x").returncode == 0


def test_front_end_has_no_torch(compose: Compose) -> None:
    """The API's image stays small."""
    assert "No module named 'torch'" in compose.inside("app", "python3", "-c", "import torch").stderr


def test_worker_reaches_nothing_outside(compose: Compose) -> None:
    """Whatever a video makes of its decoder has nobody to talk to: not even the index that its image was built from."""
    call = "import socket, sys; print(socket.create_connection((sys.argv[1], 443), 10).getpeername()[0])"
    address = compose.inside("app", "python3", "-c", call, "pypi.org").stdout.strip()
    if not address:
        pytest.skip("nothing outside is reached from here, by the API's container either")
    from_worker = compose.inside(WORKER, "python3", "-c", call, address)
    assert (from_worker.returncode, from_worker.stdout) == (
        1,
        "",
    )  # timed out, or unreachable: Docker's versions differ
    assert "create_connection" in from_worker.stderr


def test_redis_wants_its_password(compose: Compose) -> None:
    """The internal network is not its only guard."""
    assert "NOAUTH" in compose.inside("redis", "redis-cli", "ping").stdout


def _submit(api: httpx.Client, video: Path) -> Job:
    answer = api.post("/v1/jobs", files={"file": (video.name, video.read_bytes())})
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    job: Job = answer.json()
    return job


def _when(api: httpx.Client, job: Job, reached: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + REACHED_S
    while not reached(job):
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
        job = api.get(f"/v1/jobs/{job['id']}").json()
    return job


def _under_way(job: Job) -> bool:
    assert not _ended(job), job
    return bool(job["state"] == "running" and job["progress"]["frames_done"])


def _ended(job: Job) -> bool:
    return job["state"] in {"succeeded", "failed", "canceled"}


def _ends_whole(api: httpx.Client, job: Job) -> None:
    job = _when(api, job, _ended)
    assert job["state"] == "succeeded", job["error"]
    assert job["progress"]["frames_done"] == REPEATS * FPS * SECONDS
