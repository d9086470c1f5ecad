"""A worker that takes its time, and to which things happen: `python -m tests.faults.launch FOLDER [FAULT]`.

Otherwise it is `python -m worker run`.  It waits a moment after each frame: there is time to do something to it.
What is in a file of the folder happens from then on, without the file nothing does:

room: the device has memory for so many crops at once.
decoder: the signal that an input's decoder gets in the middle of it, once; the file goes.

A fault is there from the start:

hangs: the device never answers, once the model is warm; the watchdog notices soon.
taken, begun: killed with a job that it has popped, or of which RQ knows that it runs, before it has claimed it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.commands import main
from worker.core.devices import OutOfDeviceMemoryError
from worker.decode import isolated
from worker.ensemble.engine import Engine
from worker.ensemble.runtime import Runtime
from worker.inference import serving
from worker.jobs.rq_worker import ResidentWorker

FRAME_S = 0.03
MIDDLE = 40  # frames that the decoder gave before something happens to it: a few more may be on their way
SILENCE_S = 5.0


def take_time() -> None:
    """Have the job wait after each frame."""
    contract_frames = serving.contract_frames

    def slowly(frames: Any, info: Any) -> Iterator[Any]:
        for frame in contract_frames(frames, info):
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


def signals_decoders(file: Path) -> None:
    """Break `IsolatedSource` so that its decoder stops, to be ended soon, or dies, where the file says so."""
    frames = isolated.IsolatedSource.frames

    def until_the_middle(source: isolated.IsolatedSource) -> Iterator[Any]:
        for number, frame in enumerate(frames(source), start=1):
            if number == MIDDLE and file.exists():
                word = file.read_text()
                file.unlink()
                assert source._pid is not None
                os.kill(source._pid, signal.Signals[word])
            yield frame

    isolated.IsolatedSource.frames = until_the_middle  # type: ignore[assignment, method-assign]
    isolated.SILENCE_S = SILENCE_S


def dies(step: str) -> None:
    """Break `ResidentWorker` so that the process is killed when this method has done something."""
    whole = getattr(ResidentWorker, step)

    def then_die(worker: ResidentWorker, *given: Any) -> Any:
        done = whole(worker, *given)
        if done is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(ResidentWorker, step, then_die)


class Limited:
    """A pass over crops with memory for few of them at once."""

    def __init__(self, whole: Runtime[Any], file: Path) -> None:
        self._whole = whole
        self._file = file

    def encode(self, crops: Any) -> Any:
        if self._file.exists() and len(crops) > int(self._file.read_text()):
            raise OutOfDeviceMemoryError("the device has no memory (injected)")
        return self._whole.encode(crops)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


def has_room(file: Path) -> None:
    """Break `Engine` so that large batches are out of memory."""
    warm_up = Engine.warm_up

    def then_shrink(engine: Engine) -> None:
        warm_up(engine)
        engine._runtime = Limited(engine._runtime, file)

    Engine.warm_up = then_shrink  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    folder, faults = Path(sys.argv[1]), sys.argv[2:]
    take_time()
    has_room(folder / "room")
    signals_decoders(folder / "decoder")
    if "hangs" in faults:
        hangs()
        os.environ["MIEN_STALL_S"] = "2"
    if "taken" in faults:
        dies("_pop")
    if "begun" in faults:
        dies("prepare_execution")
    sys.argv[1:] = ["run"]
    main()
