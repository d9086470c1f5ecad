"""The queue limit: checked before the body, and enforced for concurrent submissions."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.client import Pipeline
from redis.exceptions import WatchError
from rq import Queue as RqQueue
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from app.contract import keys
from app.jobs.queueing import Queueing

MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)


def test_a_full_queue_is_told_before_the_body(make_api: Any, worker: Any) -> None:
    """A submission to a full queue is rejected before its body, unless the form may name another queue."""
    api = make_api(max_queue=1)
    key = {"Idempotency-Key": "k"}
    first = api.post("/v1/jobs", content=MP4, headers=key).json()["id"]
    assert api.post("/v1/jobs?priority=interactive", content=MP4).status_code == 202  # a queue of its own
    head = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\nExpect: 100-continue\r\nContent-Type: "
    for media_type in ("video/mp4", "multipart/form-data; boundary=b"):
        with socket.create_connection((api.base_url.host, api.base_url.port), timeout=60) as connection:
            connection.sendall(f"{head}{media_type}\r\n\r\n".encode())
            assert connection.recv(20).startswith(b"HTTP/1.1 429")
    assert api.post("/v1/jobs", content=MP4, headers=key).json()["id"] == first
    worker.announce("other")
    form = {"files": {"file": ("a.mp4", MP4)}}
    assert api.post("/v1/jobs", data={"model": "other"}, **form).status_code == 202
    for other in ({"params": {"model": "other"}, "content": MP4}, {"data": {"model": "other"}, **form}):
        assert api.post("/v1/jobs", **other).json()["code"] == "queue_full"


def test_the_queue_limit_holds_for_jobs_that_come_at_once(
    make_api: Any, worker: Any, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many find room before their body, no more are made than may wait; what is refused leaves nothing."""

    async def room(*_: Any) -> int:
        return 0

    monkeypatch.setattr(Queueing, "depth", room)
    api = make_api(max_queue=3)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post("/v1/jobs", content=MP4), range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 5
    assert worker.redis.llen("rq:queue:mien-default") == 3
    assert len(list(uploads.iterdir())) == len(worker.redis.keys("mien:job:*")) == 3


def test_a_job_whose_making_was_not_confirmed_is_made_once(
    make_api: Any, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the connection breaks after the transaction, the job is neither refused nor created twice."""
    broken: list[bool] = []
    real = Pipeline.execute

    def execute(pipe: Pipeline, *arguments: Any, **more: Any) -> Any:
        watching = pipe.watching
        done = real(pipe, *arguments, **more)
        if watching and not broken:
            broken.append(True)
            raise WatchError("a ConnectionError occurred while watching one or more keys")
        return done

    monkeypatch.setattr(Pipeline, "execute", execute)
    job_id = make_api(max_queue=1).post("/v1/jobs", content=MP4).json()["id"]
    assert broken
    assert worker.redis.lrange("rq:queue:mien-default", 0, -1) == [job_id.encode()]


def test_queue_limit(make_api: Any, worker: Any, uploads: Path) -> None:
    """A full queue refuses with 429 and Retry-After, and takes jobs again when one has left."""
    api = make_api(max_queue=2)
    first = api.post("/v1/jobs", content=MP4).json()["id"]
    api.post("/v1/jobs", content=MP4)
    answer = api.post("/v1/jobs", content=MP4)
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0
    assert len(list(uploads.iterdir())) == 2
    worker.claim(first)
    assert api.post("/v1/jobs", content=MP4).status_code == 202


def test_keys_that_scripts_change_are_named_as_rq_names_them(redis_url: str) -> None:
    """Scripts touch RQ's lists and hashes by the names in `keys`: another RQ that names them otherwise shows here."""
    with redis.Redis.from_url(redis_url) as connection:
        queue = RqQueue("mien-default", connection=connection, serializer=JSONSerializer)
        job = queue.enqueue("mien.label", "0" * 32, job_id="0" * 32)
        assert RqQueue.redis_queues_keys == keys.RQ_QUEUES
        assert keys.rq_queue(queue.name) == queue.key
        assert keys.rq_taken(queue.name) == queue.intermediate_queue_key
        assert keys.rq_running(queue.name) == StartedJobRegistry(queue=queue).key
        assert keys.rq_job(job.id) == job.key
