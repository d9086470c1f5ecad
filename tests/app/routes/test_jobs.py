"""Jobs: read, list, wait, cancel, delete."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.contract import keys
from app.contract.workers import PriorInfo
from worker.jobs.execution import CanceledError, LostError

Submit = Callable[..., str]
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)

# The fields of a job, as the public contract lists them.
JOB_FIELDS = {
    "worker",
    "stage",
    "batch",
    "id",
    "state",
    "created_at",
    "started_at",
    "finished_at",
    "expires_at",
    "options",
    "model",
    "input",
    "progress",
    "labels",
    "label_shares",
    "name",
    "metadata",
    "persons",
    "detector",
    "prior",
    "error",
    "warnings",
    "attempts",
    "queue_position",
    "links",
}


def test_a_new_job_has_every_field(api: httpx.Client, submit: Submit) -> None:
    """All contract fields are there from the start; what no worker knows yet is null."""
    job = api.get(f"/v1/jobs/{submit()}").json()
    assert set(job) == JOB_FIELDS
    assert job["state"] == "queued"
    assert job["model"] == {"name": "default", "version": None}
    assert job["labels"] is None
    assert job["detector"] is None
    assert job["queue_position"] == 0
    assert job["links"]["self"] == f"{api.base_url}/v1/jobs/{job['id']}".replace("//v1", "/v1")
    assert set(job["links"]) == {
        *("self", "frames", "summary", "events", "timeline", "video"),
        *("preview", "thumbnail", "cancel"),
    }


def test_many_at_once_are_all_answered(api: httpx.Client, submit: Submit) -> None:
    """More requests at once than there are connections to Redis wait for one; none is refused."""
    path = f"/v1/jobs/{submit()}"

    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=api.base_url, limits=limits, timeout=60) as client:
            return await asyncio.gather(*(client.get(path) for _ in range(250)))

    assert {answer.status_code for answer in asyncio.run(ask())} == {200}


def test_a_live_worker_makes_the_model_known(api: httpx.Client, submit: Submit, worker: Any) -> None:
    """With a worker alive, version, labels and detector are known at once, and members are checked against it."""
    worker.announce(members=("cnn",))
    job = api.get(f"/v1/jobs/{submit()}").json()
    assert job["model"] == {"name": "default", "version": "1"}
    assert len(job["labels"]) == 7
    assert job["detector"] == "yunet"
    answer = api.post("/v1/jobs", content=MP4, params={"members": "cnn_rnn"})
    assert (answer.status_code, answer.json()["field"]) == (422, "members")


def test_a_prior_is_the_models_to_have(api: httpx.Client, worker: Any) -> None:
    """What the scores are given at is known at once: what was asked for, or the model's default; a model without any
    refuses one, with a sentence that names it."""
    worker.announce(prior=PriorInfo(shares=(1 / 7,) * 7, trained=1, default=0.5))
    assert api.get("/v1/models/default").json()["prior"]["default"] == 0.5
    for given, kept, used in (({}, None, 0.5), ({"prior": "balanced"}, "balanced", 0), ({"prior": "0.25"}, 0.25, 0.25)):
        job = api.post("/v1/jobs", content=MP4, params=given).json()
        assert (job["options"]["prior"], job["prior"]) == (kept, used)
    worker.announce()
    assert api.post("/v1/jobs", content=MP4).json()["prior"] is None
    problem = api.post("/v1/jobs", content=MP4, params={"prior": "training"}).json()
    assert (problem["code"], problem["field"]) == ("invalid_option", "prior")
    assert "model 'default' does not tell how frequent its labels were" in problem["detail"]


def test_a_named_model_has_its_own_queue(api: httpx.Client, worker: Any) -> None:
    """A bundle that was served once is accepted by name, and its job waits in its queue."""
    worker.announce(bundle="other")
    job = api.post("/v1/jobs", content=MP4, params={"model": "other"}).json()
    assert job["model"]["name"] == "other"
    assert worker.redis.lrange("rq:queue:mien-other", 0, -1) == [job["id"].encode()]


def test_a_bundle_whose_folder_has_another_name(make_api: Any, worker: Any) -> None:
    """It is found by its own name, by its folder's, and as the default; its jobs wait where its workers look."""
    api = make_api(bundle="/bundles/folder")
    assert api.post("/v1/jobs", content=MP4).json()["model"] == {"name": "folder", "version": None}
    worker.announce(bundle="own", members=("cnn",), queue="mien-folder")
    for options in ({}, {"model": "own"}, {"model": "folder"}):
        job = api.post("/v1/jobs", content=MP4, params=options).json()
        assert job["model"] == {"name": "own", "version": "1"}
        assert job["labels"] is not None
        answer = api.post("/v1/jobs", content=MP4, params={**options, "members": "cnn_rnn"})
        assert (answer.status_code, answer.json()["field"]) == (422, "members")
    assert worker.redis.llen("rq:queue:mien-folder") == 4
    assert worker.redis.keys("rq:queue:mien-*") == [b"rq:queue:mien-folder"]
    worker.redis.delete(keys.worker("manual-own"))
    assert api.post("/v1/jobs", content=MP4, params={"model": "own"}).json()["queue_position"] == 4
    worker.announce(bundle="successor", queue="mien-folder")
    assert api.post("/v1/jobs", content=MP4).json()["model"]["name"] == "successor"
    gone = api.post("/v1/jobs", content=MP4, params={"model": "own"})
    assert (gone.status_code, gone.json()["field"]) == (422, "model")


