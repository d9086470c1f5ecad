"""Jobs by address: their videos are fetched from where the operator allows, and nothing else comes in that way."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio

from app.background import fetcher
from app.background.fetcher import Fetcher
from app.contract import keys
from app.contract.uploads import UploadStore
from app.jobs.queueing import Queueing
from app.jobs.store import JobStore
from app.settings import Settings
from app.webhooks import post
from tests.app.background.conftest import VIDEO, Answer, Fetch, Host, give
from tests.app.conftest import MakeApi


@pytest.fixture
def api(make_api: MakeApi, settings: dict[str, Any]) -> httpx.Client:
    return make_api(**settings)


def test_a_video_is_fetched_and_its_job_queued(
    api: httpx.Client, host: Host, fetch: Fetch, worker: Any, make_frames: Any, uploads: Path
) -> None:
    """First it is `queued` and fetching; then it is as any other."""
    job = api.post("/v1/jobs", json={"url": host.url(), "max_faces": 2}).json()
    assert (job["state"], job["stage"], job["name"], job["queue_position"]) == (
        "queued",
        "fetching",
        "take 3.mp4",
        None,
    )
    fetch()
    assert host.asked == ["/take%203.mp4?token=x"]
    fetched = api.get(f"/v1/jobs/{job['id']}").json()
    assert (fetched["state"], fetched["stage"], fetched["queue_position"]) == ("queued", None, 0)
    assert fetched["input"]["sha256"] == hashlib.sha256(VIDEO).hexdigest()
    assert (uploads / job["id"] / "input").read_bytes() == VIDEO
    worker.label(job["id"], make_frames(3))
    ended = api.get(f"/v1/jobs/{job['id']}").json()
    assert (ended["state"], ended["options"]["max_faces"]) == ("succeeded", 2)
    assert "token" not in ended["name"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://elsewhere.example/a.mp4", "does not allow this host"),
        ("http://user:pw@{host}/a.mp4", "user name"),
        ("s3://secret/a.mp4", "does not allow this bucket"),
        ("file:///etc/passwd", "pattern"),
        ("gopher://{host}/", "pattern"),
    ],
)
def test_other_addresses_are_refused(api: httpx.Client, host: Host, url: str, why: str) -> None:
    """When the job is submitted."""
    answer = api.post("/v1/jobs", json={"url": url.replace("{host}", host.name)})
    assert (answer.status_code, answer.json()["field"]) == (422, "url")
    assert why in answer.json()["detail"]


def test_addresses_inside_are_not_reached(
    make_api: MakeApi, host: Host, settings: dict[str, Any], redis_url: str, uploads: Path
) -> None:
    """Without MIEN_FETCH_PRIVATE: http is refused, and so is a listed name that leads inside."""
    settings |= {"fetch_hosts": f"localhost:{host.server.server_port}", "fetch_private": False}
    api = make_api(**settings)
    assert api.post("/v1/jobs", json={"url": f"http://{settings['fetch_hosts']}/a"}).status_code == 422
    job = api.post("/v1/jobs", json={"url": f"https://{settings['fetch_hosts']}/a"}).json()
    chosen = Settings(redis_url=redis_url, uploads=str(uploads), **settings)

    async def run() -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as connection:
            with redis.Redis.from_url(redis_url) as writer:
                store = UploadStore(str(uploads))
                jobs = JobStore(connection, Queueing(writer, connection), store, 3600)
                with closing(Fetcher(connection, jobs, store, chosen)) as fetching:
                    await fetching.fetch_due()
                    await asyncio.gather(*fetching._under_way)

    asyncio.run(run())
    ended = api.get(f"/v1/jobs/{job['id']}").json()
    assert (ended["state"], ended["error"]["code"]) == ("failed", "fetch_failed")
    assert host.asked == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (give(b"", 302, Location="http://127.0.0.1:1/"), "redirects elsewhere"),
        (give(b"no", 404), "answered 404"),
        (give(bytes(5 * 2**20)), "larger than the limit"),
        (give(b"hello"), "not supported"),
        (give(b""), "empty"),
    ],
)
def test_what_no_retry_mends_fails_at_once(
    api: httpx.Client, host: Host, fetch: Fetch, uploads: Path, answer: Answer, why: str
) -> None:
    """With its reason; nothing is left of it."""
    host.answers = [answer]
    job = api.post("/v1/jobs", json={"url": host.url()}).json()
    fetch(2)
    ended = api.get(f"/v1/jobs/{job['id']}").json()
    assert (ended["state"], ended["stage"], ended["error"]["code"]) == ("failed", None, "fetch_failed")
    assert why in ended["error"]["detail"]
    assert len(host.asked) == 1
    assert list(uploads.iterdir()) == []


def test_a_host_that_fails_for_a_while_is_asked_again(api: httpx.Client, host: Host, fetch: Fetch) -> None:
    """A fetch is retried after a 503 and after a broken connection, a limited number of times."""
    job = api.post("/v1/jobs", json={"url": host.url()}).json()
    host.answers = [give(b"", 503), give(VIDEO[:1000], length=len(VIDEO))]
    fetch(3)
    assert api.get(f"/v1/jobs/{job['id']}").json()["input"]["bytes"] == len(VIDEO)
    dead = api.post("/v1/jobs", json={"url": host.url()}).json()
    host.answers = [give(b"", 500) for _ in range(9)]
    fetch(4)
    assert api.get(f"/v1/jobs/{dead['id']}").json()["error"]["detail"] == "its host answered 500"


def test_a_cancel_ends_fetching(
    api: httpx.Client, host: Host, fetch: Fetch, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress is reported until the cancellation; the job never starts and leaves nothing."""
    monkeypatch.setattr(fetcher, "TELL_S", 0.0)
    begun, canceled = threading.Event(), threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(VIDEO)))
        request.end_headers()
        request.wfile.write(VIDEO[: 2**20])
        begun.set()
        canceled.wait(20)
        request.wfile.write(VIDEO[2**20 :])

    host.answers = [drip]
    job = api.post("/v1/jobs", json={"url": host.url()}).json()

    def cancel() -> None:
        assert begun.wait(20)
        while not (progress := api.get(f"/v1/jobs/{job['id']}").json()["progress"])["bytes_fetched"]:
            pass
        assert progress["bytes_total"] == len(VIDEO)
        assert api.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "canceled"
        canceled.set()

    fetch(meanwhile=cancel)
    assert api.get(f"/v1/jobs/{job['id']}").json()["state"] == "canceled"
    assert list(uploads.iterdir()) == []


