"""A host that videos are fetched from, and the process that fetches them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from app.background import fetcher
from app.background.fetcher import Fetcher
from app.contract.uploads import UploadStore
from app.jobs.queueing import Queueing
from app.jobs.store import JobStore
from app.settings import Settings
from tests.app.conftest import MP4

VIDEO = MP4 + bytes(3 * 2**20)
Answer = Callable[[BaseHTTPRequestHandler], None]


class Host:
    """A web server.  answers: what it does next; otherwise: what it does then, which is to give the video."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.otherwise = give(VIDEO)
        self.asked: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append(self.path)
                (host.answers.pop(0) if host.answers else host.otherwise)(self)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.name = f"127.0.0.1:{self.server.server_port}"

    def url(self, path: str = "/take%203.mp4?token=x") -> str:
        return f"http://{self.name}{path}"


def give(content: bytes, status: int = 200, length: int | None = None, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)

    return answer


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    thread = threading.Thread(target=host.server.serve_forever, args=(0.05,))
    thread.start()
    yield host
    host.server.shutdown()
    thread.join()
    host.server.server_close()


@pytest.fixture
def settings(host: Host, redis_url: str, uploads: Path) -> dict[str, Any]:
    """Of a service that may fetch from the host."""
    return {"fetch_hosts": host.name, "fetch_private": True, "max_upload_bytes": 4 * 2**20}


Fetch = Callable[..., None]


@pytest.fixture
def fetch(settings: dict[str, Any], redis_url: str, uploads: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """Lets a background process fetch what is due, until nothing is under way; then does `after`."""
    monkeypatch.setattr(fetcher, "PAUSES_S", (0, 0))

    async def run(rounds: int, meanwhile: Callable[[], None] | None) -> None:
        chosen = Settings(**{"redis_url": redis_url, "uploads": str(uploads), **settings})
        store = UploadStore(str(uploads))
        async with redis.asyncio.Redis.from_url(redis_url) as connection:
            with redis.Redis.from_url(redis_url) as writer:
                jobs = JobStore(connection, Queueing(writer, connection), store, 3600)
                with closing(Fetcher(connection, jobs, store, chosen)) as fetching:
                    for _ in range(rounds):
                        await fetching.fetch_due()
                        if meanwhile is not None:
                            await asyncio.to_thread(meanwhile)
                        await asyncio.gather(*fetching._under_way)

    def do(rounds: int = 1, meanwhile: Callable[[], None] | None = None) -> None:
        asyncio.run(run(rounds, meanwhile))

    return do