@pytest.mark.parametrize("job_id", ["0" * 32, "nope", "..", "%2e%2e", "A" * 32, "0" * 31 + "*"])
def test_unknown_jobs_are_not_found(job_id: str, api: httpx.Client) -> None:
    """An invalid job id is 404, for every call."""
    for method, path in (("GET", ""), ("GET", "/frames"), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/summary")):
        answer = api.request(method, f"/v1/jobs/{job_id}{path}")
        assert answer.status_code in {404, 405}
        assert answer.json()["code"] in {"not_found", "method_not_allowed"}


def test_an_expired_job_is_gone(api: httpx.Client, submit: Submit, worker: Any) -> None:
    """A job that was there and has expired is 410, not 404."""
    job_id = submit()
    worker.redis.delete(f"mien:job:{job_id}")
    answer = api.get(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json()["code"]) == (410, "gone")
    assert api.get("/v1/jobs").json()["jobs"] == []


def test_list_pages_are_complete_and_newest_first(api: httpx.Client, submit: Submit) -> None:
    """Pages of any size together show every job once, newest first, also when jobs come in between."""
    ids = [submit() for _ in range(7)]
    for limit in (1, 3, 7, 100):
        shown: list[str] = []
        path: str | None = f"/v1/jobs?limit={limit}"
        while path:
            page = api.get(path).json()
            assert len(page["jobs"]) <= limit
            shown += [job["id"] for job in page["jobs"]]
            path = page["next"]
        assert sorted(shown) == sorted(ids)
        times = [api.get(f"/v1/jobs/{job_id}").json()["created_at"] for job_id in shown]
        assert times == sorted(times, reverse=True)
    page = api.get("/v1/jobs?limit=3").json()
    submit()
    rest = api.get(page["next"].replace("limit=3", "limit=100")).json()
    assert {job["id"] for job in page["jobs"]} | {job["id"] for job in rest["jobs"]} == set(ids)


def test_list_filters_by_state(api: httpx.Client, submit: Submit, worker: Any) -> None:
    """`state` shows the jobs in that state and no others."""
    waiting, running = submit(), submit()
    worker.claim(running)
    assert [job["id"] for job in api.get("/v1/jobs?state=running").json()["jobs"]] == [running]
    assert [job["id"] for job in api.get("/v1/jobs?state=queued").json()["jobs"]] == [waiting]
    assert api.get("/v1/jobs?state=failed").json() == {"jobs": [], "next": None}
    for bad in ("state=asleep", "limit=0", "limit=1001", "limit=x", "cursor=garbage", "cursor=MTIz"):
        answer = api.get(f"/v1/jobs?{bad}")
        assert (answer.status_code, answer.json()["field"]) == (422, bad.split("=")[0])


def test_queue_position_counts_jobs_before(api: httpx.Client, submit: Submit, worker: Any) -> None:
    """The position is the number of jobs that run first; null once a worker has it."""
    first, second, third = submit(), submit(), submit()
    positions = [api.get(f"/v1/jobs/{job_id}").json()["queue_position"] for job_id in (first, second, third)]
    assert positions == [0, 1, 2]
    worker.claim(first)
    positions = [api.get(f"/v1/jobs/{job_id}").json()["queue_position"] for job_id in (first, second, third)]
    assert positions == [None, 0, 1]
    assert [job["queue_position"] for job in api.get("/v1/jobs").json()["jobs"]] == [1, 0, None]


def test_etag_saves_the_body(api: httpx.Client, submit: Submit, worker: Any) -> None:
    """An unchanged job is 304 for its ETag; after any change it is 200 with another ETag."""
    job_id = submit()
    first = api.get(f"/v1/jobs/{job_id}")
    again = api.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    worker.claim(job_id)
    changed = api.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]


