"""The ensemble in OpenVINO, on a CPU.

The encoding graph takes pixels to every member's states, the decoding graph states and windows to probabilities
(`conversion.py` makes both).  A batch is cut into parts of fixed size, which streams compute side by side: a fixed size
is a tenth faster than a free one, and a part's activations stay in a core's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import openvino as ov

from worker.core.openvino import compiled
from worker.ensemble.precision import Precision
from worker.ensemble.runtime import Crops, Floats, Rows, Runtime, States

BATCH, PART = 32, 4  # crops; a clip's step has as many frames as a batch has crops


class OpenVinoRuntime(Runtime[Any]):
    """See `Runtime`.  Results are float32, in whatever format they were computed."""

    mode = "openvino"
    batch = step_frames = BATCH
    ahead = 1  # the heads compute while the next batch is encoded

    def __init__(
        self, encoding: ov.Model, decoding: ov.Model, members: Sequence[str], precision: Precision, threads: int
    ) -> None:
        """encoding: (N, size, size, C) uint8 -> (N, S) for each member.

        decoding: (W, T) int64 and each member's (R, S) -> (M, W, K).
        """
        self._members = tuple(members)
        self._labels = decoding.output(0).partial_shape[2].get_length()
        # One thread: where others are busy, threads that share a small graph wait for each other.
        self._decoder = compiled(decoding, "fp32", 1)
        self._idle: list[ov.InferRequest] = []  # decoding requests
        encoding.reshape([PART, *encoding.input(0).partial_shape[1:]])
        encoder = compiled(encoding, precision, threads, streams=min(threads, BATCH // PART))
        # A request for each part of a batch: a stream takes the next one without waiting for Python.
        self._requests = [encoder.create_infer_request() for _ in range(BATCH // PART)]

    def serving(self) -> AbstractContextManager[object]:
        """Nothing of the thread changes."""
        return nullcontext()

    @contextmanager
    def warming_up(self) -> Iterator[Sequence[int]]:
        """One crop shows that all works."""
        yield (1,)

    def encode(self, crops: Crops) -> States[Floats]:
        """See `Runtime`."""
        parts = -(-len(crops) // PART)
        pixels = np.zeros((parts * PART, *crops[0].shape), np.uint8)  # the last part is filled up
        np.stack(crops, out=pixels[: len(crops)])
        running = self._requests[:parts]
        for part, request in enumerate(running):
            request.start_async([pixels[part * PART :][:PART]], share_inputs=True)
        found = []
        for request in running:
            request.wait()
            found.append([values.data.copy() for values in request.output_tensors])
        states = (np.concatenate(rows)[: len(crops)] for rows in zip(*found, strict=True))
        return dict(zip(self._members, states, strict=True))

    def indices(self, parts: Sequence[Rows]) -> list[Rows]:
        """Themselves."""
        return list(parts)

    def step(self, states: States[Floats], keep: Rows, windows: Rows) -> tuple[States[Floats], Any]:
        """See `Runtime`.  The second value is for `fetching` alone: a request, None without windows."""
        kept = {name: values[keep] for name, values in states.items()}
        if not len(windows):
            return kept, None
        request = self._idle.pop() if self._idle else self._decoder.create_infer_request()
        request.start_async([windows, *(states[name] for name in self._members)], share_inputs=True)
        return kept, request

    def join(self, parts: Sequence[States[Floats]]) -> States[Floats]:
        """See `Runtime`."""
        return {name: np.concatenate([part[name] for part in parts]) for name in self._members}

    def fetching(self, results: Sequence[ov.InferRequest | None]) -> Callable[[], list[Floats]]:
        """By waiting for the requests."""
        return lambda: [self._decoded(request) for request in results]

    def _decoded(self, request: ov.InferRequest | None) -> Floats:
        if request is None:
            return np.empty((len(self._members), 0, self._labels), np.float32)
        request.wait()
        found: Floats = request.output_tensors[0].data.copy()
        self._idle.append(request)
        return found

    def wait_for(self, states: States[Floats]) -> None:
        """They are computed."""

    def give_back_memory(self) -> None:
        """OpenVINO keeps its memory until the end."""

    def close(self) -> None:
        """Requests end with this object."""
