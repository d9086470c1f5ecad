"""The worker's CPU priority: on one host with a front end, requests go before labelling."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def step_back(nice: int) -> None:
    """Run at this niceness (0 to 19), or at the present one where that is higher.

    For the whole process, so before any thread or child starts: they inherit it.
    """
    nice = max(nice, os.getpriority(os.PRIO_PROCESS, 0))
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    # Linux may weigh whole sessions against each other, and niceness within a session only.  A session that this
    # process leads, as under a supervisor, is the worker's alone.
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            AUTOGROUP.write_text(str(nice))
