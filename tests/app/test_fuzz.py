"""The service answers whatever its own OpenAPI document allows, and whatever it does not, as the document says.

For longer, against any running service:
schemathesis --config-file tests/app/schemathesis.toml run URL/openapi.json --checks all --max-examples 100 \
    --request-timeout 70 --max-response-time 65 --suppress-health-check all
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.contract import keys

SECONDS = 40


@pytest.mark.slow
def test_schemathesis_finds_nothing(api: httpx.Client, worker: Any, make_frames: Any, tmp_path: Path) -> None:
    """All checks of schemathesis hold for every operation, while a worker does the jobs."""
    worker.announce()
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            worker.announce()
            while rendering := worker.redis.lpop("rq:queue:mien-render"):
                job_id = rendering.decode().removeprefix("render-")
                worker.redis.hset(keys.render(job_id), mapping={"state": "failed", "detail": "no video in this test"})
            for waiting in worker.redis.lrange("rq:queue:mien-default", 0, -1):
                try:
                    worker.label(waiting.decode(), make_frames(3))
                except (AssertionError, redis.RedisError, OSError):  # cancelled or removed meanwhile
                    continue

    thread = threading.Thread(target=work)
    thread.start()
    command = [str(Path(sys.executable).parent / "schemathesis")]
    command += ["--config-file", str(Path(__file__).parent / "schemathesis.toml")]
    command += ["run", f"{api.base_url}/openapi.json", "--checks", "all", "--max-examples", "10"]
    command += ["--max-time", str(SECONDS), "--seed", "1", "--request-timeout", "70"]
    command += ["--max-response-time", "65", "--suppress-health-check", "all"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=240)
    finally:
        stop.set()
        thread.join()
    assert ended.returncode == 0, ended.stdout[-6000:]
