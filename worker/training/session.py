"""The environment of a training: its place, journal and run folder, and one-line errors for the user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
from torch import distributed as dist

from model_store.bundle import BundleError, write_whole
from worker.training.errors import CheckpointError, TrainingError
from worker.training.fingerprint import current_commit
from worker.training.journal import Journal
from worker.training.loop import Run
from worker.training.place import Place, find_place, leave
from worker.training.recipes import Settings

SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class Session:
    """A training of this process, under way.  commit: of the code that trains."""

    run_dir: Path
    resume: bool
    place: Place
    journal: Journal
    commit: str | None

    def run(self, settings: Settings, signature: str) -> Run:
        """Claim the run folder, in the first process before the others.

        Raises: CheckpointError if the folder has an earlier run that is not to be resumed.
        """
        if self.place.first:
            self._prepare({"signature": signature, "commit": self.commit, "settings": asdict(settings)})
        self.place.wait()
        return Run(
            self.run_dir, self.place, self.journal, settings.seed, settings.half_precision, signature, self.resume
        )

    def started(self) -> dict[str, Any]:
        """`signature`, `commit` and `settings` as the run began, however often it was resumed since."""
        content: dict[str, Any] = json.loads((self.run_dir / SETTINGS_FILE).read_text())
        return content

    def _prepare(self, content: dict[str, Any]) -> None:
        if any(self.run_dir.glob("*.pt")):
            if not self.resume:
                raise CheckpointError(f"{self.run_dir} holds an earlier run: add --resume, or name another --run-dir")
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        write_whole(self.run_dir / SETTINGS_FILE, json.dumps(content, indent=2) + "\n")


@contextmanager
def training_session(device: str, run_dir: Path, *, resume: bool) -> Iterator[Session]:
    """Choose the device, run the body, and leave `torchrun`'s other processes, which wait for the first at the end.

    Raises: TrainingError, also where a bundle cannot be read or written.
    """
    commit = current_commit()  # now, since the checkout may change during the training
    place = find_place(device)
    journal = Journal(run_dir, shown=place.first)
    cv2.setNumThreads(1)  # decoding and drawing share the CPU with the networks
    try:
        yield Session(run_dir, resume, place, journal, commit)
        if dist.is_initialized():  # unless the body has released the others already
            place.wait()
    except BundleError as error:
        raise TrainingError(str(error)) from None
    finally:
        journal.close()
        leave(place)
