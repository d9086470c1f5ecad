"""The trainer: one network through its epochs, with everything that makes a long run safe.

All randomness of a step comes from (seed, stage, epoch, step), so a run that was killed and resumed ends at the weights
of an undisturbed one.  Each step: batch -> loss -> gradient -> optimiser -> weight average.  Each epoch: validation,
best weights kept by the challenge metric, checkpoint.
"""

from __future__ import annotations

import math
import signal
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from worker.training.checkpoint import load_checkpoint, save_checkpoint
from worker.training.errors import CheckpointError, DeviceTooSmallError, Interrupted, TrainingError
from worker.training.journal import Bar, Journal
from worker.training.optimise import WeightAverage, build_optimiser, learning_rate
from worker.training.place import Place, generator, shares_of
from worker.training.recipes import Stage

METRIC = "challenge_metric"
CHECKPOINT_EVERY_S = 300.0
REPORT_EVERY = 10  # steps

Batch = TypeVar("Batch")
State = dict[str, Tensor]


class Task(Protocol, Generic[Batch]):
    """What is trained on what.

    model: on its device.  size: number of items.  draw_weights: (size,) how often each item is drawn, None for once
    an epoch.
    """

    model: nn.Module
    size: int
    draw_weights: Tensor | None

    def batches(self, order: list[Tensor], epoch: int, first_step: int) -> Iterator[Batch]:
        """The batches of an epoch from step `first_step` on; order: for each step of the epoch its item indices."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Metrics on validation data, the challenge metric among them."""


@dataclass(frozen=True)
class Outcome:
    """The weights of a stage that are kept, on the CPU, with their epoch (from 1) and metrics."""

    state: State
    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Run:
    """Shared state of all stages of a run.  signature: of the settings and data that a checkpoint must match."""

    folder: Path
    place: Place
    journal: Journal
    seed: int
    half_precision: bool
    signature: str = ""
    resume: bool = False


def check_shares(name: str, stage: Stage, place: Place) -> None:
    """Raises: TrainingError for a batch that the processes cannot share; for those who ask before an earlier stage."""
    if stage.batch % place.world:
        raise TrainingError(f"{name}.batch {stage.batch} is not a multiple of the {place.world} processes")


