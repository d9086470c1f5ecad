"""`python -m app.admin`: the commands on a service with a scripted worker."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from typer.testing import CliRunner

from app.admin.__main__ import app
from app.contract import keys
from app.contract.uploads import UploadStore
from tests.manual_worker import ManualWorker
from tests.service import redis_rights
from worker.jobs.execution import LostError

Submit = Callable[..., str]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(redis_url: str, uploads: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as the Redis user of front ends -> exit status, output."""
    with redis.Redis.from_url(redis_url) as connection:
        connection.execute_command("ACL", "SETUSER", "mien", "reset", "on", ">password", *redis_rights())
    monkeypatch.setenv("MIEN_REDIS_URL", redis_url.replace("//", "//mien:password@"))
    monkeypatch.setenv("MIEN_UPLOADS", str(uploads))

    def command(*arguments: str) -> tuple[int, str]:
        ended = CliRunner().invoke(app, arguments)
        return ended.exit_code, ended.output

    return command


def state(api: httpx.Client, job_id: str) -> str:
    return str(api.get(f"/v1/jobs/{job_id}").json()["state"])


def test_workers_and_queues(run: Run, worker: ManualWorker, submit: Submit) -> None:
    """Each live worker and each queue is a line."""
    worker.announce(slots=2)
    first, _ = submit(), submit()
    status, shown = run("workers")
    assert (status, shown.split("\t")[:5]) == (0, ["manual-default", "-", "ready", "cpu", "0/2"])
    assert run("queues") == (0, f"mien-default\t2\t{first}\n")


def test_a_worker_is_drained(run: Run, worker: ManualWorker, api: httpx.Client) -> None:
    """A drained worker is not ready and reports why; `--off` reverts it; an unknown worker is an error."""
    worker.announce()
    registration = worker._registered["default"]
    assert run("drain", "manual-default")[0] == 0
    registration.say()
    registration.say()
    assert registration.drained
    answer = api.get("/health/ready")
    assert (answer.status_code, answer.json()["workers"][0]["state"]) == (503, "stopping")
    assert "drained" in answer.json()["missing"][0]
    assert run("drain", "manual-default", "--off")[0] == 0
    registration.say()
    registration.say()
    assert not registration.drained
    assert api.get("/health/ready").status_code == 200
    status, shown = run("drain", "nobody")
    assert (status, "no live worker" in shown) == (1, True)


def test_jobs_are_found_by_name(run: Run, api: httpx.Client) -> None:
    """Jobs of all owners are found by a part of their name, in any case, or by the start of their id."""
    content = b"\x00\x00\x00\x18ftypisom" + bytes(500)
    made = [api.post("/v1/jobs", files={"file": (f"{name}.mp4", content)}).json()["id"] for name in ("Lecture", "Walk")]
    status, shown = run("find", "lect")
    assert (status, shown.split("\t")[0], shown.strip().split("\t")[-1]) == (0, made[0], "Lecture.mp4")
    assert run("find", made[1][:12])[1].startswith(made[1])
    assert run("find", "nothing of it") == (0, "")


def test_a_running_job_is_requeued(run: Run, worker: ManualWorker, submit: Submit, api: httpx.Client) -> None:
    """The job waits again without charge; writes of its former execution are refused."""
    job_id = submit()
    execution = worker.claim(job_id)
    assert run("requeue", job_id)[0] == 0
    job = api.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["attempts"], job["queue_position"]) == ("queued", 0, 0)
    with pytest.raises(LostError):
        execution.seal("succeeded", {})
    assert run("requeue", job_id) == (0, "the job is already waiting\n")


def test_an_ended_job_is_requeued_where_its_input_was_kept(
    run: Run, worker: ManualWorker, submit: Submit, api: httpx.Client, make_frames: Any
) -> None:
    """A failed job is requeued and can succeed; without its input requeueing is an error."""
    kept, dropped = submit(keep_input=True), submit()
    for job_id in (kept, dropped):
        worker.claim(job_id)
        worker.finish(job_id, "failed", error={"code": "internal", "detail": "x"})
    assert run("requeue", kept)[0] == 0
    job = api.get(f"/v1/jobs/{kept}").json()
    assert (job["state"], job["error"], job["finished_at"], job["attempts"]) == ("queued", None, None, 0)
    assert worker.redis.ttl(keys.job(kept)) == -1
    worker.label(kept, make_frames(3))
    assert state(api, kept) == "succeeded"
    status, shown = run("requeue", dropped)
    assert (status, "input was deleted" in shown) == (1, True)
    assert state(api, dropped) == "failed"


