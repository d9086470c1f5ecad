"""How `python -m worker` answers what it cannot do."""

from __future__ import annotations

import sys

import pytest

from tests.commands import run, run_here
from worker import commands
from worker.core import malloc
from worker.settings import WorkerSettings


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("MIEN_DEVICE", "gpu", "String should match pattern"),
        ("MIEN_REDIS_URL", "localhost:6379/secret", "must start with redis://, rediss:// or unix://"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(setting: str, value: str, says: str) -> None:
    """Status 2, and no value that may be a secret."""
    status, _, err = run("run", **{setting: value})
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith(f"error: {setting}: ")
    assert says in err
    assert "secret" not in err


def test_help_lists_every_setting() -> None:
    """`python -m worker run --help` names every setting of the worker."""
    status, out, _ = run("run", "--help", COLUMNS="200")
    assert status == 0
    for name in WorkerSettings.model_fields:
        assert f"MIEN_{name.upper()}" in out


def test_a_command_that_there_is_not_is_bad_usage() -> None:
    """All that there are follow."""
    status, _, err = run_here("dance")
    assert status == 2
    assert "no command 'dance'" in err
    assert "label" in err


def test_every_command_keeps_the_memory_that_it_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything else, since threads that there are have memory of their own."""
    kept: list[None] = []
    monkeypatch.setattr(malloc, "keep", lambda: kept.append(None))
    for name in commands.COMMANDS:
        monkeypatch.setattr(sys, "argv", ["worker", name, "--help"])
        with pytest.raises(SystemExit):
            commands.main()
    assert len(kept) == len(commands.COMMANDS)
