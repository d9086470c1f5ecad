"""A worker without Redis logs the outage with the address and no password, with growing intervals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from tests.service import ROOT, no_settings
from worker.demo.processes import free_port
from worker.jobs import connection
from worker.jobs.connection import Patience, address_of, connect


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://mien:secret@10.0.0.5:6380/0", "10.0.0.5:6380"),
        ("rediss://:secret@redis/1", "redis:6379"),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock"),
    ],
)
def test_addresses_have_no_password(url: str, address: str) -> None:
    assert address_of(url) == address


def test_one_word_and_then_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage is logged at once, after 4 s, and then at doubled intervals; the next outage starts again."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    patience = Patience("here")
    with capture_logs() as lines:
        for _ in range(60):
            now[0] += patience.compute(9)
        assert [line["seconds"] for line in lines] == [0, 4, 8, 16, 32, 64]
        now[0] += 100
        patience.compute(1)
    assert (lines[-1]["seconds"], lines[-1]["address"]) == (0, "here")


def test_a_start_without_redis_fails_after_its_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged once, and then is an error."""
    monkeypatch.setattr(connection, "AT_START", 3)
    with capture_logs() as lines, pytest.raises(redis.ConnectionError):
        connect(f"redis://mien:secret@127.0.0.1:{free_port()}/0")
    assert [line["event"] for line in lines] == ["redis_away"]
    assert "secret" not in str(lines)


def test_all_connections_share_an_outage(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once for all connections of a client, the watchdog sees it, and a stop ends their waits."""
    monkeypatch.setattr(connection, "LATER", 1)
    patience = Patience("here")
    with connect(redis_url, patience) as client, capture_logs() as lines:
        assert not patience.waiting
        client.connection_pool.connection_kwargs["port"] = free_port()
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                client.connection_pool.make_connection().connect()
        assert patience.waiting
        assert [line["event"] for line in lines] == ["redis_away"]
        patience.end()
        with pytest.raises(redis.ConnectionError, match="about to stop"):
            client.ping()


@pytest.mark.slow
def test_the_command_says_so() -> None:
    """`worker run` names the address before it loads torch, and names unknown settings."""
    with no_settings():
        port = free_port()
        environment = {
            **os.environ,
            "MIEN_REDIS_URL": f"redis://mien:secret@127.0.0.1:{port}/0",
            "MIEN_LOG_JSON": "true",
            "MIEN_DEVISE": "cpu",
        }
        command = [sys.executable, "-m", "worker", "run"]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as worker:
            assert worker.stderr is not None
            lines = [json.loads(worker.stderr.readline()) for _ in range(2)]
            loaded = Path(f"/proc/{worker.pid}/maps").read_text()
            worker.kill()
            rest = worker.stderr.read()
    assert [line["event"] for line in lines] == ["unknown_setting", "redis_away"]
    assert (lines[0]["meant"], lines[1]["address"]) == ("MIEN_DEVICE", f"127.0.0.1:{port}")
    assert "secret" not in str(lines) + rest
    assert "libtorch" not in loaded
