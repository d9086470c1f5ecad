"""Quotas of a key: jobs that wait, bytes and frames of a day."""

from __future__ import annotations

from typing import Any

import httpx

CONTENT = b"\x00\x00\x00\x18ftypisom" + bytes(984)  # 1000 bytes


def post(api: httpx.Client, key: str) -> httpx.Response:
    return api.post("/v1/jobs", content=CONTENT, headers={"X-API-Key": key})


def refused(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json().get("code")) == (
        429,
        "quota_exceeded",
    ) and "Retry-After" in answer.headers


def test_jobs_that_wait(make_api: Any, worker: Any) -> None:
    """As many as may wait, of one key; one that runs makes room."""
    api = make_api(api_keys=("a", "b"), quota_jobs=2)
    first, second = post(api, "a"), post(api, "a")
    assert (first.status_code, second.status_code) == (202, 202)
    assert refused(post(api, "a"))
    assert post(api, "b").status_code == 202
    worker.claim(first.json()["id"])
    assert post(api, "a").status_code == 202
    assert refused(post(api, "a"))


def test_bytes_of_a_day(make_api: Any) -> None:
    """A body that would exceed them is refused before it is sent; without keys nothing is limited."""
    api = make_api(api_keys=("a", "b"), quota_bytes=2500)
    assert [post(api, "a").status_code for _ in range(2)] == [202, 202]
    assert refused(post(api, "a"))
    assert post(api, "b").status_code == 202
    anybody = make_api(quota_bytes=1, quota_jobs=1, quota_frames=1)
    assert [anybody.post("/v1/jobs", content=CONTENT).status_code for _ in range(2)] == [202, 202]


def test_frames_of_a_day(make_api: Any, worker: Any, make_frames: Any) -> None:
    """Frames count when their job ends, also where it failed; those of a job that is removed still count."""
    api = make_api(api_keys=("a", "b"), quota_frames=100)
    first = post(api, "a").json()["id"]
    worker.label(first, make_frames(70))
    assert api.delete(f"/v1/jobs/{first}", headers={"X-API-Key": "a"}).status_code == 204
    second = post(api, "a").json()["id"]
    worker.claim(second)
    worker.append(second, make_frames(30))
    worker.finish(second, "failed", error={"code": "internal", "detail": "x"})
    assert refused(post(api, "a"))
    assert post(api, "b").status_code == 202
