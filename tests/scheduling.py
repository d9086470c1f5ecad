"""SVT-AV1, where it may, makes the thread that opens an encoder real-time for good: findings/svt_av1_real_time.sh."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """Afterwards the calling thread is scheduled as before; else the test run would starve the services it starts."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
