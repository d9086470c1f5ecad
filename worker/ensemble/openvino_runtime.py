"""The ensemble in OpenVINO, on a CPU.

The encoding graph takes pixels to every member's states, the decoding graph states and windows to probabilities
(`conversion.py` makes both).  A batch is cut into parts of fixed size, which streams compute side by side: a fixed size
is a tenth faster than a free one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import openvino as ov

from worker.core.openvino import compiled
from worker.ensemble.precision import Precision
from worker.ensemble.runtime import Crops, Floats, Rows, Runtime, States

BATCH = 32  # of crops; also frames of a step
PART, SMALL_PART = 8, 4  # crops of a part; the small one where more threads than large parts wait for work


class OpenVinoRuntime(Runtime[Any]):
    """See `Runtime`.  Results are float32, in whatever format they were computed."""

    mode = "openvino"
    batch = step_frames = BATCH
    ahead = 0

    def __init__(
        self, encoding: ov.Model, decoding: ov.Model, members: Sequence[str], precision: Precision, threads: int
    ) -> None:
        """encoding: (N, size, size, C) uint8 -> (N, S) for each member.

        decoding: (W, T) int64 and each member's (R, S) -> (M, W, K).
        """
        self._members = tuple(members)
        self._part = PART if threads <= BATCH // PART else SMALL_PART
        streams = min(threads, BATCH // self._part)
        self._labels = decoding.output(0).partial_shape[2].get_length()
        self._decoder = compiled(decoding, "fp32", threads).create_infer_request()

        def requests(size: int) -> list[ov.InferRequest]:
            model = compiled(_of_size(encoding, size), precision, threads, streams)
            return [model.create_infer_request() for _ in range(streams)]

        self._wholes = requests(self._part)
        # For what is left over, one by one.  Compiled meanwhile, so that a worker is ready earlier.
        pool = ThreadPoolExecutor(1, "compiling")
        self._singles = pool.submit(requests, 1)
        pool.shutdown(wait=False)

    def serving(self) -> AbstractContextManager[object]:
        """Nothing of the thread changes."""
        return nullcontext()

    @contextmanager
    def warming_up(self) -> Iterator[Sequence[int]]:
        """One part shows that all works."""
        yield (self._part,)

    def encode(self, crops: Crops) -> States[Floats]:
        """See `Runtime`."""
        pixels = np.stack(crops)
        whole = len(crops) // self._part * self._part
        wholes = [(self._wholes, at, self._part) for at in range(0, whole, self._part)]
        singles = [(self._singles.result(), at, 1) for at in range(whole, len(crops))]
        states: list[Floats] = []
        running: list[tuple[ov.InferRequest, int, int]] = []

        def land() -> None:
            request, at, size = running.pop(0)
            request.wait()
            for index, values in enumerate(request.output_tensors):
                if len(states) == index:
                    states.append(np.empty((len(crops), values.shape[1]), np.float32))
                states[index][at : at + size] = values.data

        for number, (requests, at, size) in enumerate([*wholes, *singles]):
            request = requests[number % len(requests)]
            while any(request is used for used, _, _ in running):
                land()
            request.start_async({0: pixels[at : at + size]}, share_inputs=True)
            running.append((request, at, size))
        while running:
            land()
        return dict(zip(self._members, states, strict=True))

    def indices(self, parts: Sequence[Rows]) -> list[Rows]:
        """Themselves."""
        return list(parts)

    def step(self, states: States[Floats], keep: Rows, windows: Rows) -> tuple[States[Floats], Floats]:
        """See `Runtime`."""
        kept = {name: values[keep] for name, values in states.items()}
        if not len(windows):
            return kept, np.empty((len(self._members), 0, self._labels), np.float32)
        found = self._decoder.infer([windows, *(states[name] for name in self._members)], share_inputs=True)
        return kept, found[0]

    def join(self, parts: Sequence[States[Floats]]) -> States[Floats]:
        """See `Runtime`."""
        return {name: np.concatenate([part[name] for part in parts]) for name in self._members}

    def fetch(self, results: Sequence[Floats]) -> tuple[list[Floats], Callable[[], None]]:
        """Themselves."""
        return list(results), lambda: None

    def give_back_memory(self) -> None:
        """OpenVINO keeps its memory until the end."""

    def close(self) -> None:
        """Requests end with this object, the thread that compiles by itself."""
        self._singles.exception()


def _of_size(encoding: ov.Model, crops: int) -> ov.Model:
    model = encoding.clone()
    model.reshape([crops, *model.input(0).partial_shape[1:]])
    return model
