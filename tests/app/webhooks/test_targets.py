"""Webhooks reach no address inside: not by another spelling, not by a name, not by a redirection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio

from app.contract import keys
from app.settings import Settings
from app.webhooks.courier import Courier
from app.webhooks.targets import ForbiddenTargetError, parse_target, resolve
from tests.listener import Listener

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)
# Loopback, link-local, private and mapped addresses, in the spellings that C libraries understand.
INSIDE = (
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "169.254.169.254",
    "0xa9fea9fe",
    "10.0.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[::127.0.0.1]",
    "[fe80::1]",
    "[fd00::1]",
    "[2002:7f00:1::]",
    "[64:ff9b::7f00:1]",
    "localhost",
)


@pytest.fixture
def inner() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.close()


def deliver(values: dict[str, Any]) -> None:
    """Have a courier make every attempt that is due, once."""

    async def run() -> None:
        connection = redis.asyncio.Redis.from_url(values["redis_url"])
        courier = Courier(connection, Settings(**values))
        await courier.deliver_due()
        await asyncio.gather(*courier._under_way)
        await connection.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("host", INSIDE)
def test_addresses_inside_are_not_named(host: str, make_api: Any) -> None:
    """A callback to one is 422, as long as the operator has not listed that very address."""
    api = make_api(callback_hosts="hooks.example", callback_secret=SECRET)
    for url in (f"https://{host}/", f"https://{host}:8443/hook", f"https://hooks.example@{host}/"):
        answer = api.post("/v1/jobs", content=MP4, params={"callback_url": url})
        assert (answer.status_code, answer.json()["field"]) == (422, "callback_url")
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", INSIDE)
def test_addresses_inside_are_not_called(host: str) -> None:
    """Nor is one called that the operator did list, or that a listed name turns out to mean."""
    settings = Settings(callback_hosts=host, callback_secret=SECRET)
    with pytest.raises((ForbiddenTargetError, OSError)):
        resolve(parse_target(f"https://{host}/", settings.callback_reach), settings.callback_reach)


def test_a_name_that_means_this_machine_is_not_connected_to(
    inner: Listener, make_api: Any, redis_url: str, worker: Any, make_frames: Any
) -> None:
    """A job's webhook to a listed name with an inner address makes no connection."""
    values = {"redis_url": redis_url, "callback_hosts": f"localhost:{inner.port}", "callback_secret": SECRET}
    url = f"https://localhost:{inner.port}/"
    job_id = make_api(**values).post("/v1/jobs", content=MP4, params={"callback_url": url}).json()["id"]
    worker.label(job_id, make_frames(2))
    deliver(values)
    assert int(worker.redis.hget(keys.webhook(job_id), "attempts")) == 1
    assert inner.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(
    status: int, inner: Listener, make_api: Any, redis_url: str, worker: Any, make_frames: Any
) -> None:
    """A redirect by the receiver is not followed."""
    location = f"http://127.0.0.1:{inner.port}/"
    outer = Listener(f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    values = {"redis_url": redis_url, "callback_hosts": f"127.0.0.1:{outer.port}", "callback_secret": SECRET}
    values["callback_private"] = "true"
    url = f"http://127.0.0.1:{outer.port}/"
    job_id = make_api(**values).post("/v1/jobs", content=MP4, params={"callback_url": url}).json()["id"]
    worker.label(job_id, make_frames(2))
    deliver(values)
    outer.close()
    assert (outer.connections, inner.connections) == (1, 0)
