"""DELETE, with RQ and a worker as they are: nothing in Redis or in the upload store names the job any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest
import redis

if TYPE_CHECKING:
    from tests.service import Api, Clips, Record

pytestmark = pytest.mark.e2e


@pytest.fixture
def connection(api: Api) -> Iterator[redis.Redis]:
    """The service's Redis."""
    with redis.Redis.from_url(api.service.redis_url) as opened:
        yield opened


def mentions(connection: redis.Redis, job_id: str) -> list[str]:
    """Every key whose name or content holds the id, RQ's own too."""
    wanted = job_id.encode()
    found = []
    for key in cast(list[bytes], connection.keys("*")):
        content: list[bytes] = []
        match cast(bytes, connection.type(key)):
            case b"hash":
                content = [part for pair in cast(dict[bytes, bytes], connection.hgetall(key)).items() for part in pair]
            case b"list":
                content = cast(list[bytes], connection.lrange(key, 0, -1))
            case b"set":
                content = list(cast(set[bytes], connection.smembers(key)))
            case b"zset":
                content = cast(list[bytes], connection.zrange(key, 0, -1))
            case b"string":
                content = [cast(bytes | None, connection.get(key)) or b""]
            case _:
                content = [repr(connection.xrange(key)).encode()]
        if any(wanted in part for part in [key, *content]):
            found.append(key.decode())
    return found


def deleted(api: Api, connection: redis.Redis, job: Record) -> None:
    """Delete it, and see that nothing is left; a running job's worker needs a moment to let go."""
    assert mentions(connection, job["id"])
    assert api.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert api.http.get(f"/v1/jobs/{job['id']}").status_code == 404
    deadline = time.monotonic() + 20
    while left := mentions(connection, job["id"]):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert job["id"] not in " ".join(api.service.stored())


def submitted(api: Api, content: bytes, key: str, **options: str) -> Record:
    headers = {"Idempotency-Key": key}
    answer = api.http.post("/v1/jobs", files={"file": ("a.mp4", content)}, data=options, headers=headers)
    assert answer.status_code == 202, answer.text
    return cast("Record", answer.json())


def test_nothing_is_left_of_a_job_that_waits_or_runs(
    api: Api, connection: redis.Redis, long_clip: bytes, clips: Clips
) -> None:
    """Neither of the running job nor of the one behind it, with their idempotency keys."""
    running = submitted(api, long_clip, "first")
    api.running(running["id"])
    waiting = submitted(api, clips.video(clips.pictures(2)), "second")
    assert waiting["queue_position"] == 0
    deleted(api, connection, waiting)
    deleted(api, connection, running)


def test_nothing_is_left_of_a_finished_job(api: Api, connection: redis.Redis, clips: Clips) -> None:
    """With its results, its kept input, and what was made of it: annotated video, preview, thumbnail."""
    job = api.ended(submitted(api, clips.video(clips.pictures(12)), "third", keep_input="true")["id"])
    for made in ("video", "preview", "thumbnail"):
        while (answer := api.http.get(f"/v1/jobs/{job['id']}/{made}", params={"wait": 20})).status_code == 202:
            pass
        assert answer.status_code == 200
    assert len([path for path in api.service.stored() if path.startswith(job["id"] + "/")]) == 4
    deleted(api, connection, job)
