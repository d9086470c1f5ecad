"""Compares two checkouts by running the same commands in each, in turns, on the same machine.

A machine's speed drifts from minute to minute, so what counts is the ratio within a turn; medians and the range of
these ratios are reported.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

HERE = Path(__file__).resolve().parents[2]


class BuildError(RuntimeError):
    """A command failed in one of the checkouts."""


@dataclass(frozen=True)
class Comparison:
    """One figure.  theirs, ours: medians.  ratio: median of ours / theirs over the turns, with its range."""

    theirs: float
    ours: float
    ratio: float
    lowest: float
    highest: float


def compare(checkout: Path, turns: int, arguments: Sequence[str], video: Path | None) -> dict[str, Comparison]:
    """Every figure of `worker bench` that both builds report, and with a video the seconds to the first record.

    checkout: the other build, run by the interpreter of its `.venv` if it has one, else by this one.  turns: runs of
    each build; which one runs first alternates.  arguments: further options of `worker bench`.
    Raises: BuildError.
    """
    theirs: list[dict[str, float]] = []
    ours: list[dict[str, float]] = []
    for turn in range(turns):
        pair = [(checkout.resolve(), theirs), (HERE, ours)]
        for build, found in reversed(pair) if turn % 2 else pair:
            found.append(dict(_figures(build, arguments, video)))
    return {
        name: _compared([each[name] for each in theirs], [each[name] for each in ours])
        for name in ours[0]
        if all(each.get(name) for each in (*theirs, *ours))
    }


def _figures(build: Path, arguments: Sequence[str], video: Path | None) -> Iterator[tuple[str, float]]:
    given = [] if video is None else ["--video", str(video.resolve())]
    _, printed = _run(build, ["bench", *arguments, *given, "--json"])
    yield from _numbers(json.loads(printed))
    if video is not None:
        seconds, _ = _run(build, ["label", str(video.resolve()), "--format", "ndjson"])
        yield "first_record_s", seconds


def _run(build: Path, arguments: Sequence[str]) -> tuple[float, str]:
    """Seconds until the first line of the output, and the output.  Raises: BuildError."""
    own = build / ".venv" / "bin" / "python"
    command = [str(own if own.exists() else sys.executable), "-m", "worker", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(build)}
    with TemporaryFile("w+") as errors:
        started = time.perf_counter()
        with subprocess.Popen(  # noqa: S603 (the build that was named)
            command, cwd=build, env=environment, text=True, stdout=subprocess.PIPE, stderr=errors
        ) as process:
            lines = iter(process.stdout or ())
            first = next(lines, "")
            seconds = time.perf_counter() - started
            printed = first + "".join(lines)
        if process.returncode or not printed:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:]
            raise BuildError(f"`worker {arguments[0]}` failed in {build}: {' '.join(last) or process.returncode}")
    return seconds, printed


def _numbers(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Rates and sizes, those of a part with the part's name before theirs."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif name.endswith(("fps", "bytes")) and value is not None:
            yield prefix + name, float(value)


def _compared(theirs: list[float], ours: list[float]) -> Comparison:
    ratios = [own / other for other, own in zip(theirs, ours, strict=True)]
    middle = statistics.median
    return Comparison(middle(theirs), middle(ours), middle(ratios), min(ratios), max(ratios))
