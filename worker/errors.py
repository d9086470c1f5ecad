"""What a command of the worker ends with: `worker.commands` makes an exit status, or another start, of it."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot go on; the message is the one line that its user reads.

    lasting: another try would fail likewise, until somebody mends the cause.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class UsageError(CommandError):
    """The command was called in a way that it cannot follow."""


class StartAgainError(Exception):
    """This process cannot go on, and the same command can with these environment variables; the message says why."""

    def __init__(self, message: str, environment: dict[str, str]) -> None:
        super().__init__(message)
        self.environment = environment
