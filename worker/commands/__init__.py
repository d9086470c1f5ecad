"""The worker's commands, one file each; imports are lazy, so that `--help` is fast.

Exit status: 0 on success, 2 on bad usage, 1 otherwise with one clear line on stderr.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import typer
from pydantic import ValidationError

from worker.core import malloc
from worker.errors import CommandError, StartAgainError, UsageError

COMMANDS = {
    "run": "Take jobs until SIGTERM.",
    "label": "Label videos, image folders or images here, without Redis.",
    "import": "Published checkpoints to a bundle, weights to a backbone, wheels to a detector.",
    "convert": "Make a bundle's graphs for the CPU, which older bundles lack.",
    "bench": "Measure speed against the plain sliding-window reference.",
    "evaluate": "Measure a bundle on labelled data.",
    "evaluate-detector": "Measure a face detector on marked frames, or against another on clips.",
    "train": "Train members and fusion, write a bundle.",
}
DECODING = frozenset({"label", "bench"})  # as soon as they have loaded
BAD_USAGE = 2
MODULES = {"import": "import_", "evaluate-detector": "evaluate_detector"}


def main() -> None:
    """Run the command named on the command line."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in {"--help", "-h"} or name not in COMMANDS:
        _overview(wrong=None if name in {"--help", "-h"} else name)
    malloc.keep()
    if name in DECODING:
        from worker.decode.isolated import PROCESS  # noqa: PLC0415

        PROCESS.start()  # loads concurrently
    with malloc.only_growing():
        module = import_module(f"worker.commands.{MODULES.get(name, name)}")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name, help=COMMANDS[name], epilog=getattr(module, "EPILOG", None))(module.command)
    try:
        app(args=sys.argv[2:], prog_name=f"python -m worker {name}")
    except CommandError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(BAD_USAGE if isinstance(error, UsageError) else 1)
    except ValidationError as error:
        from app.contract.settings import mistakes  # noqa: PLC0415

        if not error.title.endswith("Settings"):
            raise
        for mistake in mistakes(error):
            typer.echo(f"error: {mistake}", err=True)
        sys.exit(BAD_USAGE)
    except StartAgainError as error:
        typer.echo(f"starting again: {error}", err=True)
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | error.environment)  # noqa: S606
    except BrokenPipeError:
        # `... | head` closed the pipe: discard what Python would flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _overview(wrong: str | None) -> None:
    stream = sys.stderr if wrong else sys.stdout
    if wrong:
        print(f"error: no command {wrong!r}", file=stream)
    print("usage: python -m worker COMMAND [--help]\n", file=stream)
    for name, purpose in sorted(COMMANDS.items()):
        print(f"  {name:18} {purpose}", file=stream)
    sys.exit(BAD_USAGE if wrong else 0)
