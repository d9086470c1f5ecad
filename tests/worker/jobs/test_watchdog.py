"""The watchdog ends a process whose job gets no further, and no other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker.jobs import connection
from worker.jobs.connection import Patience
from worker.jobs.watchdog import EXIT_STATUS

PROGRAM = """
import itertools, sys, time
from worker.jobs.watchdog import Watchdog
count, case = itertools.count(), sys.argv[1]
dog = Watchdog(0 if case == "off" else 0.4, lambda: case == "excused")
with dog.watching("job", lambda: next(count) if case == "progress" else 0):
    time.sleep(0.1 if case == "ended" else 1.2)
if case == "ended":
    time.sleep(1.2)
"""


@pytest.mark.parametrize(
    ("case", "status"), [("hangs", EXIT_STATUS), ("progress", 0), ("excused", 0), ("ended", 0), ("off", 0)]
)
def test_only_what_hangs_is_ended(case: str, status: int) -> None:
    """A job that gets on, that waits for Redis, or that has ended, is left alone."""
    assert subprocess.run([sys.executable, "-c", PROGRAM, case], check=False, capture_output=True).returncode == status


def test_patience_tells_that_it_waits_and_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses grow to a bound; a process that stops waits no more."""
    patience = Patience()
    assert not patience.waiting
    pauses = [patience.compute(failures) for failures in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == connection.LONGEST_S
    assert patience.waiting
    patience.end()
    with pytest.raises(connection.redis.ConnectionError):
        patience.compute(1)
