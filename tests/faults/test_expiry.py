"""Two days after a job's end nothing of it is left.  The test shortens the keys' times to live to simulate the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import redis

from app.contract import keys
from app.contract.renditions import VIDEO
from tests.faults.conftest import Faulty
from tests.listener import Listener
from tests.service import Api, serving
from tests.waiting import until

if TYPE_CHECKING:
    from tests.service import Clips

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TWO_DAYS_S = 48 * 3600
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.fixture
def receiver() -> Iterator[Listener]:
    """Takes webhooks."""
    listening = Listener(NO_CONTENT)
    yield listening
    listening.close()


def holders(connection: redis.Redis, word: str) -> set[str]:
    """Keys whose name or content has the word."""
    found = set()
    for name in connection.scan_iter("*", count=1000):
        if word.encode() in name + (connection.dump(name) or b""):
            found.add(name.decode())
    return found


def let_pass(connection: redis.Redis, seconds: int) -> None:
    """All keys get so much older."""
    for name in connection.scan_iter("*", count=1000):
        left_ms = int(connection.pttl(name))
        if left_ms >= 0:
            connection.pexpire(name, max(left_ms - 1000 * seconds, 0))


def test_a_job_with_all_that_may_hang_on_it(tmp_path: Path, clips: Clips, receiver: Listener) -> None:
    """Results, input, annotated video, webhook and Idempotency-Key are removed; the owner gets 410."""
    settings = {
        "MIEN_CALLBACK_HOSTS": f"127.0.0.1:{receiver.port}",
        "MIEN_CALLBACK_SECRET": SECRET,
        "MIEN_CALLBACK_PRIVATE": "true",
        "MIEN_HEARTBEAT_S": "0.25",  # so that it sweeps every three seconds
    }
    with serving(tmp_path, **settings) as service, httpx.Client(base_url=service.url, timeout=90) as http:
        faulty = Faulty(Api(http, service), tmp_path)
        service.wait_live()
        until(faulty._answers)
        service.environment["MIEN_HEARTBEAT_S"] = "5"
        worker = service.start_worker("worker")
        options = {"keep_input": "true", "callback_url": f"http://127.0.0.1:{receiver.port}/hook"}
        files = {"file": ("clip.mp4", clips.video(clips.pictures(3)))}
        answer = http.post("/v1/jobs", files=files, data=options, headers={"Idempotency-Key": "once"})
        job_id = faulty.api.ended(answer.json()["id"])["id"]
        assert until(lambda: http.get(f"/v1/jobs/{job_id}/video", params={"wait": 30}).status_code == 200)
        until(lambda: receiver.connections)
        service.stop(worker)
        with faulty.connection() as connection:
            connection.config_set("rdbcompression", "no")  # what `holders` looks through is plain then
            frames = {name.decode() for name in connection.scan_iter(f"{keys.FRAMES}{job_id}:*")}
            (once,) = (name.decode() for name in connection.scan_iter(keys.idempotency("", "*")))
            kept = {keys.job(job_id), VIDEO.key(job_id), keys.jobs(""), once, *frames}
            until(lambda: holders(connection, job_id) == kept)  # no webhook, and nothing of RQ's
            assert len(frames) == 1
            assert service.stored() == [job_id, f"{job_id}/input", f"{job_id}/video"]
            let_pass(connection, TWO_DAYS_S)
            assert holders(connection, job_id) == {keys.jobs("")}
            until(lambda: not service.stored())
        for path in ("", "/frames", "/video", "/summary"):
            assert http.get(f"/v1/jobs/{job_id}{path}").status_code == 410
