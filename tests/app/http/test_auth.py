"""Keys, owners, rate limits, proxies, browsers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from app.settings import Settings

MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)
KEYS = "alpha-key-123,beta-key-456"


def settings(**values: Any) -> Settings:
    return Settings(**values)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "alpha-key-12"}, {"Authorization": "Basic alpha-key-123"}],
)
def test_without_a_known_key_nothing_is_answered(headers: dict[str, str], make_api: Any, uploads: Path) -> None:
    """Every call of the API is 401 with WWW-Authenticate without a known key, and nothing is stored."""
    api = make_api(api_keys=KEYS)
    calls = [("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("GET", "/v1/models"), ("GET", "/v1/models/default")]
    paths = ["", "/frames", "/summary", "/events", "/timeline.svg"]
    calls += [("GET", f"/v1/jobs/{'0' * 32}{path}") for path in paths]
    calls += [("DELETE", f"/v1/jobs/{'0' * 32}"), ("POST", f"/v1/jobs/{'0' * 32}/cancel")]
    for method, path in calls:
        answer = api.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert list(uploads.iterdir()) == []
    assert api.get("/health/live").status_code == 200


def test_jobs_are_visible_only_to_the_key_that_made_them(make_api: Any) -> None:
    """Another key's job is 404 for every call, and in no list but its owner's; either header carries the key."""
    api = make_api(api_keys=KEYS)
    alpha, beta = {"Authorization": "Bearer alpha-key-123"}, {"X-API-Key": "beta-key-456"}
    job = api.post("/v1/jobs", content=MP4, headers=alpha).json()
    url = f"/v1/jobs/{job['id']}"
    for path in ("", "/frames", "/summary", "/events", "/timeline.svg"):
        assert api.get(url + path, headers=beta).status_code == 404
    assert api.post(f"{url}/cancel", headers=beta).status_code == 404
    assert api.delete(url, headers=beta).status_code == 404
    assert api.get("/v1/jobs", headers=beta).json()["jobs"] == []
    assert [j["id"] for j in api.get("/v1/jobs", headers=alpha).json()["jobs"]] == [job["id"]]
    same_key = {"Idempotency-Key": "k"}
    first = api.post("/v1/jobs", content=MP4, headers={**alpha, **same_key}).json()
    assert api.post("/v1/jobs", content=MP4, headers={**beta, **same_key}).json()["id"] != first["id"]


def test_keys_appear_nowhere(make_api: Any, redis_url: str, capfd: pytest.CaptureFixture[str], worker: Any) -> None:
    """Neither logs, nor Redis, nor answers hold a key."""
    api = make_api(api_keys=KEYS)
    answers = [
        api.post("/v1/jobs", content=MP4, headers={"X-API-Key": "alpha-key-123"}),
        api.get("/v1/jobs", headers={"Authorization": "Bearer alpha-key-123"}),
        api.get("/v1/jobs?key=alpha-key-123"),
        api.get("/v1/jobs", headers={"X-API-Key": "nearly-alpha-key-1"}),
    ]
    shown = capfd.readouterr()
    assert "path=/v1/jobs" in shown.out + shown.err
    texts = [shown.out, shown.err, *(answer.text for answer in answers), repr(settings(api_keys=KEYS))]
    for key in worker.redis.keys("*"):
        texts += [key.decode(), str(worker.redis.dump(key))]
    assert not any("alpha-key" in text for text in texts)


def test_rate_limit_counts_each_key_for_itself(make_api: Any) -> None:
    """A key over its rate is 429 with Retry-After, another is not, and health is never limited."""
    api = make_api(api_keys=KEYS, rate_limit=5)
    answers = [api.get("/v1/jobs", headers={"X-API-Key": "alpha-key-123"}) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert answers[-1].json()["code"] == "rate_limited"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 13
    assert "ratelimit" in answers[-1].headers
    assert api.get("/v1/jobs", headers={"X-API-Key": "beta-key-456"}).status_code == 200
    assert all(api.get("/health/live").status_code == 200 for _ in range(10))


def test_cors_allows_the_named_origins_and_no_others(make_api: Any) -> None:
    """A page of a named origin may call and read the headers it needs, also on errors; without the setting none may."""
    api = make_api(cors_origins="https://page.example")
    page = {"Origin": "https://page.example"}
    wish = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key,idempotency-key"}
    preflight = api.options("/v1/jobs", headers={**page, **wish})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"
    assert "x-api-key" in preflight.headers["access-control-allow-headers"].lower()
    for method in ("HEAD", "PATCH"):  # of resumable uploads
        wish = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "tus-resumable"}
        assert api.options("/v1/uploads/none", headers={**page, **wish}).status_code == 200
    for path in ("/v1/jobs", "/v1/jobs/none"):
        answer = api.get(path, headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        assert "ETag" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in api.get("/v1/jobs", headers={"Origin": "https://x.example"}).headers
    assert "access-control-allow-origin" not in make_api().get("/v1/jobs", headers=page).headers


def test_public_url_makes_links_and_paths(make_api: Any) -> None:
    """Behind a proxy with a path, links are whole public addresses and paths have the prefix."""
    api = make_api(public_url="https://example.org/mien/")
    answer = api.post("/v1/jobs", content=MP4)
    job = answer.json()
    assert job["links"]["frames"] == f"https://example.org/mien/v1/jobs/{job['id']}/frames"
    assert answer.headers["location"] == f"/mien/v1/jobs/{job['id']}"
    assert api.get(f"/v1/jobs/{job['id']}/frames").json()["next"].startswith("/mien/v1/jobs/")


def test_forwarded_headers_count_from_trusted_proxies_only(make_api: Any) -> None:
    """A trusted proxy's headers make the links and the address that is limited; anybody else's are passed over."""
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "api.example",
        "X-Forwarded-Prefix": "/mien",
        "X-Forwarded-For": "203.0.113.9, 127.0.0.1",
    }
    job = make_api().post("/v1/jobs", content=MP4, headers=headers)
    assert job.json()["links"]["self"] == f"https://api.example/mien/v1/jobs/{job.json()['id']}"
    assert job.headers["location"] == f"/mien/v1/jobs/{job.json()['id']}"
    untrusting = make_api(trusted_proxies="10.0.0.0/8")
    assert untrusting.post("/v1/jobs", content=MP4, headers=headers).json()["links"]["self"].startswith("http://127.")
    limited = make_api(rate_limit=1)
    by_address = [
        limited.get("/v1/jobs", headers={"X-Forwarded-For": address}).status_code
        for address in ("203.0.113.1", "203.0.113.2", "203.0.113.1", "9.9.9.9, 203.0.113.2")
    ]
    assert by_address == [200, 200, 429, 429]


@pytest.mark.parametrize("host", ["evil.example/x", "a b", "<script>", "x" * 300])
def test_a_forwarded_host_that_is_none_is_passed_over(host: str, make_api: Any) -> None:
    """An invalid host name never appears in links."""
    job = make_api().post("/v1/jobs", content=MP4, headers={"X-Forwarded-Host": host}).json()
    assert job["links"]["self"].startswith("http://127.0.0.1:")


def test_request_ids_go_through(api: httpx.Client, worker: Any) -> None:
    """A sensible request id is kept, up to the job's record; any other is replaced."""
    answer = api.post("/v1/jobs", content=MP4, headers={"X-Request-ID": "trace-42"})
    assert answer.headers["x-request-id"] == "trace-42"
    assert worker.record(answer.json()["id"]).request_id == "trace-42"
    for bad in ("a b", "x" * 65, 'quote"'):
        made = api.get("/v1/jobs", headers={"X-Request-ID": bad}).headers["x-request-id"]
        assert made != bad
        assert len(made) == 32


def test_settings_refuse_what_cannot_be_served() -> None:
    """Open service on a public address, webhooks without a secret, and values of the wrong kind are refused."""
    assert settings(host="0.0.0.0").refusal() is not None
    assert settings(host="0.0.0.0", api_keys="k").refusal() is None
    assert settings(host="0.0.0.0", allow_anonymous=True).refusal() is None
    assert settings(host="::1").refusal() is None
    assert settings(callback_hosts="a.example").refusal() is not None
    for wrong in (
        {"public_url": "example.org"},
        {"trusted_proxies": "proxy.example"},
        {"callback_secret": "short"},
        {"rate_limit": -1},
    ):
        with pytest.raises(ValidationError):
            settings(**wrong)


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comma-separated words of the environment are lists."""
    monkeypatch.setenv("MIEN_API_KEYS", " a , b,")
    monkeypatch.setenv("MIEN_CORS_ORIGINS", "*")
    given = Settings()
    assert [key.get_secret_value() for key in given.api_keys] == ["a", "b"]
    assert given.cors_origins == ("*",)