def test_long_poll_returns_at_the_change(api: httpx.Client, submit: Submit, worker: Any) -> None:
    """`wait` answers when the state changes, long before its time is up, and at once for an ended job."""
    job_id = submit()
    began = time.monotonic()
    threading.Timer(0.4, worker.claim, (job_id,)).start()
    job = api.get(f"/v1/jobs/{job_id}?wait=20").json()
    assert job["state"] == "running"
    assert 0.3 < time.monotonic() - began < 5
    worker.finish(job_id)
    began = time.monotonic()
    assert api.get(f"/v1/jobs/{job_id}?wait=20").json()["state"] == "succeeded"
    assert time.monotonic() - began < 1


def test_long_poll_ends_by_itself(api: httpx.Client, submit: Submit) -> None:
    """Without a change `wait` returns after its time, with 304 for the newest ETag."""
    job_id = submit()
    tag = api.get(f"/v1/jobs/{job_id}").headers["etag"]
    began = time.monotonic()
    assert api.get(f"/v1/jobs/{job_id}?wait=1", headers={"If-None-Match": tag}).status_code == 304
    assert 0.9 < time.monotonic() - began < 4
    assert api.get(f"/v1/jobs/{job_id}?wait=61").status_code == 422


def test_long_poll_with_an_old_version_does_not_wait(api: httpx.Client, submit: Submit) -> None:
    """A client with an older ETag gets the newest version at once."""
    began = time.monotonic()
    assert api.get(f"/v1/jobs/{submit()}?wait=20", headers={"If-None-Match": '"older"'}).status_code == 200
    assert time.monotonic() - began < 2


def test_cancel_a_queued_job(api: httpx.Client, submit: Submit, worker: Any, uploads: Path) -> None:
    """A queued job that is cancelled never starts, and its input is gone at once."""
    job_id = submit()
    answer = api.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "canceled")
    assert answer.json()["finished_at"] is not None
    with pytest.raises(LostError, match="canceled"):
        worker.claim(job_id)
    assert worker.redis.llen("rq:queue:mien-default") == 0
    assert list(uploads.iterdir()) == []
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert api.get(f"/v1/jobs/{job_id}/frames").json()["complete"] is True


def test_cancel_a_running_job_keeps_its_results(
    api: httpx.Client, submit: Submit, worker: Any, make_frames: Any
) -> None:
    """A running job learns of the cancellation with its next batch; what it wrote stays readable."""
    job_id = submit()
    worker.claim(job_id)
    frames = make_frames(100)
    worker.append(job_id, frames[:64])
    assert api.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "running"
    with pytest.raises(CanceledError):
        worker.append(job_id, frames[64:])
    worker.finish(job_id, "canceled")
    page = api.get(f"/v1/jobs/{job_id}/frames").json()
    assert (len(page["frames"]), page["next"], page["complete"]) == (100, None, True)


