"""The worker's commands, run as their users run them."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.service import ROOT


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a command of the worker."""
    return subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr of a command."""
    process = start(*arguments)
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err
