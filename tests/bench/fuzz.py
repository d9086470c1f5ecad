"""Fuzzes the readers of what others write: `python tests/bench/fuzz.py [TARGET...] [--minutes 10]`.

One target after the other; what it finds is written to `.fuzz/TARGET/`, exit status 1.  Copy it to
`tests/fuzz/corpus/TARGET/` once it is mended.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz.running import FoundError, fuzz
from tests.fuzz.targets import TARGETS

FOUND = Path(".fuzz")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all if absent")
    parser.add_argument("--minutes", type=float, default=10, help="of each")
    given = parser.parse_args()
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are: {', '.join(TARGETS)}")
    logging.disable()  # the multipart parser says what it does not like
    status = 0
    for name in given.targets or TARGETS:
        try:
            tried = fuzz(TARGETS[name], 60 * given.minutes, FOUND / name)
        except FoundError as error:
            print(error, flush=True)
            status = 1
        else:
            print(
                f"{name}: {tried.inputs} inputs in {given.minutes:g} minutes, {tried.rounds} rounds,"
                f" the slowest took {tried.slowest_s:.2f} s; nothing found",
                flush=True,
            )
    return status


if __name__ == "__main__":
    sys.exit(main())
