"""Freed memory stays with the process until it is released.  Each test is a process, since the setting is permanent."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

COMMON = """
import resource, threading
from worker.core import malloc

def use(megabytes):
    for _ in range(3):
        b"x" * (megabytes << 20)

def faults(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use(megabytes)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20
"""


def told(code: str) -> list[int]:
    """The whole numbers that the code prints."""
    ended = subprocess.run(
        [sys.executable, "-c", COMMON + code], capture_output=True, text=True, timeout=60, check=True
    )
    return [int(word) for word in ended.stdout.split()]


@pytest.mark.parametrize("megabytes", [8, 100])  # a further arena would hold 64 at most
def test_the_next_batch_takes_what_the_last_one_freed(megabytes: int) -> None:
    """No page is asked of the system a second time, on a thread either."""
    found = told(f"""
malloc.keep()
use({megabytes})
print(faults({megabytes}))

def on_a_thread():
    print(faults({megabytes}))

thread = threading.Thread(target=on_a_thread)
thread.start()
thread.join()
""")
    page_faults_each = megabytes * 2**20 // 4096
    assert len(found) == 2
    assert max(found) < page_faults_each / 10


def test_what_is_kept_can_be_given_back() -> None:
    """An idle worker's memory is the system's again."""
    before, kept, given_back = told("""
malloc.keep()
print(resident())
use(200)
print(resident())
malloc.give_back()
print(resident())
""")
    assert kept > before + 190
    assert given_back < before + 20
