"""The worker's log: one line an event, whoever logs it."""

from __future__ import annotations

import json
import subprocess
import sys
from socket import gethostname

import pytest

LOG = """
import logging, warnings
import structlog
from app.contract.settings import SharedSettings
from worker.process.logs import configure

configure(SharedSettings(log_json={as_json}), "gpu-1-17-abcdef")
structlog.contextvars.bind_contextvars(job_id="j")
structlog.get_logger("worker.x").info("ready", bundle="default")
logging.getLogger("rq.worker").warning("lost %s", "a job")
logging.getLogger("rq.worker").info("not shown")
try:
    raise ValueError("broken")
except ValueError:
    logging.getLogger("s3fs").exception("no answer")
warnings.warn("old", stacklevel=1)
"""


def logged(*, as_json: bool) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", LOG.format(as_json=as_json)], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout == ""
    return ended.stderr.splitlines()


def test_lines_of_libraries_are_json_too() -> None:
    """With MIEN_LOG_JSON every line is one object with event, level and time; a traceback is a field of it."""
    own, lost, broken, old = (json.loads(line) for line in logged(as_json=True))
    assert (own["event"], own["level"], own["bundle"], own["job_id"]) == ("ready", "info", "default", "j")
    assert (lost["event"], lost["level"], lost["logger"], lost["job_id"]) == ("lost a job", "warning", "rq.worker", "j")
    assert (broken["event"], broken["level"]) == ("no answer", "error")
    assert "ValueError: broken" in broken["exception"]
    assert {(line["host"], line["worker"]) for line in (own, lost, broken, old)} == {(gethostname(), "gpu-1-17-abcdef")}
    assert "old" in old["event"]
    assert all(line["timestamp"].endswith("Z") for line in (own, lost, broken, old))


@pytest.mark.parametrize("shown", ["ready", "lost a job", "no answer", "ValueError: broken", "old"])
def test_lines_of_libraries_are_text(shown: str) -> None:
    """Otherwise all are text, and none below warnings is a library's."""
    lines = logged(as_json=False)
    assert any(shown in line for line in lines)
    assert not any("not shown" in line for line in lines)
