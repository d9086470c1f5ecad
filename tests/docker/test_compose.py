"""The images and docker-compose.yml as they are deployed, by `make test-docker`, where there is a Docker engine.

On a host with an NVIDIA GPU the worker for it is tested, elsewhere the one for CPUs.  Docker's own variables count:
COMPOSE_FILE may add a file with build arguments for a network with mirrors of its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.service import ROOT, Client, Clips, no_settings
from worker.demo.processes import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]  # the worker's image for GPUs holds gigabytes

WORKER = "worker-cpu" if shutil.which("nvidia-smi") is None else "worker"
SERVICES = ("redis", "app", WORKER)
KEY = "a-key-of-the-tests"
FRAMES = 150
LONG_FRAMES = 3000  # the job is to last while services are stopped


class Compose:
    """The stack under a project name, a port and secrets of its own."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.project = f"mien-test-{secrets.token_hex(4)}"
        with no_settings():
            self._environment = os.environ | {
                "MIEN_REDIS_PASSWORD": secrets.token_hex(16),
                "MIEN_API_KEYS": KEY,
                "MIEN_PUBLISH": f"127.0.0.1:{port}",
            }

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`docker compose ARGUMENTS`; without check its failure is answered."""
        own = ["--project-name", self.project, "--env-file", os.devnull, "--profile", "cpu"]
        command = ["docker", "compose", *own, *arguments]
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
    if shutil.which("docker") is None:
        pytest.fail("there is no `docker` command here; these tests need a Docker engine with compose", pytrace=False)
    stack = Compose()
    try:
        stack("up", "--build", "--detach", "--wait", *SERVICES)
        yield stack
    finally:
        stack("down", "--volumes", "--remove-orphans", check=False)


@pytest.fixture
def client(compose: Compose) -> Iterator[Client]:
    """A client with the key."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=compose.url, headers=headers, timeout=90, trust_env=False) as http:
        yield Client(http)


@pytest.fixture(scope="module")
def film(clips: Clips) -> bytes:
    """Long enough on any machine."""
    pictures = clips.pictures(FRAMES, (640, 360))
    return clips.video(pictures * (LONG_FRAMES // FRAMES))


def test_labels_every_frame(client: Client, clips: Clips) -> None:
    """A real face goes through all containers."""
    _, records = client.label(clips.video(clips.pictures(FRAMES)))
    assert [record["frame_index"] for record in records] == list(range(FRAMES))
    assert all(len(record["faces"]) == 1 for record in records)


def test_wants_a_key(compose: Compose) -> None:
    """Docker's port is no way around the key."""
    answer = httpx.get(f"{compose.url}/v1/jobs", trust_env=False)
    assert answer.status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.parametrize("service", ["redis", WORKER])
def test_a_killed_service_loses_nothing(compose: Compose, client: Client, film: bytes, service: str) -> None:
    """A job outlives the worker that runs it, and the Redis that knows of it."""
    job_id = client.running(client.submit(film)["id"])["id"]
    compose("kill", service)
    compose("up", "--detach", "--wait", *SERVICES)
    _ends_whole(client, job_id)


def test_a_stopped_worker_hands_over(compose: Compose, client: Client, film: bytes) -> None:
    """`docker compose stop` puts the running job back, uncharged."""
    job_id = client.running(client.submit(film)["id"])["id"]
    compose("stop", WORKER)
    job = client.job(job_id)
    assert (job["state"], job["attempts"]) == ("queued", 0)
    compose("start", WORKER)
    _ends_whole(client, job_id)


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
    """A compromised decoder reaches nothing on the network, not even the package index of its image."""
    call = "import socket, sys; print(socket.create_connection((sys.argv[1], 443), 10).getpeername()[0])"
    address = compose.inside("app", "python3", "-c", call, "pypi.org").stdout.strip()
    if not address:
        pytest.skip("nothing outside is reached from here, by the API's container either")
    from_worker = compose.inside(WORKER, "python3", "-c", call, address)
    # Timed out or unreachable, as Docker's version has it.
    assert (from_worker.returncode, from_worker.stdout) == (1, "")
    assert "create_connection" in from_worker.stderr


def test_redis_wants_its_password(compose: Compose) -> None:
    """The internal network is not its only guard."""
    assert "NOAUTH" in compose.inside("redis", "redis-cli", "ping").stdout


def _ends_whole(client: Client, job_id: str) -> None:
    job = client.ended(job_id)
    assert job["state"] == "succeeded", job["error"]
    assert job["progress"]["frames_done"] == LONG_FRAMES
