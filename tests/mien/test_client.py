"""`mien.Client` and `mien.AsyncClient` against a front end, over lines that break."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

import mien
from mien import calls
from tests.app.conftest import MP4

if TYPE_CHECKING:
    from tests.app.conftest import MakeApi, MakeFrames
    from tests.manual_worker import ManualWorker


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(MP4)
    return path


def label_next(api: httpx.Client, do: Callable[[str], None]) -> None:
    """Wait for a job, and do something with it as a worker would."""
    while not (jobs := api.get("/v1/jobs?state=queued").json()["jobs"]):
        time.sleep(0.02)
    do(jobs[0]["id"])


def test_a_video_is_labelled(api: httpx.Client, worker: ManualWorker, make_frames: MakeFrames, video: Path) -> None:
    """Records come in order; the job has its options and its file's name; a file is written whole."""
    with mien.Client(str(api.base_url)) as client, ThreadPoolExecutor() as threads:
        labelled = threads.submit(lambda: list(client.label(video, members=True, max_faces=3, keep_input=True)))
        label_next(api, lambda job_id: worker.label(job_id, make_frames(1200)))
        records = labelled.result(60)
        assert [record["frame_index"] for record in records] == list(range(1200))
        assert set(records[0]["faces"][0]["members"]) == {"cnn", "cnn_rnn", "cnn_transformer"}
        [job] = client.jobs(state="succeeded")
        assert (job["name"], job["options"]["max_faces"], job["options"]["keep_input"]) == ("clip.mp4", 3, True)
        client.save(job, video.with_name("clip.csv"), format="csv")
        assert len(video.with_name("clip.csv").read_text().splitlines()) == 1201
        client.delete(job)
        client.delete(job)
        assert list(client.jobs()) == []


def test_the_asynchronous_client_does_the_same(
    api: httpx.Client, worker: ManualWorker, make_frames: MakeFrames, video: Path
) -> None:
    """Two at once, in one batch."""

    async def label() -> tuple[list[int], mien.Batch]:
        async with mien.AsyncClient(str(api.base_url)) as client:

            async def one() -> int:
                return len([record async for record in client.label(video, batch="pilot")])

            counts = list(await asyncio.gather(one(), one()))
            return counts, await client.batch("pilot")

    with ThreadPoolExecutor() as threads:
        labelled = threads.submit(asyncio.run, label())
        for _ in range(2):
            label_next(api, lambda job_id: worker.label(job_id, make_frames(70)))
        counts, batch = labelled.result(60)
    assert counts == [70, 70]
    assert (batch["jobs"], batch["complete"]) == (2, True)


def test_a_refused_file_is_an_api_error(
    api: httpx.Client, worker: ManualWorker, make_frames: MakeFrames, video: Path
) -> None:
    """A format that the service lacks raises ApiError with its code and writes nothing."""
    with mien.Client(str(api.base_url)) as client:
        job = client.submit(video)
        worker.label(job["id"], make_frames(2))
        with pytest.raises(mien.ApiError) as caught:
            client.save(job, video.with_name("x.xls"), format=cast(Any, "xls"))
    assert (caught.value.status, caught.value.code) == (422, "invalid_option")
    assert not list(video.parent.glob("x.xls*"))


def test_what_fails_says_why(make_api: MakeApi, video: Path) -> None:
    """A refusal with its code and field; a job that does not succeed with its job."""
    api = make_api(api_keys="secret")
    with mien.Client(str(api.base_url)) as client, pytest.raises(mien.ApiError) as refused:
        client.submit(video)
    assert (refused.value.status, refused.value.code) == (401, "unauthorized")
    with mien.Client(str(api.base_url), key="secret") as client:
        with pytest.raises(mien.ApiError) as refused:
            client.submit(video, max_faces=0)
        assert (refused.value.code, refused.value.field) == ("invalid_option", "max_faces")
        with ThreadPoolExecutor() as threads:
            labelled = threads.submit(lambda: list(client.label(video)))
            while not (jobs := list(client.jobs(state="queued"))):
                time.sleep(0.02)
            client.cancel(jobs[0])
            with pytest.raises(mien.JobFailedError) as failed:
                labelled.result(60)
        assert failed.value.job["state"] == "canceled"


class Flaky(httpx.BaseTransport):
    """Forwards requests; `breaks` may replace an answer, before or after forwarding."""

    def __init__(self, breaks: Callable[[int, httpx.Request], httpx.Response | None]) -> None:
        self._inner = httpx.HTTPTransport()
        self._breaks = breaks
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if (answer := self._breaks(len(self.requests), request)) is not None:
            return answer
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def through(client: mien.Client, transport: httpx.BaseTransport) -> mien.Client:
    """The client with another transport."""
    base = client._http.base_url
    client.close()
    client._http = httpx.Client(base_url=base, transport=transport)
    return client


