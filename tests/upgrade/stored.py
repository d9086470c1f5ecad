"""What a release leaves in Redis and in the upload store, as a file: written once, restored by tests of later releases.

    git worktree add /tmp/release v0.1.0
    python -m tests.upgrade.stored /tmp/release tests/upgrade/v0.1.0.json

starts that checkout's front end and worker, has them make jobs in every state, kills them in the middle of one, and
writes down all that is there then: keys of Redis, files of the store, what the API answered, and the JSON schemas by
which that release reads records.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx
import redis

from app.contract import heartbeats, keys
from app.contract.jobs import to_field, utc_now
from tests.service import Api, Clips, Record, Service, module_of, serving
from tests.waiting import until

FRAMES = 80  # a chunk and a rest
SCHEMAS = """
import json
from app.contract.jobs import JobRecord, _TEXT_FIELDS
from app.contract.workers import ModelInfo, WorkerInfo
schemas = {kind.__name__: kind.model_json_schema() for kind in (JobRecord, ModelInfo, WorkerInfo)}
print(json.dumps({"schemas": schemas, "text_fields": sorted(_TEXT_FIELDS)}))
"""
PASSING = ("rq:worker", "rq:clean", "mien:sweep", "mien:rate", "mien:metrics")  # keys of no job and no worker


def leave(checkout: Path, folder: Path) -> dict[str, Any]:
    """Have a release make jobs -> what it left."""
    with (
        serving(folder, False, checkout, MIEN_MIN_UPLOAD_RATE="0") as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http,
    ):
        service.wait_live()
        api, clips = Api(http, service), Clips(folder)
        clip = clips.video(clips.pictures(FRAMES, (160, 120)))
        killed = service.start_worker("worker", checkout)
        service.wait_ready()
        jobs = {
            "succeeded": api.ended(api.submit(clip, keep_input=True, sample_fps=5)["id"]),
            "failed": api.ended(api.submit(clip[:40] + bytes(4000))["id"]),
        }
        frames = api.frames(jobs["succeeded"]["id"], members="true")
        until(lambda: http.get("/health/ready").json()["workers"][0]["state"] == "ready")
        running = api.submit(clip)["id"]
        with redis.Redis.from_url(service.redis_url) as connection:
            while not connection.keys(f"{keys.FRAMES}{running}:*"):  # a chunk; the rest takes a tenth of a second
                killed.check()
        os.kill(killed.pid, signal.SIGKILL)
        service.stop(killed)  # its children, of which one waits for videos to draw
        with redis.Redis.from_url(service.redis_url) as connection:
            until(lambda: cast(Record, connection.info("clients"))["blocked_clients"] == 0)
        jobs["running"] = api.job(running)
        assert jobs["running"]["state"] == "running"
        with suppress(httpx.ReadTimeout):  # it waits for a renderer, while recovery does not wait
            http.get(f"/v1/jobs/{jobs['succeeded']['id']}/video", timeout=1)
        jobs["queued"] = api.submit(clip, max_faces=3)
        idempotent = http.post("/v1/jobs?fps=24", content=clip, headers={"Idempotency-Key": "kept"}).json()
        jobs["canceled"] = http.post(f"/v1/jobs/{idempotent['id']}/cancel").json()
        service.stop(service.process("api"))
        with redis.Redis.from_url(service.redis_url) as connection:
            kept = {key.decode(): _value(connection, key) for key in sorted(cast(list[bytes], connection.keys("*")))}
        stored = [path for path in service.stored() if (service.uploads / path).is_file()]
        assert all((service.uploads / path).read_bytes() == clip for path in stored)
    return {
        "about": "What this release left in Redis and the upload store, and what it answered; see stored.py",
        **_schemas(checkout),
        "jobs": jobs,
        "frames": frames,
        "keys": {key: value for key, value in kept.items() if not key.startswith(PASSING)},
        "clip": base64.b64encode(clip).decode(),
        "stored": stored,
    }


def restore(content: dict[str, Any], service: Service) -> None:
    """Put everything back as it was left, a moment ago: jobs that wait for a day have failed."""
    now = to_field(utc_now())
    for _, fields in (value for key, value in content["keys"].items() if key.startswith(keys.job(""))):
        fields |= {name: now for name in ("created_at", "started_at") if name in fields and "finished_at" not in fields}
    clip = base64.b64decode(content["clip"])
    for path in content["stored"]:
        (service.uploads / path).parent.mkdir(parents=True, exist_ok=True)
        (service.uploads / path).write_bytes(clip)
    with redis.Redis.from_url(service.redis_url) as connection:
        for key, (kind, value) in content["keys"].items():
            if kind == "hash":
                connection.hset(key, mapping={name: _bytes(text) for name, text in value.items()})
            elif kind == "zset":
                connection.zadd(key, value)
            elif kind == "list":
                connection.rpush(key, *map(_bytes, value))
            elif kind == "set":
                connection.sadd(key, *map(_bytes, value))
            else:
                connection.set(key, _bytes(value), ex=heartbeats.WORKER_TTL_S)  # what a worker says of itself


def _value(connection: redis.Redis, key: bytes) -> list[Any]:
    kind = cast(bytes, connection.type(key)).decode()
    if kind == "hash":
        return [
            kind,
            {name.decode(): _text(value) for name, value in cast(dict[bytes, bytes], connection.hgetall(key)).items()},
        ]
    if kind == "zset":
        scores = cast(list[tuple[bytes, float]], connection.zrange(key, 0, -1, withscores=True))
        return [kind, {name.decode(): score for name, score in scores}]
    if kind == "list":
        return [kind, [_text(value) for value in cast(list[bytes], connection.lrange(key, 0, -1))]]
    if kind == "set":
        return [kind, sorted(_text(value) for value in cast(set[bytes], connection.smembers(key)))]
    return [kind, _text(cast(bytes, connection.get(key)))]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.removeprefix("base64:")) if text.startswith("base64:") else text.encode()


def _schemas(checkout: Path) -> dict[str, Any]:
    python = [*module_of(checkout)[:-1], "-c", SCHEMAS]
    found: dict[str, Any] = json.loads(subprocess.run(python, check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        began = time.monotonic()
        left = leave(Path(sys.argv[1]).resolve(), Path(scratch))
        Path(sys.argv[2]).write_text(json.dumps(left, indent=1, ensure_ascii=False) + "\n")
        print(f"{sys.argv[2]}: {len(left['keys'])} keys, {time.monotonic() - began:.0f} s")
