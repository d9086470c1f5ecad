"""Runs a target for a while: hypothesis makes inputs, round after round, each round from a seed of its own."""

from __future__ import annotations

import hashlib
import secrets
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisWarning

from tests.fuzz.targets import Target

ROUND = 200  # inputs made from one seed
FIXED_SEEDS = 3  # the same in every run; those after them are fresh
SLOW_S = 5.0  # of processor time: an input that takes longer is a finding, too


@dataclass(frozen=True)
class Fuzzed:
    """How much was tried."""

    inputs: int
    rounds: int
    slowest_s: float


class FoundError(AssertionError):
    """An input that is handled incorrectly; `path` holds it."""


def check_soon(target: Target, data: bytes) -> float:
    """Check one input; the seconds of processor time that it took.  Raises: AssertionError if those are too many."""
    began = time.process_time()
    target.check(data)
    took_s = time.process_time() - began
    assert took_s < SLOW_S, f"it took {took_s:.1f} s"
    return took_s


def fuzz(target: Target, seconds: float, found: Path) -> Fuzzed:
    """Try inputs for so many seconds.  found: folder for the smallest input that fails.  Raises: FoundError."""
    trial = _Trial(target, time.monotonic() + seconds)
    rounds = 0
    while not trial.is_over:
        number = rounds if rounds < FIXED_SEEDS else secrets.randbits(64)
        try:
            _round(trial, number)
        except BaseException as error:
            if trial.failing is None:
                raise
            path = found / hashlib.sha256(trial.failing).hexdigest()[:16]
            found.mkdir(parents=True, exist_ok=True)
            path.write_bytes(trial.failing)
            said = f"{target.name}: {type(error).__name__}: {error}; seed {number}, input in {path}"
            raise FoundError(said) from error
        rounds += 1
    return Fuzzed(trial.inputs, rounds, trial.slowest_s)


class _Trial:
    """Checks inputs one by one, and remembers the last one that failed: the smallest, as hypothesis shrinks them."""

    def __init__(self, target: Target, deadline: float) -> None:
        self.target = target
        self._deadline = deadline
        self.inputs = 0
        self.slowest_s = 0.0
        self.failing: bytes | None = None

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._deadline

    def check(self, data: bytes) -> None:
        if self.is_over and self.failing is None:
            return
        self.inputs += 1
        try:
            self.slowest_s = max(self.slowest_s, check_soon(self.target, data))
        except BaseException:
            self.failing = data
            raise


def _round(trial: _Trial, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=ROUND,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(trial.target.inputs)
    def inputs(data: bytes) -> None:
        trial.check(data)

    with warnings.catch_warnings():
        # A finding that is long to show would else end as the warning that says so.
        warnings.simplefilter("ignore", HypothesisWarning)
        inputs()