def test_jobs_are_failed(run: Run, worker: ManualWorker, submit: Submit, api: httpx.Client, uploads: Path) -> None:
    """A waiting and a running job end as failed and lose their inputs; a job that has ended is an error."""
    running, waiting = submit(), submit()
    execution = worker.claim(running)
    for job_id in (running, waiting):
        assert run("fail", job_id) == (0, "the job is failed\n")
        job = api.get(f"/v1/jobs/{job_id}").json()
        assert (job["state"], job["error"]["code"]) == ("failed", "internal")
        assert run("fail", job_id)[0] == 1
    with pytest.raises(LostError):
        execution.seal("succeeded", {})
    assert list(uploads.iterdir()) == []
    assert run("fail", "0" * 32)[0] == run("fail", "../x")[0] == 1


def test_a_key_is_purged(run: Run, make_api: Any, uploads: Path) -> None:
    """All jobs of one key are removed, and no others."""
    content = b"\x00\x00\x00\x18ftypisom" + bytes(500)
    api = make_api(api_keys=("one", "two"))
    for key in ("one", "one", "two"):
        assert api.post("/v1/jobs", content=content, headers={"X-API-Key": key}).status_code == 202
    digest = hashlib.sha256(b"one").hexdigest()
    assert run("purge", "--key-sha256", digest, "--yes") == (0, "2 jobs removed\n")
    left = [len(api.get("/v1/jobs", headers={"X-API-Key": key}).json()["jobs"]) for key in ("one", "two")]
    assert left == [0, 1]
    assert len(list(uploads.iterdir())) == 1
    assert run("purge")[0] == 2


def test_what_does_not_fit_is_found(
    run: Run, worker: ManualWorker, submit: Submit, make_frames: Any, uploads: Path
) -> None:
    """A lost input, lost results, files without a record and an untracked job are reported, a line each."""
    good, lost, short, unknown = submit(), submit(), submit(), submit()
    worker.label(short, make_frames(130))
    assert run("verify") == (0, "")
    UploadStore(str(uploads)).delete(lost)
    worker.redis.rpop(keys.frames(short, worker.record(short).execution))
    worker.redis.hdel(keys.OPEN, good)
    worker.redis.delete(keys.job(unknown))
    status, shown = run("verify")
    assert status == 1
    found = {line.split()[0].rstrip(":"): line for line in shown.splitlines()[:4]}
    assert found.keys() == {good, lost, short, unknown}
    assert "input" in found[lost]
    assert "128 records of 130" in found[short]
    assert "recovery" in found[good]
    assert "without a record" in found[unknown]


def test_a_backup_is_restored(
    run: Run, worker: ManualWorker, submit: Submit, api: httpx.Client, make_frames: Any, uploads: Path, tmp_path: Path
) -> None:
    """After the loss of Redis and store a restore brings back results, waiting jobs and times to live."""
    kept, waits = submit(keep_input=True), submit()
    worker.label(kept, make_frames(70))
    before = [api.get(f"/v1/jobs/{kept}{path}").json() for path in ("", "/frames?members=true", "/summary")]
    saved = tmp_path / "saved.tar"
    status, shown = run("backup", str(saved))
    assert (status, shown.strip().rpartition(", ")[2]) == (0, "2 files")
    assert run("restore", str(saved))[0] == 1  # not over what is there
    worker.redis.flushall()
    for folder in uploads.iterdir():
        UploadStore(str(uploads)).delete(folder.name)
    assert run("restore", str(saved))[0] == 0
    assert [api.get(f"/v1/jobs/{kept}{path}").json() for path in ("", "/frames?members=true", "/summary")] == before
    assert 0 < worker.redis.ttl(keys.job(kept)) <= 3600
    assert run("verify") == (0, "")
    assert api.get(f"/v1/jobs/{waits}").json()["queue_position"] == 0
    worker.label(waits, make_frames(3))
    assert state(api, waits) == "succeeded"
    (tmp_path / "none.tar").write_bytes(b"no tar")
    worker.redis.flushall()
    assert run("restore", str(tmp_path / "none.tar"))[0] == 1


def test_without_redis_it_is_one_line(uploads: Path) -> None:
    """Errors are one line and no traceback; an invalid setting is status 2."""
    for url, status in (("redis://127.0.0.1:1/0", 1), ("http://x", 2)):
        environment = {**os.environ, "MIEN_REDIS_URL": url, "MIEN_UPLOADS": str(uploads)}
        command = [sys.executable, "-m", "app.admin", "queues"]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (status, 1), ended.stderr
