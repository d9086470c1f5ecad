"""Webhooks: signed so that others can check it, tried again, to allowed addresses only, never in anybody's way."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
import redis.asyncio
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.contract import keys
from app.settings import Settings
from app.webhooks import courier as courier_module
from app.webhooks import post as post_module
from app.webhooks.courier import Courier
from app.webhooks.payload import Delivery
from app.webhooks.targets import ForbiddenTargetError, is_public, parse_target, resolve

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent; answers with the next of `answers`, then 204."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.times: list[float] = []
        self.answers: list[int] = []
        self.before_answer: Callable[[], object] = lambda: None
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?x=1"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.times.append(time.monotonic())
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status = self.server.answers.pop(0) if self.server.answers else 204
        if status == 0:
            time.sleep(3)
            status = 204
        self.server.before_answer()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def allowing(receiver: Receiver, redis_url: str, **more: Any) -> dict[str, Any]:
    return {
        "redis_url": redis_url,
        "callback_hosts": f"127.0.0.1:{receiver.server_address[1]}",
        "callback_secret": SECRET,
        "callback_private": True,
        **more,
    }


def deliver(settings: Settings, until: Callable[[], bool], seconds: float = 15) -> None:
    """Run a courier until something is so."""

    async def run() -> None:
        connection = redis.asyncio.Redis.from_url(settings.redis_url)
        deadline = time.monotonic() + seconds
        with closing(Courier(connection, settings)) as courier:
            while not until():
                assert time.monotonic() < deadline, "it did not happen in time"
                await courier.deliver_due()
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)
        await connection.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
def test_a_finished_job_calls_back_signed(
    end: str, receiver: Receiver, make_api: Any, redis_url: str, worker: Any, make_frames: Any
) -> None:
    """Each end of a job sends one thin, signed message, which an independent library verifies; nothing is left."""
    values = allowing(receiver, redis_url)
    api = make_api(**values)
    called = {"name": "Gespräch", "metadata.subject": "P07"}
    job_id = api.post("/v1/jobs", content=MP4, params={"callback_url": receiver.url, **called}).json()["id"]
    if end == "canceled":
        api.post(f"/v1/jobs/{job_id}/cancel")
    else:
        worker.label(job_id, make_frames(3), end)
    deliver(Settings(**values), lambda: receiver.got != [] and not worker.redis.exists(keys.WEBHOOKS))
    ((headers, body),) = receiver.got
    message = Webhook(SECRET).verify(body, headers)
    assert message["type"] == f"job.{end}"
    assert message["data"] == {"id": job_id, "state": end, "name": "Gespräch", "metadata": {"subject": "P07"}}
    assert headers["webhook-id"] == f"msg_{job_id}"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"job.", b"Job."), headers)
    assert not worker.redis.exists(keys.webhook(job_id))


def test_failures_are_tried_again_with_the_same_id(
    receiver: Receiver, make_api: Any, redis_url: str, worker: Any, make_frames: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors and redirects are tried again, under the same id; redirects are not followed; pauses grow."""
    monkeypatch.setattr(courier_module, "PAUSES_S", (0.2, 0.4, 0.8))
    receiver.answers = [500, 302]
    values = allowing(receiver, redis_url)
    job_id = make_api(**values).post("/v1/jobs", content=MP4, params={"callback_url": receiver.url}).json()["id"]
    worker.label(job_id, make_frames(3))
    deliver(Settings(**values), lambda: len(receiver.got) == 3)
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {f"msg_{job_id}"}
    assert len({body for _, body in receiver.got}) == 1
    assert not worker.redis.exists(keys.WEBHOOKS)
    real = courier_module.__dict__["PAUSES_S"]
    assert list(real) == sorted(real)


def test_410_ends_it(receiver: Receiver, make_api: Any, redis_url: str, worker: Any, make_frames: Any) -> None:
    """A 410 from the receiver ends the delivery."""
    receiver.answers = [410]
    values = allowing(receiver, redis_url)
    job_id = make_api(**values).post("/v1/jobs", content=MP4, params={"callback_url": receiver.url}).json()["id"]
    worker.label(job_id, make_frames(3))
    deliver(Settings(**values), lambda: receiver.got != [] and not worker.redis.exists(keys.WEBHOOKS))


