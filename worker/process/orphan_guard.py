"""Child processes that end with their parent, also if it crashes."""

from __future__ import annotations

import ctypes
import os
import signal

PARENT = "MIEN_PARENT_PID"  # environment variable of such a child
PR_SET_PDEATHSIG = 1


def child_environment() -> dict[str, str]:
    """The environment for a child that calls `end_with_parent`.

    The thread that starts the child must live as long as this process: PR_SET_PDEATHSIG fires when that thread ends.
    """
    return {**os.environ, PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Send this process SIGTERM when its parent ends, or now if it has ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.environ.get(PARENT) != str(os.getppid()):
        os.kill(os.getpid(), signal.SIGTERM)
