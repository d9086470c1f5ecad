"""The release before and this one beside each other, as real processes: the promise is one minor version apart.

Workers are upgraded before front ends: then every job is labelled as soon as ever.  In the other order jobs wait for a
worker of this release, and nothing is lost.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.service import ROOT, Api, module_of, serving
from tests.waiting import until
from worker.demo.processes import free_port

if TYPE_CHECKING:
    from tests.service import Clips

pytestmark = [pytest.mark.e2e, pytest.mark.long]

TAG = "v0.1.0"
SETTINGS = {"MIEN_HEARTBEAT_S": "1", "MIEN_MIN_UPLOAD_RATE": "0"}
REFUSALS = 3  # of a worker that does not know what a job asks for, so many are waited for


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the release before."""
    known = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{TAG}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if known.returncode:
        pytest.skip(f"this clone has no tag {TAG} (git fetch --tags --unshallow)")
    folder = tmp_path_factory.mktemp("release")
    archive = subprocess.run(["git", "archive", TAG], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


@pytest.fixture
def clip(clips: Clips) -> bytes:
    return clips.video(clips.pictures(70, (160, 120)))


def running(tmp_path: Path, code: Path) -> Iterator[Api]:
    """Redis and a front end of one release."""
    with (
        serving(tmp_path, False, code, **SETTINGS) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http,
    ):
        service.wait_live()
        yield Api(http, service)


@pytest.fixture
def former(tmp_path: Path, release: Path) -> Iterator[Api]:
    """A front end of the release before."""
    yield from running(tmp_path, release)


@pytest.fixture
def present(tmp_path: Path) -> Iterator[Api]:
    """A front end of this release."""
    yield from running(tmp_path, ROOT)


def test_workers_first(former: Api, release: Path, clip: bytes) -> None:
    """The former front end with a worker of this release labels, draws, and shows it all; the front end that follows
    goes on with what it made, and both show each other's jobs."""
    service = former.service
    waiting = former.submit(clip)["id"]
    service.start_worker("worker")
    service.wait_ready()
    job = former.ended(waiting)
    assert (job["state"], job["attempts"]) == ("succeeded", 1)
    kept, records = former.label(clip, keep_input=True)
    assert len(records) == 70
    until(lambda: former.http.get(f"/v1/jobs/{kept['id']}/video").status_code == 200)
    port = free_port()
    service.start("present", *module_of(ROOT, "app"), "--port", str(port))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
        until(lambda: _lives(http))
        present = Api(http, service)
        assert present.frames(kept["id"]) == records
        new = present.ended(present.submit(clip)["id"])
        shown = former.http.get("/v1/jobs").json()["jobs"]
        assert [one["id"] for one in shown] == [new["id"], kept["id"], waiting]
        assert [one["id"] for one in http.get("/v1/jobs").json()["jobs"]] == [one["id"] for one in shown]


def test_front_ends_first(present: Api, release: Path, clip: bytes) -> None:
    """A former worker refuses what this front end queues: the job waits, uncharged, is labelled once by a worker of
    this release, and videos are drawn by whoever is there."""
    service = present.service
    old = service.start_worker("old", release)
    service.wait_ready()
    job_id = present.submit(clip, keep_input=True)["id"]
    urgent = present.submit(clip, priority="interactive")["id"]  # a queue that it does not know
    until(lambda: old.log.read_text().count("NotAllowedError") >= REFUSALS)
    for waiting in (job_id, urgent):
        job = present.job(waiting)
        assert (job["state"], job["attempts"]) == ("queued", 0)
    service.start_worker("new")
    for waiting in (job_id, urgent):
        ended = present.ended(waiting)
        assert (ended["state"], ended["attempts"]) == ("succeeded", 1)
    service.stop(service.process("new"))
    until(lambda: present.http.get(f"/v1/jobs/{job_id}/video").status_code == 200)
    assert present.http.delete(f"/v1/jobs/{job_id}").status_code == 204


def _lives(http: httpx.Client) -> bool:
    try:
        return http.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False
