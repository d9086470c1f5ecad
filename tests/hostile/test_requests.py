"""Malicious names, fields and ids: each is rejected with a clear error and has no effect."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest
import redis

from app.contract import keys
from tests.hostile.conftest import WITHIN_S, memory

if TYPE_CHECKING:
    from tests.hostile.conftest import HostileApi
    from tests.service import Clips, Service

pytestmark = pytest.mark.e2e

FIELDS = 10_000
BIDI = "\u202e\u2066"

FILE_NAMES = (
    "../../../../etc/passwd.mp4",
    "/etc/cron.d/mien.mp4",
    "..\\..\\windows.mp4",
    "a\0b.mp4",
    "%00%2e%2e%2f.mp4",
    "a%0d%0aSet-Cookie: x=1.mp4",
    f"{BIDI}4pm.exe",
    "\x1b[2J\x07.mp4",
    "x" * 3000 + ".mp4",
    "$(reboot);`id`|.mp4",
    ".",
    "..",
    "",
)

JOB_IDS = (
    "*",
    "?" * 32,
    "[0-9a-f]" * 4,
    "*" * 32,
    "\\*",
    "x" * 32,
    "A" * 32,
    "0" * 31,
    "0" * 33,
    "0" * 4000,
    "\u0660" * 32,  # digits, to some
    "0" * 31 + "\n",
    "\0" * 32,
    "0" * 32 + ":frames",
    "0" * 32 + "\r\nDEL mien:models\r\n",
    "'; return redis.call('FLUSHALL') --",
    "{mien}",
    "..%2f..%2fetc",
    "....",
    BIDI * 16,
)


def form(parts: Iterator[tuple[bytes, bytes]] | list[tuple[bytes, bytes]]) -> bytes:
    """A form's body of (disposition, content)."""
    pieces = (b"--b\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + body + b"\r\n" for head, body in parts)
    return b"".join(pieces) + b"--b--\r\n"


def post(api: HostileApi, body: bytes) -> httpx.Response:
    return api.http.post("/v1/jobs", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})


@pytest.mark.parametrize("name", FILE_NAMES, ids=range(len(FILE_NAMES)))
def test_a_file_s_name_is_not_used(hostile: HostileApi, clips: Clips, name: str) -> None:
    """A file of any name is stored under its job's id; only `name` shows the cleaned name."""
    body = form([(b'name="keep_input"', b"true"), (b'name="file"; filename="%b"' % name.encode(), clips.png(0))])
    answer = post(hostile, body)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    shown = job.pop("name") or ""
    try:
        assert len(name) < 3 or name not in json.dumps(job, ensure_ascii=False)
        assert shown.isprintable()
        assert "/" not in shown
        assert set(hostile.service.stored()) >= {job["id"], f"{job['id']}/input"}
        assert hostile.ended(job["id"])["state"] == "succeeded"
        assert {path for path in hostile.service.stored() if not path.startswith(job["id"])} == set()
    finally:
        assert hostile.http.delete(f"/v1/jobs/{job['id']}").status_code == 204


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        (b"sample_fps", b"1", "more than once"),
        (b"x", b"1", "Unknown option"),
        (b"\xff\xfe", b"1", "Unknown option"),
        (b"frames", b"1", "is empty or is not a"),
        (b"file", b"1", "The file's type is not supported"),
        (b"file", b"\xff\xd8\xff", "Send one `file`"),
    ],
    ids=["option", "unknown", "bytes", "frames", "file", "files"],
)
def test_ten_thousand_fields(hostile: HostileApi, field: bytes, value: bytes, why: str) -> None:
    """Ten thousand form fields are rejected at the first or second, in little time and memory."""
    body = form([(b'name="' + field + b'"', value)] * FIELDS)
    with memory(hostile.service, 48, 48):
        answer = post(hostile, body)
    problem = hostile.refused(answer, answer.status_code, answer.json()["code"])
    assert problem["code"] in {"invalid_option", "unsupported_media"}
    assert why in problem["detail"]


def test_thousands_of_parameters(hostile: HostileApi) -> None:
    """Ten thousand URL parameters are rejected, too."""
    answer = hostile.http.post("/v1/jobs?" + "&".join(f"a{i}=" for i in range(6000)), content=b"")
    hostile.refused(answer, 422, "invalid_option")