class Trainer(Generic[Batch]):
    """Trains one stage.  `name` names its checkpoints and curves."""

    def __init__(self, name: str, task: Task[Batch], stage: Stage, run: Run) -> None:
        check_shares(name, stage, run.place)
        self.name, self.task, self.stage, self.run_ = name, task, stage, run
        self.stage_seed = zlib.crc32(name.encode())
        self.steps = math.ceil(task.size / stage.batch)
        self.model = task.model
        self.optimiser = build_optimiser(self.model, stage)
        self.average = WeightAverage(self.model, stage.weight_average)
        self.epoch, self.step = 0, 0  # the next to do; step counts within the epoch
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.saved_at = time.monotonic()

    @property
    def last_file(self) -> Path:
        """The checkpoint to resume from."""
        return self.run_.folder / f"{self.name}.last.pt"

    @property
    def best_file(self) -> Path:
        """The weights of the best epoch so far."""
        return self.run_.folder / f"{self.name}.best.pt"

    def run(self) -> Outcome:
        """Train to the end, or from where the last checkpoint stopped.

        Raises: Interrupted after Ctrl-C or SIGTERM, with a checkpoint written; DeviceTooSmallError; CheckpointError.
        """
        if self.run_.resume and self.last_file.exists():
            self._restore(load_checkpoint(self.last_file))
        wrapped = self.run_.place.wrap(self.model)
        with _stop_signal() as stop:
            while self.epoch < self.stage.epochs and not self._tired():
                try:
                    loss = self._train_epoch(wrapped, stop)
                except RuntimeError as error:
                    if not _is_out_of_memory(error):
                        raise
                    raise DeviceTooSmallError(
                        f"{self.run_.place.device} ran out of memory: lower {self.name.split('-')[0]}.batch "
                        f"(now {self.stage.batch}), then start again with --resume"
                    ) from None
                self._finish_epoch(loss)
        self.run_.place.wait()
        best = load_checkpoint(self.best_file)
        return Outcome(best["model"], best["epoch"], best["metrics"])

    def _tired(self) -> bool:
        return bool(self.stage.patience) and self.epoch - self.best_epoch >= self.stage.patience

    def _order(self) -> list[Tensor]:
        rng = generator(self.run_.seed, self.stage_seed, self.epoch)
        count = self.steps * self.stage.batch
        if self.stage.rebalance and self.task.draw_weights is not None:
            order = _draw(self.task.draw_weights, count, rng)
        else:
            order = torch.randperm(self.task.size, generator=rng)
            order = order.repeat(math.ceil(count / len(order)))[:count]  # the last batch is filled from the first
        return [shares_of(batch, self.run_.place) for batch in torch.split(order, self.stage.batch)]

    def _train_epoch(self, wrapped: nn.Module, stop: list[bool]) -> float:
        place, device = self.run_.place, self.run_.place.device
        total = torch.zeros((), device=device)
        first = self.step
        title = f"{self.name} {self.epoch + 1}/{self.stage.epochs}"
        self.model.train()
        with self.run_.journal.bar(title, self.steps, first) as bar:
            for batch in self.task.batches(self._order(), self.epoch, first):
                total += self._train_step(wrapped, batch)
                self.step += 1
                if self.step % REPORT_EVERY == 0 or self.step == self.steps:  # reading the loss waits for the device
                    self._report(bar, float(total) / (self.step - first))
                bar.advance()
                if place.any(stop[0]):
                    self._save()
                    raise Interrupted(f"stopped; {self.last_file} is kept, continue with --resume")
                if time.monotonic() - self.saved_at > CHECKPOINT_EVERY_S:
                    self._save()
        return float(total) / max(self.step - first, 1)

    def _train_step(self, wrapped: nn.Module, batch: Batch) -> Tensor:
        step = self.epoch * self.steps + self.step
        rate = learning_rate(self.stage, step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(self.run_.place.device.type, torch.bfloat16, enabled=self.run_.half_precision):
            loss = self.task.loss(wrapped, batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.stage.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.stage.clip_norm)
        self.optimiser.step()
        self.average.update(self.model, step)
        return loss.detach()

    def _report(self, bar: Bar, loss: float) -> None:
        best = max((epoch[METRIC] for epoch in self.history), default=None)
        bar.note(f"loss {loss:.4f}" + (f", best metric {best:.4f}" if best is not None else ""))
        rate = self.optimiser.param_groups[0]["lr"]
        step = self.epoch * self.steps + self.step
        self.run_.journal.scalars(self.name, {"loss": loss, "learning_rate": rate}, step)

    def _finish_epoch(self, loss: float) -> None:
        place = self.run_.place
        metrics = self.task.validate(self.average.model.eval()) if place.first else {METRIC: 0.0}
        metrics[METRIC] = place.from_first(metrics[METRIC])
        self.epoch, self.step = self.epoch + 1, 0
        kept = self.stage.keep == "last" or all(metrics[METRIC] > epoch[METRIC] for epoch in self.history)
        self.history.append({"loss": loss, **metrics})
        if kept:
            self.best_epoch = self.epoch
            if place.first:
                state = {key: value.detach().cpu() for key, value in self.average.model.state_dict().items()}
                save_checkpoint(self.best_file, {"model": state, "epoch": self.epoch, "metrics": metrics})
        self._save()
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        title = f"{self.name} epoch {self.epoch}/{self.stage.epochs}"
        self.run_.journal.say(f"{title}: loss {loss:.4f}, {shown}{' (kept)' if kept else ''}")
        self.run_.journal.scalars(f"{self.name}/validation", metrics, self.epoch * self.steps)

    def _save(self) -> None:
        self.saved_at = time.monotonic()
        if not self.run_.place.first:
            return
        content = {
            "stage": self.name,
            "signature": self.run_.signature,
            "epoch": self.epoch,
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict() if self.average.decay else {},
            "optimiser": self.optimiser.state_dict(),
            "history": self.history,
            "best_epoch": self.best_epoch,
        }
        save_checkpoint(self.last_file, content)

    def _restore(self, content: dict[str, Any]) -> None:
        if content.get("signature") != self.run_.signature:
            raise CheckpointError(f"{self.last_file} belongs to other settings or other data: name another --run-dir")
        self.model.load_state_dict(content["model"])
        if self.average.decay:
            self.average.model.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.epoch, self.step = content["epoch"], content["step"]
        self.history, self.best_epoch = content["history"], content["best_epoch"]
        self.run_.journal.say(f"{self.name}: resumed at epoch {self.epoch + 1}, step {self.step}")


def rebalanced(shares: Tensor, power: float) -> Tensor:
    """How often to draw each item: (N, K) label shares -> (N,), each label by (most frequent / its own) ^ power."""
    frequency = shares.mean(dim=0).clamp(min=1e-6)
    return (shares * (frequency.max() / frequency) ** power).sum(dim=1)


def _draw(weights: Tensor, count: int, rng: torch.Generator) -> Tensor:
    # torch.multinomial is limited to 2^24 categories; inverting the cumulative sum is not.
    edges = weights.double().cumsum(0)
    points = torch.rand(count, generator=rng, dtype=torch.float64) * edges[-1]
    return torch.searchsorted(edges, points, right=True).clamp(max=len(weights) - 1)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)


@contextmanager
def _stop_signal() -> Iterator[list[bool]]:
    """Yields a list that becomes [True] after SIGINT or SIGTERM; a second SIGINT stops at once."""
    stop = [False]

    def handle(number: int, _: FrameType | None) -> None:
        if stop[0] and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop[0] = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