def test_an_ended_job_cannot_be_cancelled(api: httpx.Client, submit: Submit, worker: Any, make_frames: Any) -> None:
    """Cancelling what has ended is a conflict."""
    job_id = submit()
    worker.label(job_id, make_frames(3))
    answer = api.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_delete_leaves_nothing(
    state: str, api: httpx.Client, submit: Submit, worker: Any, make_frames: Any, uploads: Path
) -> None:
    """After DELETE neither Redis nor the upload store knows the job, and a late worker writes nothing."""
    job_id = submit()
    frames = make_frames(10)
    if state == "running":
        worker.claim(job_id)
        worker.append(job_id, frames)
    elif state == "succeeded":
        worker.label(job_id, frames)
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    if state == "running":
        with pytest.raises(LostError, match="gone"):
            worker.append(job_id, frames)
        with pytest.raises(LostError, match="gone"):
            worker.finish(job_id)
    assert list(uploads.iterdir()) == []
    assert [key for key in worker.redis.keys("*") if job_id.encode() in key] == []
    assert worker.redis.llen("rq:queue:mien-default") == 0
    assert api.get(f"/v1/jobs/{job_id}").status_code == 404
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 404


def test_prefer_wait_answers_the_finished_job(api: httpx.Client, worker: Any, make_frames: Any) -> None:
    """`Prefer: wait` answers 200 with the finished job, and 202 where it does not end in time."""

    def work() -> None:
        deadline = time.monotonic() + 10
        while not (waiting := worker.redis.lrange("rq:queue:mien-default", 0, -1)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        worker.label(waiting[0].decode(), make_frames(5))

    with ThreadPoolExecutor() as pool:
        done = pool.submit(work)
        answer = api.post("/v1/jobs", content=MP4, headers={"Prefer": "respond-async, wait=10"})
        done.result()
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=10"
    late = api.post("/v1/jobs", content=MP4, headers={"Prefer": "wait=1"})
    assert (late.status_code, late.json()["state"]) == (202, "queued")
    assert "retry-after" in late.headers


def test_ten_at_once_with_one_idempotency_key(api: httpx.Client, redis_url: str, uploads: Path) -> None:
    """Ten clients that send the same key and body at once all get the same one job."""

    def post(_: int) -> httpx.Response:
        return httpx.post(
            f"{api.base_url}/v1/jobs", files={"file": ("a", MP4)}, headers={"Idempotency-Key": "k1"}, timeout=30
        )

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(post, range(10)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 9
    assert len(api.get("/v1/jobs").json()["jobs"]) == 1
    assert len(list(uploads.iterdir())) == 1
    with redis.Redis.from_url(redis_url) as connection:
        assert connection.llen("rq:queue:mien-default") == 1


def test_idempotency_key_with_another_body(api: httpx.Client, uploads: Path) -> None:
    """The same key with another body or other options is refused; packing does not matter; DELETE frees the key."""
    headers = {"Idempotency-Key": "k"}
    job = api.post("/v1/jobs", content=MP4, headers=headers).json()
    same = api.post("/v1/jobs", files={"file": ("b", MP4)}, headers=headers)
    assert same.json()["id"] == job["id"]
    for other in ({"content": MP4 + b"1"}, {"content": MP4, "params": {"fps": "5"}}):
        answer = api.post("/v1/jobs", headers=headers, **other)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert len(list(uploads.iterdir())) == 1
    api.delete(f"/v1/jobs/{job['id']}")
    fresh = api.post("/v1/jobs", content=MP4 + b"1", headers=headers)
    assert fresh.status_code == 202
    assert api.post("/v1/jobs", content=MP4, headers={"Idempotency-Key": "a b"}).status_code == 422


@pytest.mark.parametrize("end", ["succeeded", "canceled"])
def test_idempotency_keys_are_remembered_as_long_as_results(
    end: str, api: httpx.Client, worker: Any, make_frames: Any
) -> None:
    """However long a job waits and runs, the key ends with its record, not before."""
    headers = {"Idempotency-Key": "k"}
    job_id = api.post("/v1/jobs", content=MP4, headers=headers).json()["id"]
    (key,) = worker.redis.keys("mien:idempotency:*")
    assert worker.redis.ttl(key) == worker.redis.ttl(keys.job(job_id)) == -1  # Redis: for ever
    if end == "canceled":
        api.post(f"/v1/jobs/{job_id}/cancel")
    else:
        worker.label(job_id, make_frames(3))
    left = worker.redis.ttl(keys.job(job_id))
    assert left > 0
    assert abs(worker.redis.ttl(key) - left) <= 1
    assert api.post("/v1/jobs", content=MP4, headers=headers).json()["id"] == job_id
