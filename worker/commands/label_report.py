"""The report of `worker label` on standard error: progress, warnings, failures, and a summary of many inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from worker.commands.label_inputs import Clip


@dataclass
class Outcome:
    """The outcome of a labelled clip."""

    frames: int = 0
    seconds: float = 0.0
    warnings: Sequence[str] = ()


@dataclass
class Report:
    """Counts clips.  A terminal shows a progress bar of the current clip; other outputs get a line for each clip."""

    total: int
    failed: list[tuple[Clip, str]] = field(default_factory=list)
    skipped: int = 0
    labelled: int = 0
    frames: int = 0
    _console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False, soft_wrap=True))

    def __post_init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextmanager
    def labelling(self, clip: Clip, frames: int | None) -> Iterator[Callable[[int], None]]:
        """Show progress inside the block.  Yields a function that takes the number of finished frames."""
        task = self._bar.add_task(self._named(clip), total=frames)
        try:
            yield lambda done: self._bar.update(task, completed=done)
        finally:
            self._bar.remove_task(task)

    def succeed(self, clip: Clip, outcome: Outcome) -> None:
        """A clip is labelled and written."""
        for warning in outcome.warnings:
            self._say(f"{clip.name}: {warning}", "yellow")
        if not self._console.is_terminal:
            self._say(f"{self._named(clip)}: {outcome.frames} frames in {outcome.seconds:.1f} s")
        self.labelled += 1
        self.frames += outcome.frames

    def fail(self, clip: Clip, why: str) -> None:
        """A clip cannot be labelled."""
        self._say(f"{self._named(clip)}: {why}", "red")
        self.failed.append((clip, why))

    def skip(self, clip: Clip) -> None:
        """A clip's output exists already."""
        if not self._console.is_terminal:
            self._say(f"{self._named(clip)}: its output is there already")
        self.skipped += 1

    def summarise(self) -> None:
        """For several clips: the number of labelled ones, and the failures."""
        if self.total == 1:
            return
        parts = [f"{self.labelled} labelled ({self.frames} frames)"]
        parts += [f"{self.skipped} skipped"] if self.skipped else []
        parts += [f"{len(self.failed)} failed:"] if self.failed else []
        self._say(f"{self.total} inputs: {', '.join(parts)}")
        for clip, why in self.failed:
            self._say(f"  {clip.path}: {why}", "red")

    def _named(self, clip: Clip) -> str:
        number = self.labelled + self.skipped + len(self.failed) + 1
        return f"[{number}/{self.total}] {clip.name}" if self.total > 1 else str(clip.name)

    def _say(self, line: str, style: str | None = None) -> None:
        self._console.print(line, style=style, markup=False)