def test_requests_are_tried_again(api: httpx.Client, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `Retry-After` says, or with growing pauses; one job comes of it, however often its answer is lost."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    inner = httpx.HTTPTransport()

    def breaks(number: int, request: httpx.Request) -> httpx.Response | None:
        if number == 1:
            return httpx.Response(503, headers={"Retry-After": "7"})
        if number == 2:
            raise httpx.ConnectError("no route")
        if number == 3:  # it came, and its answer is lost
            request.read()
            inner.handle_request(request).read()
            raise httpx.ReadError("cut")
        return None

    transport = Flaky(breaks)
    with through(mien.Client(str(api.base_url)), transport) as client:
        job = client.submit(video)
    inner.close()
    assert pauses[0] == 7
    assert 0.8 <= pauses[1] <= 1.2
    assert [job["id"]] == [job["id"] for job in api.get("/v1/jobs").json()["jobs"]]
    assert job["input"]["sha256"] == hashlib.sha256(MP4).hexdigest()
    assert len({request.headers["idempotency-key"] for request in transport.requests}) == 1
    assert len(transport.requests) == 4


def test_it_gives_up(api: httpx.Client, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After as many tries as it may; a refusal that no retry mends is not tried again."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    transport = Flaky(lambda number, request: httpx.Response(503))
    with through(mien.Client(str(api.base_url), retries=2), transport) as client, pytest.raises(mien.ApiError):
        client.submit(video)
    assert len(transport.requests) == 3


def test_a_large_file_goes_on_after_a_cut(
    api: httpx.Client, video: Path, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a resumable upload whose bytes are stored once although answers are lost."""
    monkeypatch.setattr(calls, "LARGE_BYTES", 1000)
    monkeypatch.setattr(calls, "CHUNK_BYTES", 300)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    inner = httpx.HTTPTransport()

    def breaks(number: int, request: httpx.Request) -> httpx.Response | None:
        if request.method == "PATCH" and number in {3, 6}:
            inner.handle_request(request).read()
            raise httpx.ReadError("cut")
        return None

    transport = Flaky(breaks)
    with through(mien.Client(str(api.base_url)), transport) as client:
        job = client.submit(video, max_faces=2)
    inner.close()
    assert (job["input"]["sha256"], job["options"]["max_faces"]) == (hashlib.sha256(MP4).hexdigest(), 2)
    assert {request.method for request in transport.requests} == {"POST", "PATCH", "HEAD"}
    assert [path.name for path in uploads.iterdir()] == [job["id"]]


def test_another_process_continues_an_upload(
    api: httpx.Client, video: Path, uploads: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By a note of its id; also where the job was made and its answer is lost, but not of another file."""
    monkeypatch.setattr(calls, "LARGE_BYTES", 1000)
    monkeypatch.setattr(calls, "CHUNK_BYTES", 300)
    note = tmp_path / "note"
    inner = httpx.HTTPTransport()

    def cut(number: int, request: httpx.Request) -> httpx.Response | None:
        if request.url.path == "/v1/jobs":
            inner.handle_request(request).read()
        if number == 4 or request.url.path == "/v1/jobs":
            raise httpx.ReadError("cut")
        return None

    sent: list[list[str]] = []
    for _ in range(2):
        transport = Flaky(cut)
        with through(mien.Client(str(api.base_url), retries=0), transport) as client, pytest.raises(httpx.ReadError):
            client.submit_once(video, "key", note=note)
        sent.append([request.method for request in transport.requests])
    inner.close()
    assert sent == [["POST", "PATCH", "PATCH", "PATCH"], ["HEAD", "PATCH", "PATCH", "PATCH"]]
    with mien.Client(str(api.base_url)) as client:
        for _ in range(2):
            client.submit_once(video, "key", note=note)
        video.write_bytes(MP4 + b"other")
        other, former = client.submit_once(video, "other", note=note)
    assert not former
    assert len(api.get("/v1/jobs").json()["jobs"]) == 2
    assert len(list(uploads.iterdir())) == 2
    assert other["input"]["bytes"] == len(MP4) + 5


def test_a_refused_upload_is_removed(api: httpx.Client, video: Path, uploads: Path, monkeypatch: Any) -> None:
    """It would count as open for a day."""
    monkeypatch.setattr(calls, "LARGE_BYTES", 1000)
    video.write_bytes(bytes(2000))
    with mien.Client(str(api.base_url)) as client, pytest.raises(mien.ApiError) as refused:
        client.submit(video)
    assert refused.value.code == "unsupported_media"
    assert list(uploads.iterdir()) == []