def test_a_slow_receiver_delays_nobody(
    receiver: Receiver, make_api: Any, redis_url: str, worker: Any, make_frames: Any
) -> None:
    """While one receiver hangs, another is called at once; jobs have ended long before."""
    with Receiver() as hanging:
        thread = threading.Thread(target=hanging.serve_forever, daemon=True)
        thread.start()
        hanging.answers = [0] * 12
        hosts = f"127.0.0.1:{receiver.server_address[1]},127.0.0.1:{hanging.server_address[1]}"
        values = allowing(receiver, redis_url, callback_hosts=hosts)
        api = make_api(**values)
        for url in [hanging.url] * 3 + [receiver.url]:
            job_id = api.post("/v1/jobs", content=MP4, params={"callback_url": url}).json()["id"]
            worker.label(job_id, make_frames(3))
        began = time.monotonic()
        deliver(Settings(**values), lambda: receiver.got != [])
        assert receiver.times[0] - began < 2.5
        assert len(hanging.got) == 3
        hanging.shutdown()
        thread.join()


def test_dead_receivers_take_nobody_elses_threads(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hanging receivers at their limit do not block other work in threads."""
    hosts = "127.0.0.1:1,127.0.0.1:2"
    settings = Settings(redis_url=redis_url, callback_hosts=hosts, callback_secret=SECRET, callback_private=True)
    over = threading.Event()

    async def run() -> None:
        loop, held = asyncio.get_running_loop(), asyncio.Semaphore(0)
        loop.set_default_executor(ThreadPoolExecutor(4))

        def hangs(*_: Any) -> int:
            loop.call_soon_threadsafe(held.release)
            assert over.wait(60)
            return 204

        monkeypatch.setattr(courier_module, "post", hangs)
        connection = redis.asyncio.Redis.from_url(redis_url)
        for number in range(8):
            webhook = {"url": f"http://127.0.0.1:{number // 4 + 1}/", "state": "failed", "attempts": 0}
            await connection.hset(
                keys.webhook(f"{number:032x}"), mapping=cast(Any, webhook | {"finished_at": "", "request_id": ""})
            )
            await connection.zadd(keys.WEBHOOKS, {f"{number:032x}": 1})
        courier = Courier(connection, settings)
        await courier.deliver_due()
        try:
            async with asyncio.timeout(20):
                for _ in range(4):
                    await held.acquire()
                assert await asyncio.to_thread(lambda: "recovery") == "recovery"
        finally:
            over.set()
            courier.close()
            await connection.aclose()

    asyncio.run(run())


def test_a_courier_that_died_is_taken_over(
    receiver: Receiver, make_api: Any, redis_url: str, worker: Any, make_frames: Any
) -> None:
    """An unfinished delivery is due again after its lease, and is sent then."""
    values = allowing(receiver, redis_url)
    job_id = make_api(**values).post("/v1/jobs", content=MP4, params={"callback_url": receiver.url}).json()["id"]
    worker.label(job_id, make_frames(3))

    async def take_and_die() -> None:
        connection = redis.asyncio.Redis.from_url(redis_url)
        dying = Courier(connection, Settings(**values))
        assert await dying._take(keys=[keys.WEBHOOKS], args=[1, 5]) == [job_id.encode()]
        await connection.aclose()

    asyncio.run(take_and_die())
    deliver(Settings(**values), lambda: len(receiver.got) == 1)


def test_deleting_a_job_forgets_its_webhook(
    receiver: Receiver, make_api: Any, redis_url: str, worker: Any, make_frames: Any
) -> None:
    """A removed job sends no webhook."""
    api = make_api(**allowing(receiver, redis_url))
    job_id = api.post("/v1/jobs", content=MP4, params={"callback_url": receiver.url}).json()["id"]
    worker.label(job_id, make_frames(3))
    assert worker.redis.zcard(keys.WEBHOOKS) == 1
    api.delete(f"/v1/jobs/{job_id}")
    assert worker.redis.keys("mien:webhook*") == []


def test_a_job_removed_while_its_webhook_is_sent_leaves_nothing(
    receiver: Receiver, make_api: Any, redis_url: str, worker: Any, make_frames: Any
) -> None:
    """A delivery that fails after its job was removed is not tried again; what an older release left of one goes."""
    values = allowing(receiver, redis_url)
    api = make_api(**values)
    job_id = api.post("/v1/jobs", content=MP4, params={"callback_url": receiver.url}).json()["id"]
    worker.label(job_id, make_frames(3))
    receiver.before_answer = lambda: api.delete(f"/v1/jobs/{job_id}")
    receiver.answers = [500]
    worker.redis.hset(keys.webhook("f" * 32), "attempts", 1)
    worker.redis.zadd(keys.WEBHOOKS, {"f" * 32: 1})
    deliver(Settings(**values), lambda: receiver.got != [] and worker.redis.keys("mien:webhook*") == [])
    assert len(receiver.got) == 1


def test_nothing_is_tried_again_for_a_job_that_is_gone(redis_url: str, worker: Any) -> None:
    """To put a delivery off does not bring back what was removed."""

    async def put_off() -> None:
        connection = redis.asyncio.Redis.from_url(redis_url)
        await Courier(connection, Settings(redis_url=redis_url))._try_again("e" * 32, 1, attempts=1)
        await connection.aclose()

    worker.redis.zadd(keys.WEBHOOKS, {"e" * 32: 1})
    asyncio.run(put_off())
    assert worker.redis.keys("mien:webhook*") == []


def test_an_encrypted_receiver_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for a whole delivery holds over TLS, too."""
    monkeypatch.setattr(post_module, "ANSWER_S", 1)
    # Anonymous keys: no certificate is needed.
    contexts = {side: ssl.SSLContext(side) for side in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)}
    for context in contexts.values():
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    monkeypatch.setattr(ssl, "create_default_context", lambda: contexts[ssl.PROTOCOL_TLS_CLIENT])
    gone = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection = contexts[ssl.PROTOCOL_TLS_SERVER].wrap_socket(connection, server_side=True)
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 ")
            while not gone.wait(0.1):
                connection.sendall(b"0")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=drip, args=(listening,), daemon=True)
        server.start()
        port = listening.getsockname()[1]
        settings = Settings(callback_hosts=f"127.0.0.1:{port}", callback_secret=SECRET, callback_private=True)
        target = parse_target(f"https://127.0.0.1:{port}/", settings.callback_reach)
        ended: list[type] = []

        def send() -> None:
            try:
                post_module.post(target, b"{}", {}, settings)
            except (OSError, http.client.HTTPException) as error:
                ended.append(type(error))

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        sender.join(30)
        waits = sender.is_alive()
        gone.set()
        server.join(30)
        assert not waits
        assert len(ended) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/",
        "http://hooks.example/",
        "https://hooks.example:8443/",
        "https://user:pw@hooks.example/",
        "https://hooks.example.evil.example/",
        "https://evil.example/?hooks.example",
        "ftp://hooks.example/",
        "https://127.0.0.1/",
        "not a url",
    ],
)
def test_only_named_hosts_are_accepted(url: str, make_api: Any, redis_url: str) -> None:
    """A callback that the operator does not allow is 422 and names the field; without the setting every one is."""
    for api in (make_api(callback_hosts="hooks.example", callback_secret=SECRET), make_api()):
        answer = api.post("/v1/jobs", content=MP4, params={"callback_url": url})
        assert (answer.status_code, answer.json()["field"]) == (422, "callback_url")


def test_named_hosts_are_accepted() -> None:
    """Named hosts are taken with their port, in any case, with a final dot."""
    settings = Settings(callback_hosts="hooks.example,b.example:8443", callback_secret=SECRET)
    for url in ("https://hooks.example/x", "https://HOOKS.example./x?y", "https://b.example:8443"):
        assert parse_target(url, settings.callback_reach).scheme == "https"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ],
)
def test_private_addresses_are_refused(address: str) -> None:
    """No address inside a network, however it is written, counts as public."""
    assert not is_public(address)


def test_a_name_that_resolves_inside_is_refused() -> None:
    """An allowed name whose address is not public is refused when it is called, so rebinding a name does not help."""
    settings = Settings(callback_hosts="localhost", callback_secret=SECRET)
    with pytest.raises(ForbiddenTargetError):
        resolve(parse_target("https://localhost/", settings.callback_reach), settings.callback_reach)
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")


def test_body_is_thin(receiver: Receiver) -> None:
    """The message holds id and state and nothing of the results."""
    delivery = Delivery("i" * 32, receiver.url, "succeeded", "2026-01-01T00:00:00Z", "", 0)
    assert set(json.loads(delivery.body())) == {"type", "timestamp", "data"}
    assert len(delivery.body()) < 200
