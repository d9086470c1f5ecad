"""Child processes that end with their parent, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal

PARENT = "MIEN_PARENT_PID"  # in the environment of such a child
PR_SET_PDEATHSIG = 1


def child_environment() -> dict[str, str]:
    """The environment for a child that calls `end_with_parent`.

    The thread that starts it has to live as long as this process: the kernel takes its end for the parent's.
    """
    return {**os.environ, PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """From now on this process gets SIGTERM when its parent is gone; at once where that died before."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.environ.get(PARENT) != str(os.getppid()):
        os.kill(os.getpid(), signal.SIGTERM)
