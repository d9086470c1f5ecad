"""The worker steps back before a front end on its host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = """
import os, subprocess, sys, threading
from worker.priority import AUTOGROUP, step_back
step_back(int(sys.argv[1]))
found = []
threading.Thread(target=lambda: found.append(os.getpriority(os.PRIO_PROCESS, 0))).start()
child = subprocess.run(["nice"], capture_output=True, text=True, check=True).stdout.strip()
print(found[0], child, AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else "none")
"""


def shown(nice: int, *, leads: bool, before: int = 0) -> list[str]:
    """Niceness of a thread and of a child, and the session's."""
    command = ["nice", "-n", str(before), sys.executable, "-c", SHOW, str(nice)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=leads)
    return done.stdout.split()


def test_threads_and_children_inherit_it() -> None:
    """What starts afterwards has the same niceness; the session's other processes are left alone."""
    here = os.getpriority(os.PRIO_PROCESS, 0)
    nice = min(here + 4, 19)
    thread, child, group = shown(nice, leads=False)
    assert (thread, child) == (str(nice), str(nice))
    if group != "none":
        assert group == Path("/proc/self/autogroup").read_text().split()[-1]


def test_a_session_of_its_own_steps_back_as_a_whole() -> None:
    """Where Linux weighs sessions, the one that the worker leads has the niceness, too."""
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("this kernel does not weigh sessions")
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 4, 19)
    assert shown(nice, leads=True)[2] == str(nice)


def test_what_the_operator_set_higher_stays() -> None:
    """A process that was started with more niceness keeps it."""
    before = min(os.getpriority(os.PRIO_PROCESS, 0) + 6, 19)
    thread, _, _ = shown(0, leads=False, before=6)
    assert thread == str(before)
