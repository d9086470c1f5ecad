"""Faults of the front end: a full disk, clients that disconnect, killed processes, expired jobs."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.contract import keys
from tests.faults.conftest import Faulty, kill
from tests.service import Api, serving
from tests.waiting import until

if TYPE_CHECKING:
    from tests.service import Service

pytestmark = pytest.mark.e2e

MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)
RAW = {"Content-Type": "video/mp4"}
RESULT_TTL_S = 2


def front_end(stack: ExitStack, folder: Path, **settings: str) -> Faulty:
    """Redis and an API, without workers.  It sweeps once a minute: too late to hide what is left behind."""
    service = stack.enter_context(serving(folder, **settings))
    http = stack.enter_context(httpx.Client(base_url=service.url, timeout=60, trust_env=False))
    service.wait_live()
    faulty = Faulty(Api(http, service), folder)
    until(faulty._answers)
    return faulty


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """See `front_end`; results live for two seconds, and the heartbeat is so short that sweeping takes a second."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("front")
        yield front_end(stack, folder, MIEN_RESULT_TTL_S=str(RESULT_TTL_S), MIEN_HEARTBEAT_S="0.1")


def test_a_full_upload_store(tmpfs: Path, tmp_path: Path) -> None:
    """An upload that does not fit is rejected and leaves nothing; a smaller one is accepted at once."""
    with ExitStack() as stack:
        front = front_end(stack, tmp_path, MIEN_UPLOADS=str(tmpfs / "uploads"))
        for _ in range(2):
            answer = front.api.http.post("/v1/jobs", content=MP4 + bytes(6 * 2**20), headers=RAW)
            assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
            assert answer.headers["content-type"] == "application/problem+json"
            assert list((tmpfs / "uploads").iterdir()) == []
        with front.connection() as connection:
            assert connection.hlen(keys.OPEN) == 0
        assert front.api.http.post("/v1/jobs", content=MP4, headers=RAW).status_code == 202


def half_an_upload(service: Service) -> socket.socket:
    """A connection on which a body was begun; some of it is in the store."""
    url = urlsplit(service.url)
    before = set(service.stored())
    connection = socket.create_connection((url.hostname or "", url.port or 0))
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: video/mp4\r\nContent-Length: 4000000\r\n\r\n"
    connection.sendall(head.encode() + MP4 + bytes(2 * 2**20))
    until(lambda: set(service.stored()) - before)
    return connection


def jobs_known(front: Faulty) -> list[Any]:
    with front.connection() as connection:
        return list(connection.scan_iter(f"{keys.job('')}*"))


def test_a_client_that_goes(tmp_path: Path) -> None:
    """Its half upload is gone at once, and there is no job."""
    with ExitStack() as stack:
        front = front_end(stack, tmp_path)
        half_an_upload(front.service).close()
        until(lambda: front.service.stored() == [], 30)
        assert jobs_known(front) == []


def test_a_front_end_that_is_killed(front: Faulty) -> None:
    """The partial upload is swept by the next front end, and there is no job."""
    with half_an_upload(front.service):
        kill(front.service, front.service.process("api"))
        assert front.service.stored()
        front.service.start("api", sys.executable, "-m", "app")
        front.service.wait_live()
        until(lambda: front.service.stored() == [])
    assert jobs_known(front) == []


def test_a_background_process_that_is_killed(front: Faulty) -> None:
    """The front end starts another."""
    parent = front.service.process("api").pid

    def children() -> set[int]:
        lists = [path.read_text() for path in Path(f"/proc/{parent}/task").glob("*/children")]
        return {int(pid) for pid in " ".join(lists).split()}

    before = until(children)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: children() - before)


def test_a_job_that_expires(front: Faulty) -> None:
    """Nothing of it remains in Redis or the store, except the owner's 410."""
    headers = {**RAW, "Idempotency-Key": "once"}
    job_id = front.api.http.post("/v1/jobs?keep_input=true", content=MP4, headers=headers).json()["id"]
    assert front.api.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert front.service.stored()
    until(lambda: front.service.stored() == [])

    def named() -> list[bytes]:
        with front.connection() as connection:
            names = list(connection.scan_iter("*"))
            hashes = [name for name in names if connection.type(name) == b"hash"]
            held = [name for name in hashes if job_id.encode() in b"".join(connection.hgetall(name).values())]
            return held + [name for name in names if job_id.encode() in name or b"idempotency" in name]

    until(lambda: not named())
    assert front.api.http.get(f"/v1/jobs/{job_id}").status_code == 410
