"""The output of a running training: progress bars on stderr, scalars for TensorBoard, a line for each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Journal:
    """shown: false in all processes but the first, and in tests; then nothing is printed."""

    def __init__(self, run_dir: Path | None, *, shown: bool = True) -> None:
        self._console = Console(stderr=True, quiet=not shown, highlight=False)
        self._shown = shown
        self._folder = run_dir / "tensorboard" if run_dir and shown else None
        self._writer: SummaryWriter | None = None

    def say(self, line: str) -> None:
        """One line for the user."""
        self._console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, what: str, total: int, done: int = 0) -> Iterator[Bar]:
        """A progress bar of `total` items with the remaining time."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(
            *columns, console=self._console, disable=not (self._shown and self._console.is_terminal), transient=True
        ) as progress:
            yield Bar(progress, progress.add_task(what, total=total, completed=done, note=""))

    def scalars(self, stage: str, values: dict[str, float], step: int) -> None:
        """Points of TensorBoard's curves.  Without the package (extra `train`) there are none."""
        if self._folder is None:
            return
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional, and slow to import
            except ImportError:
                self.say("tensorboard is not installed (pip install 'mien[train]'): no curves are written")
                self._folder = None
                return
            self._writer = SummaryWriter(str(self._folder))
        for name, value in values.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()


class Bar:
    """A progress bar that is being shown."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: int = 1) -> None:
        """Advance by `count` items."""
        self._progress.update(self._task, advance=count)

    def note(self, note: str) -> None:
        """Set the text at the bar's end."""
        self._progress.update(self._task, note=note)
