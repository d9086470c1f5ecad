"""Deprecated operations are marked in responses and in the document."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from app.http import deprecations
from app.http.deprecations import Deprecated
from app.main import create_app
from app.settings import Settings

SINCE, UNTIL = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 7, 1, tzinfo=UTC)


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation is to go, and a parameter of another one."""
    table = [Deprecated("listModels", SINCE, UNTIL), Deprecated("listJobs", SINCE, UNTIL, "state")]
    monkeypatch.setattr(deprecations, "DEPRECATED", table)


@pytest.mark.usefixtures("announced")
def test_answers_say_it(api: httpx.Client) -> None:
    """Headers are present for a deprecated operation, for a parameter if it is used, and in errors."""
    answer = api.get("/v1/models")
    assert answer.headers["deprecation"] == "@1796083200"
    assert answer.headers["sunset"] == "Thu, 01 Jul 2027 00:00:00 GMT"
    assert answer.headers["link"] == '</docs>; rel="deprecation"'
    assert "deprecation" not in api.get("/v1/jobs").headers
    assert "deprecation" in api.get("/v1/jobs?state=queued").headers
    assert "deprecation" in api.get("/v1/jobs?state=asleep").headers
    assert "deprecation" not in api.get("/v1/nothing").headers


@pytest.mark.usefixtures("announced")
def test_the_document_says_it() -> None:
    """Generators mark what they make of it."""
    paths = create_app(Settings()).openapi()["paths"]
    assert paths["/v1/models"]["get"]["deprecated"]
    jobs = paths["/v1/jobs"]["get"]
    assert "deprecated" not in jobs
    assert {p["name"] for p in jobs["parameters"] if p.get("deprecated")} == {"state"}


def test_today_nothing_is_announced() -> None:
    """As docs/versioning.md says."""
    assert deprecations.DEPRECATED == []
