"""The worker's commands, run as their users run them, or in the process of the tests, which spares their start."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch

from tests.service import ROOT
from worker import commands
from worker.core import malloc


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command of the worker."""
    return subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr of a command."""
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def run_here(*arguments: str) -> tuple[int, str, str]:
    """The same without a process of its own: for commands that refuse, or compute little."""
    out, err = io.StringIO(), io.StringIO()
    status, threads = 0, torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["worker", *arguments])
        patch.setattr(malloc, "keep", lambda: None)  # would hold for all later tests
        try:
            commands.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            torch.set_num_threads(threads)
    return status, out.getvalue(), err.getvalue()