def test_another_process_goes_on(api: httpx.Client, host: Host, fetch: Fetch, uploads: Path, redis_url: str) -> None:
    """A fetch whose process died restarts after its lease and overwrites the partial file."""
    job = api.post("/v1/jobs", json={"url": host.url()}).json()
    (uploads / job["id"]).mkdir()
    (uploads / job["id"] / "input.part").write_bytes(b"half")
    with redis.Redis.from_url(redis_url) as connection:
        connection.zadd(keys.FETCHES, {job["id"]: 2e9})
        fetch()
        assert host.asked == []
        connection.zadd(keys.FETCHES, {job["id"]: 1})
    fetch()
    assert [path.name for path in (uploads / job["id"]).iterdir()] == ["input"]
    assert (uploads / job["id"] / "input").read_bytes() == VIDEO


def test_the_same_key_answers_the_same_job(api: httpx.Client, host: Host) -> None:
    """While it is fetched, too; of another address it is refused."""
    key = {"Idempotency-Key": "one"}
    first, again = (api.post("/v1/jobs", json={"url": host.url()}, headers=key) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert api.post("/v1/jobs", json={"url": host.url("/other")}, headers=key).json()["code"] == "idempotency_mismatch"


@pytest.mark.parametrize("quota", [{"quota_bytes": len(VIDEO)}, {"quota_jobs": 1}])
def test_quotas_count_jobs_by_address(
    make_api: MakeApi, settings: dict[str, Any], host: Host, fetch: Fetch, quota: dict[str, int]
) -> None:
    """Their bytes when they are fetched, and the jobs before that, too."""
    api = make_api(**settings, **quota, api_keys=("one",))
    headers = {"X-API-Key": "one"}
    assert api.post("/v1/jobs", json={"url": host.url()}, headers=headers).status_code == 202
    if "quota_bytes" in quota:
        fetch()
    refused = api.post("/v1/jobs", json={"url": host.url()}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")


def test_a_host_that_drips_is_given_up(
    api: httpx.Client, host: Host, fetch: Fetch, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its headers, and in what follows: it holds neither a thread nor the job."""
    monkeypatch.setattr(post, "ANSWER_S", 0.5)
    settings |= {"min_upload_rate": 1000, "upload_window_s": 0.5}
    dripped: list[str] = []

    def drip(where: str) -> Answer:
        def answer(request: BaseHTTPRequestHandler) -> None:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(VIDEO)}\r\n".encode()
            request.wfile.write(head + (b"X-Slow: " if where == "headers" else b"\r\n"))
            with suppress(OSError):
                while True:
                    request.wfile.write(b"x")
                    time.sleep(0.1)
            dripped.append(where)

        return answer

    host.answers = [drip("headers"), drip("body"), drip("body")]
    job = api.post("/v1/jobs", json={"url": host.url()}).json()
    began = time.monotonic()
    fetch(3)
    assert time.monotonic() - began < 10
    assert api.get(f"/v1/jobs/{job['id']}").json()["error"]["detail"] == "its host is too slow"
    while len(dripped) < 3:  # each host notices that nobody reads
        assert time.monotonic() - began < 20
        time.sleep(0.05)
    assert dripped == ["headers", "body", "body"]


def test_the_lease_is_renewed_while_a_host_is_silent(
    api: httpx.Client, host: Host, fetch: Fetch, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process fetches the same video meanwhile."""
    monkeypatch.setattr(fetcher, "TELL_S", 0.05)
    asked, go_on = threading.Event(), threading.Event()

    def wait(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        go_on.wait(20)
        give(VIDEO)(request)

    host.answers = [wait]
    job = api.post("/v1/jobs", json={"url": host.url()}).json()

    def watch() -> None:
        assert asked.wait(20)
        with redis.Redis.from_url(redis_url) as connection:
            leased = connection.zscore(keys.FETCHES, job["id"])
            deadline = time.monotonic() + 20
            while connection.zscore(keys.FETCHES, job["id"]) == leased:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        go_on.set()

    fetch(meanwhile=watch)
    assert api.get(f"/v1/jobs/{job['id']}").json()["input"]["bytes"] == len(VIDEO)
