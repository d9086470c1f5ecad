"""Child processes of `worker run` end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.waiting import until

PARENT = """
import os, sys
from worker.commands.run import _start_renderer
print(_start_renderer().pid, flush=True)
sys.stdin.read()
os._exit(0)
"""
PATIENCE_S = 20


def ended(pid: int) -> bool:
    """Gone, or a zombie that whoever inherited it has not looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("late", [False, True], ids=["while it imports", "while it waits for work"])
def test_a_parent_that_dies_is_missed(redis_url: str, late: bool) -> None:
    """A renderer whose parent died before it could look ends like one that is left later."""
    command = [sys.executable, "-c", PARENT]
    environment = os.environ | {"MIEN_REDIS_URL": redis_url}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        renderer = int(parent.stdout.readline())
        with redis.Redis.from_url(redis_url) as connection:
            until(lambda: not late or bool(connection.exists("rq:workers")))
        assert not ended(renderer)
        parent.stdin.close()
        assert parent.wait(PATIENCE_S) == 0
    try:
        until(lambda: ended(renderer))
    finally:
        if not ended(renderer):
            os.kill(renderer, signal.SIGKILL)
