"""Jobs by s3:// address, against an S3 service behind a host that may fail."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest

from tests.app.background.conftest import VIDEO, Fetch, Host, give
from tests.app.conftest import MakeApi


@pytest.fixture
def api(
    make_api: MakeApi, settings: dict[str, Any], host: Host, s3: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> httpx.Client:
    def forward(request: BaseHTTPRequestHandler) -> None:
        given = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        answer = s3.request(request.command, request.path, headers=given)
        request.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name not in {"date", "server", "connection"}:
                request.send_header(name, value)
        request.end_headers()
        request.wfile.write(answer.content)

    host.otherwise = forward
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host.name}")
    for bucket in ("videos", "secret"):
        s3.put(f"/{bucket}").raise_for_status()
        s3.put(f"/{bucket}/day 1/Müller.mp4", content=VIDEO).raise_for_status()
    settings["fetch_buckets"] = "videos,none"
    return make_api(**settings)


def test_an_object_is_fetched(api: httpx.Client, fetch: Fetch, uploads: Path) -> None:
    """Its key is taken as it is."""
    job = api.post("/v1/jobs", json={"url": "s3://videos/day 1/Müller.mp4"}).json()
    assert job["name"] == "Müller.mp4"
    fetch()
    fetched = api.get(f"/v1/jobs/{job['id']}").json()
    assert (fetched["stage"], fetched["input"]["bytes"]) == (None, len(VIDEO))
    assert (uploads / job["id"] / "input").read_bytes() == VIDEO


def test_a_store_that_fails_for_a_while_is_asked_again(
    api: httpx.Client, host: Host, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By us, where its client has given up."""
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    host.answers = [give(b"", 503), give(b"", 500)]
    job = api.post("/v1/jobs", json={"url": "s3://videos/day 1/Müller.mp4"}).json()
    fetch(3)
    assert api.get(f"/v1/jobs/{job['id']}").json()["input"]["bytes"] == len(VIDEO)
    assert host.answers == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://videos/none.mp4", "there is no such object"),
        ("s3://none/a.mp4", "there is no such object"),
        ("s3://videos/large.mp4", "larger than the limit"),
        ("s3://videos/a::file:///etc/passwd", "there is no such object"),
    ],
)
def test_what_no_retry_mends_fails_at_once(
    api: httpx.Client, s3: httpx.Client, fetch: Fetch, uploads: Path, url: str, why: str
) -> None:
    """Nothing is left of it."""
    s3.put("/videos/large.mp4", content=bytes(5 * 2**20)).raise_for_status()
    job = api.post("/v1/jobs", json={"url": url}).json()
    fetch()
    ended = api.get(f"/v1/jobs/{job['id']}").json()
    assert (ended["state"], ended["error"]["code"]) == ("failed", "fetch_failed")
    assert why in ended["error"]["detail"]
    assert list(uploads.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["s3://secret/day 1/Müller.mp4", "s3://videos/../secret/day 1/Müller.mp4", "s3://videos/", "s3://videos"]
)
def test_what_is_in_no_listed_bucket_is_refused(api: httpx.Client, host: Host, url: str) -> None:
    """Before anything is asked."""
    answer = api.post("/v1/jobs", json={"url": url})
    assert (answer.status_code, answer.json()["field"]) == (422, "url")
    assert host.asked == []
