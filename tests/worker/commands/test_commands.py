"""How `python -m worker` answers what it cannot do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from worker import commands
from worker.core import malloc
from worker.settings import WorkerSettings


def worker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, ended."""
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("MIEN_DEVICE", "gpu", "String should match pattern"),
        ("MIEN_REDIS_URL", "localhost:6379/secret", "must start with redis://, rediss:// or unix://"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(setting: str, value: str, says: str) -> None:
    """Status 2, and no value that may be a secret."""
    ended = worker("run", **{setting: value})
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"error: {setting}: ")
    assert says in ended.stderr
    assert "secret" not in ended.stderr


def test_help_lists_every_setting() -> None:
    """`python -m worker run --help` names every setting of the worker."""
    shown = worker("run", "--help", COLUMNS="200")
    assert shown.returncode == 0
    for name in WorkerSettings.model_fields:
        assert f"MIEN_{name.upper()}" in shown.stdout


def test_a_command_that_there_is_not_is_bad_usage() -> None:
    """All that there are follow."""
    ended = worker("dance")
    assert ended.returncode == 2
    assert "no command 'dance'" in ended.stderr
    assert "label" in ended.stderr


def test_every_command_keeps_the_memory_that_it_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything else, since threads that there are have memory of their own."""
    kept: list[None] = []
    monkeypatch.setattr(malloc, "keep", lambda: kept.append(None))
    for name in commands.COMMANDS:
        monkeypatch.setattr(sys, "argv", ["worker", name, "--help"])
        with pytest.raises(SystemExit):
            commands.main()
    assert len(kept) == len(commands.COMMANDS)
