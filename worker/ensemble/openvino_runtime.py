"""The ensemble in OpenVINO, on a CPU.

The encoding graph takes pixels to every member's states, the decoding graph states and windows to probabilities
(`conversion.py` makes both).  A batch is cut into parts of fixed size, which streams compute side by side: a fixed size
is a tenth faster than a free one, and a part's activations stay in a core's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
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
        encoder = compiled(encoding, precision, threads, _streams(threads))
        # A request for each part of a batch: a stream takes the next one without waiting for Python.
        self._requests = [encoder.create_infer_request() for _ in range(BATCH // PART)]

    def serving(self) -> AbstractContextManager[object]:
        """Nothing: OpenVINO keeps no state of a thread."""
        return nullcontext()

    @contextmanager
    def warming_up(self) -> Iterator[Sequence[int]]:
        """One crop: the first inference allocates memory."""
        yield (1,)

    def encode(self, crops: Crops) -> States[Floats]:
        """See `Runtime`."""
        parts = -(-len(crops) // PART)
        pixels = np.zeros((parts * PART, *crops[0].shape), np.uint8)  # the last part is filled up
        np.stack(crops, out=pixels[: len(crops)])
        started: list[ov.InferRequest] = []
        try:
            for part, request in enumerate(self._requests[:parts]):
                request.start_async([pixels[part * PART :][:PART]], share_inputs=True)
                started.append(request)
            found = [_outputs(request) for request in started]
        except BaseException:
            for request in started:  # none may still run when the next batch starts
                with suppress(RuntimeError):
                    request.wait()
            raise
        states = (np.concatenate(rows)[: len(crops)] for rows in zip(*found, strict=True))
        return dict(zip(self._members, states, strict=True))

    def indices(self, parts: Sequence[Rows]) -> list[Rows]:
        """The arrays themselves."""
        return list(parts)

    def step(self, states: States[Floats], keep: Rows, windows: Rows) -> tuple[States[Floats], Any]:
        """See `Runtime`.  The second value is for `fetching` alone: a request, None without windows."""
        kept = {name: values[keep] for name, values in states.items()}
        if not len(windows):
            return kept, None
        return kept, self._started(states, windows)

    def _started(self, states: States[Floats], windows: Rows) -> ov.InferRequest:
        request = self._idle.pop() if self._idle else self._decoder.create_infer_request()
        request.start_async([windows, *(states[name] for name in self._members)], share_inputs=True)
        return request

    def probabilities(self, states: States[Floats], windows: Rows) -> Floats:
        """(M, W, K) of windows (W, T), at once.  Raises: RuntimeError."""
        return _outputs(self._started(states, windows))[0]

    def join(self, parts: Sequence[States[Floats]]) -> States[Floats]:
        """See `Runtime`."""
        return {name: np.concatenate([part[name] for part in parts]) for name in self._members}

    def fetching(self, results: Sequence[ov.InferRequest | None]) -> Callable[[], list[Floats | Exception]]:
        """See `Runtime`."""
        return lambda: [self._decoded(request) for request in results]

    def _decoded(self, request: ov.InferRequest | None) -> Floats | Exception:
        if request is None:
            return np.empty((len(self._members), 0, self._labels), np.float32)
        try:
            return _outputs(request)[0]
        except RuntimeError as error:
            return error
        finally:
            self._idle.append(request)

    def wait_for(self, states: States[Floats]) -> None:
        """`encode` has waited already."""

    def give_back_memory(self) -> None:
        """OpenVINO keeps its memory until the end."""

    def close(self) -> None:
        """Nothing to do: requests end with this object."""


def _outputs(request: ov.InferRequest) -> list[Floats]:
    """Wait for a request and copy its outputs.  Raises: RuntimeError if it failed."""
    request.wait()
    return [values.data.copy() for values in request.output_tensors]


def _streams(threads: int) -> int:
    """One for each thread; with more threads than parts, the number that leaves the fewest threads over."""
    most = BATCH // PART
    return threads if threads <= most else min(range(most, most // 2, -1), key=lambda streams: threads % streams)
