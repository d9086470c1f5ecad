"""The subscription by which waiting clients learn of changes, with the rights that Redis gives it."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from tests.service import redis_rights
from tests.waiting import until


def user(worker: Any, redis_url: str, rights: list[str]) -> str:
    """Redis as a user with these rights -> its URL."""
    worker.redis.execute_command("ACL", "SETUSER", "mien", "reset", "on", ">password", *rights)
    return redis_url.replace("//", "//mien:password@")


def test_the_redis_rights_may_subscribe(make_api: Any, worker: Any, redis_url: str) -> None:
    """With the rights of docker/redis.acl, the front end hears of changes; jobs can be made and deleted."""
    api = make_api(redis_url=user(worker, redis_url, redis_rights()))
    until(lambda: worker.redis.pubsub_numpat() == 1)
    content = b"\x00\x00\x00\x18ftypisom" + bytes(500)
    job_id = api.post("/v1/jobs", content=content).json()["id"]
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_a_refused_subscription_is_an_error_in_the_log(make_api: Any, worker: Any, redis_url: str) -> None:
    """It has no other effect, and is logged once."""
    rights = [right for right in redis_rights() if not right.startswith("&")]
    with capture_logs() as logged:
        make_api(redis_url=user(worker, redis_url, rights))
        until(lambda: len([entry for entry in logged if entry["event"] == "subscription_lost"]) > 1)
    levels = [entry["log_level"] for entry in logged if entry["event"] == "subscription_lost"]
    assert levels.count("error") == 1
