"""HTTP semantics of the API: methods, HEAD, and its own failures."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from app.jobs.live_workers import Registry

SECRET = "hunter2-hunter2"

# Each side's way to set its log up, and a mistake in a function that knows a secret.
BREAKING = """
import structlog
from app import logs as front_end
from app.contract.settings import SharedSettings
from worker.process import logs as back_end
{configure}

def broken(password):
    return 1 / len("")

try:
    broken("hunter2" + "-hunter2")
except ZeroDivisionError:
    structlog.get_logger("x").exception("it_broke")
"""


@pytest.mark.parametrize("configure", ["front_end.configure('info', False)", "back_end.configure(SharedSettings())"])
def test_tracebacks_in_the_log_hold_no_values(configure: str) -> None:
    """A mistake is logged with its traceback, without the values of the variables on its way."""
    code = BREAKING.format(configure=configure)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown = ended.stdout + ended.stderr
    assert "ZeroDivisionError" in shown
    assert SECRET not in shown
    assert len(shown.splitlines()) < 20


@pytest.mark.parametrize("given", ["9" * 5000, "9" * 11, "\u00b2", "-1"])
def test_a_last_event_id_that_is_none_is_passed_over(
    given: str, api: httpx.Client, submit: Callable[..., str], worker: Any, make_frames: Any
) -> None:
    """The stream begins at its start."""
    job_id = submit()
    worker.label(job_id, make_frames(3))
    answer = api.get(f"/v1/jobs/{job_id}/events", headers={b"Last-Event-ID": given.encode("latin-1")})
    assert answer.status_code == 200
    assert "id: 3\n" in answer.text


def test_a_mistake_of_ours_is_answered_like_all_else(make_api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a problem with the request's id, readable for allowed pages; the log has traceback and status under it."""

    async def broken(_: Registry) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Registry, "live_workers", broken)
    api = make_api(cors_origins="https://page.example")
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        answer = api.get("/v1/models", headers={"Origin": "https://page.example", "X-Request-ID": "mine"})
        while not [entry for entry in logged if entry["event"] == "request"]:  # it comes after the answer
            time.sleep(0.01)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert (answer.json()["code"], answer.json()["request_id"]) == ("internal", "mine")
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    (broke,) = [entry for entry in logged if entry["event"] == "request_broke"]
    (line,) = [entry for entry in logged if entry["event"] == "request"]
    assert (broke["request_id"], broke["exc_info"]) == ("mine", True)
    assert (line["request_id"], line["status"]) == ("mine", 500)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/jobs", "GET, HEAD, POST"),
        (f"/v1/jobs/{'0' * 32}", "DELETE, GET, HEAD, PATCH"),
        (f"/v1/jobs/{'0' * 32}/cancel", "POST"),
        ("/v1/models", "GET, HEAD"),
        ("/health/live", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/static/docs.js", "GET, HEAD"),
        ("/", "GET, HEAD"),
    ],
)
def test_a_method_that_is_none_is_told_which_there_are(path: str, allowed: str, api: httpx.Client) -> None:
    """405 names the address' methods, in `Allow` and in words."""
    for method in ("PUT", *(["HEAD"] if "HEAD" not in allowed else [])):
        answer = api.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        if method != "HEAD":
            assert (answer.json()["code"], answer.json()["detail"]) == (
                "method_not_allowed",
                f"This address supports: {allowed}.",
            )


def test_head_is_get_without_the_body(
    api: httpx.Client, submit: Callable[..., str], worker: Any, make_frames: Any
) -> None:
    """Every address with GET answers HEAD with the same status and headers; the next request finds its place."""
    running, done = submit(), submit()
    worker.label(done, make_frames(3))
    paths = ["/", "/static/docs.js", "/openapi.json", "/health/live", "/metrics", "/v1/models", "/v1/jobs", "/nowhere"]
    paths += [f"/v1/jobs/{job_id}{part}" for job_id in (running, done) for part in ("", "/frames", "/summary")]
    paths += [f"/v1/jobs/{done}{part}" for part in ("/frames?format=csv", "/events", "/timeline.svg")]
    varying = {"date", "x-request-id", "transfer-encoding"}
    for path in paths:
        got, head = api.get(path), api.head(path)
        assert head.status_code == got.status_code, path
        assert {*head.headers} - varying == {*got.headers} - varying, path
        if path != "/metrics":
            assert head.headers.get("content-length") == got.headers.get("content-length"), path
        assert head.content == b""
    # Of an event stream that goes on, too.
    connection = http.client.HTTPConnection(api.base_url.host, api.base_url.port, timeout=60)
    connection.request("HEAD", f"/v1/jobs/{running}/events")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.request("GET", "/health/live")
    assert connection.getresponse().status == 200
    connection.close()
