"""Errors that end a command of the worker; `worker.commands` maps them to an exit status or a restart."""

from __future__ import annotations


class CommandError(Exception):
    """The command failed; the message is one line for its user.

    lasting: a retry would fail, too, until the cause is fixed.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class UsageError(CommandError):
    """The command line is invalid."""


class StartAgainError(Exception):
    """The command must be restarted in a new process with these environment variables; the message is the reason."""

    def __init__(self, message: str, environment: dict[str, str]) -> None:
        super().__init__(message)
        self.environment = environment
