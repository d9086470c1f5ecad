"""The worker's CPU priority: on a host with a front end, requests take precedence over labelling."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def step_back(nice: int) -> None:
    """Set the niceness (0 to 19) of the process; a higher one stays.

    Call it before a thread or child starts, since they inherit it.
    """
    nice = max(nice, os.getpriority(os.PRIO_PROCESS, 0))
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    # With autogroups Linux balances sessions, and niceness only counts within one.  A session that this process leads,
    # as under a supervisor, contains only the worker.
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            AUTOGROUP.write_text(str(nice))