@pytest.mark.parametrize("name", [BIDI + "fps", "a\r\nb", "\x1b[31mfps", "\0", "x" * 70_000])
def test_a_field_s_name_is_shown_safely(hostile: HostileApi, name: str) -> None:
    """A field's name comes back without what would turn, move or colour the text around it."""
    answer = hostile.http.post("/v1/jobs", params={name[:500]: "1"}, content=b"")
    problem = hostile.refused(answer, 422, "invalid_option")
    shown = problem["detail"] + problem["field"]
    assert shown.isprintable()
    assert len(shown) < 1000


@pytest.mark.parametrize("piece", [b"X-Long: " + b"y" * 60_000 + b"\r\n", b"y" * 60_000], ids=["many", "one"])
def test_headers_without_end(service: Service, hostile: HostileApi, piece: bytes) -> None:
    """A request whose headers, or whose one header, never end is cut off."""
    address = (hostile.http.base_url.host, hostile.http.base_url.port or 80)
    with memory(service, 32, 32), socket.create_connection(address, WITHIN_S) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-First: ")
        with pytest.raises(ConnectionError):
            connection.sendall(piece * 1000)


def routes(document: dict[str, object]) -> list[tuple[str, str]]:
    """Method and path of every operation on one job."""
    paths = document["paths"]
    assert isinstance(paths, dict)
    return [(method, path) for path, methods in paths.items() if "{job_id}" in path for method in methods]


@contextmanager
def listening(service: Service) -> Iterator[list[str]]:
    """The commands that Redis receives meanwhile, one per line."""
    said: list[str] = []
    mark = f"end-{time.monotonic()}"
    with redis.Redis.from_url(service.redis_url) as connection, connection.monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                said.append(command["command"])
                if mark in said[-1]:
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield said
        finally:
            connection.echo(mark)
            thread.join()


def test_job_ids_are_ids(hostile: HostileApi, clips: Clips, service: Service) -> None:
    """On every route, an id with pattern, control or Redis characters is no job's: 404, and Redis is not asked."""
    job = hostile.ended(hostile.submit(clips.video(clips.pictures(2)))["id"])
    operations = routes(hostile.http.get("/openapi.json").json())
    assert len(operations) >= 8
    with listening(service) as said:
        for job_id in JOB_IDS:
            for method, path in operations:
                url = path.replace("{job_id}", quote(job_id, safe="%"))
                answer = hostile.http.request(method.upper(), url)
                assert answer.status_code in {404, 405, 422}, (method, url, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"
        assert hostile.job(job["id"])
    looked_for = [command for command in said if keys.job("") in command]
    assert any(keys.job(job["id"]) in command for command in looked_for)
    # With hyphens: RQ's own ids, of jobs that test_queue.py left and the worker's sweep may end meanwhile.
    an_id = re.compile(r"mien:job:(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
    assert [command for command in looked_for if not an_id.search(command)] == []
    assert hostile.job(job["id"])["state"] == "succeeded"
    assert len(hostile.frames(job["id"])) == 2


def test_other_values_with_redis_characters(hostile: HostileApi, clips: Clips) -> None:
    """Cursors, event ids and keys that are patterns or commands are values that cannot be, or values like others."""
    assert hostile.http.get("/v1/jobs", params={"cursor": "*\r\nFLUSHALL"}).status_code == 422
    assert hostile.http.get("/v1/jobs", params={"state": "*"}).status_code == 422
    assert hostile.http.get("/v1/models/*").status_code == 404
    job = hostile.ended(hostile.submit(clips.png(0))["id"])
    began = time.monotonic()
    events = hostile.http.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "*\\r\\n99999999999999999999"})
    assert events.status_code in {200, 422}
    assert time.monotonic() - began < WITHIN_S
    files = {"file": ("a.png", clips.png(0))}
    answer = hostile.http.post("/v1/jobs", files=files, headers={"Idempotency-Key": "*[a-z]{}'"})
    assert answer.status_code == 202
    hostile.ended(answer.json()["id"])
