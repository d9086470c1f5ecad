"""A worker that takes its time, perhaps with one thing broken: `python -m tests.faults.launch FAULT ARGUMENT`.

Otherwise it is `python -m worker run`.

slow: nothing is broken; it waits a moment after each frame, so that there is time to do something to it.
hangs: the device never answers, once the model is warm; the watchdog notices soon.
room FILE: the device has memory for as many crops at once as the file says; read before each batch.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from worker import serving
from worker.commands import main
from worker.ensemble.engine import Engine
from worker.ensemble.passes import FramePass

FRAME_S = 0.03


def take_time() -> None:
    """Have the job wait after each frame."""
    contract_frames = serving.contract_frames

    def slowly(frames: Any) -> Iterator[Any]:
        for frame in contract_frames(frames):
            time.sleep(FRAME_S)
            yield frame

    serving.contract_frames = slowly


def hangs() -> None:
    """Break `Engine` so that it hangs."""
    warm_up = Engine.warm_up

    def then_hang(engine: Engine) -> None:
        warm_up(engine)
        engine._launch = lambda _: threading.Event().wait()  # type: ignore[assignment, method-assign, return-value]

    Engine.warm_up = then_hang  # type: ignore[assignment, method-assign]


class Limited:
    """A pass over crops with memory for few of them at once."""

    def __init__(self, whole: FramePass, file: Path) -> None:
        self._whole = whole
        self._file = file

    def __call__(self, crops: Any) -> Any:
        if len(crops) > int(self._file.read_text()):
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return self._whole(crops)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


def has_room(file: Path) -> None:
    """Break `Engine` so that large batches are out of memory."""
    warm_up = Engine.warm_up

    def then_shrink(engine: Engine) -> None:
        warm_up(engine)
        engine._pass = Limited(engine._pass, file)

    Engine.warm_up = then_shrink  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    fault, *arguments = sys.argv[1:]
    take_time()
    if fault == "hangs":
        hangs()
        os.environ["MIEN_STALL_S"] = "2"
    elif fault == "room":
        has_room(Path(arguments[0]))
    sys.argv[1:] = ["run"]
    main()
