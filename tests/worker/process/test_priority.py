"""The worker steps back before a front end on its host."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from worker.process.priority import AUTOGROUP

SHOW = """
import os, subprocess, sys, threading
from tests.worker.process.test_priority import session_nice
from worker.process.priority import step_back
step_back(int(sys.argv[1]))
found = []
thread = threading.Thread(target=lambda: found.append(os.getpriority(os.PRIO_PROCESS, 0)))
thread.start()
thread.join()
child = subprocess.run(["nice"], capture_output=True, text=True, check=True).stdout.strip()
print(found[0], child, session_nice())
"""


def session_nice() -> str:
    """Niceness of this process's session; "none" where the kernel weighs none, or not this one."""
    if not AUTOGROUP.exists():
        return "none"
    return (AUTOGROUP.read_text().split() or ["none"])[-1]


def shown(nice: int, *, leads: bool, before: int = 0) -> list[str]:
    """Niceness of a thread and of a child, and the session's."""
    command = ["nice", "-n", str(before), sys.executable, "-c", SHOW, str(nice)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=leads)
    return done.stdout.split()


def test_threads_and_children_inherit_it() -> None:
    """Later children have the same niceness; other processes of the session are unaffected."""
    here = os.getpriority(os.PRIO_PROCESS, 0)
    nice = min(here + 4, 19)
    thread, child, group = shown(nice, leads=False)
    assert (thread, child) == (str(nice), str(nice))
    assert group == session_nice()


def test_a_session_of_its_own_steps_back_as_a_whole() -> None:
    """With autogroups, the session that the worker leads also gets the niceness."""
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 4, 19)
    group = shown(nice, leads=True)[2]
    if group == "none":
        pytest.skip("this kernel does not weigh sessions")
    assert group == str(nice)


def test_what_the_operator_set_higher_stays() -> None:
    """A process that was started with more niceness keeps it."""
    before = min(os.getpriority(os.PRIO_PROCESS, 0) + 6, 19)
    thread, _, _ = shown(0, leads=False, before=6)
    assert thread == str(before)
