"""What the engine needs of whatever computes an ensemble, and in which kind of arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Crops = Sequence[npt.NDArray[np.uint8]]
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Array = TypeVar("Array")  # the runtime's: on its device, indexed by rows and slices as NumPy's
States = dict[str, Array]  # {member: (N, S) float}, what the member keeps of each of N frames


class Runtime(Protocol[Array]):
    """An ensemble, ready to compute.  One thread uses it.

    mode: its name for operators.  batch: most crops of `encode`.  step_frames: a clip submits a step at least every so
    many frames, however few faces they have, so that results keep appearing.  ahead: batches that are launched before
    the results of the last one are fetched.
    """

    mode: str
    batch: int
    step_frames: int
    ahead: int

    def serving(self) -> AbstractContextManager[object]:
        """What holds for the thread that calls the methods below."""

    def warming_up(self) -> AbstractContextManager[Sequence[int]]:
        """Sizes of the batches to run before the first job."""

    def encode(self, crops: Crops) -> States[Array]:
        """N crops (size, size, C) uint8, N <= batch -> {member: (N, S)}.

        Raises: OutOfDeviceMemoryError; a smaller batch may fit.
        """

    def indices(self, parts: Sequence[Rows]) -> list[Array]:
        """The same int64 arrays on the device."""

    def join(self, parts: Sequence[States[Array]]) -> States[Array]:
        """The rows of all parts, one behind the other."""

    def step(self, states: States[Array], keep: Array, windows: Array) -> tuple[States[Array], Array]:
        """Of states: the rows `keep` (R,), and the (M, W, K) float32 probabilities of the windows (W, T), both int64.

        The probabilities may still be computed when it returns; only `fetching` takes them.
        Raises: OutOfDeviceMemoryError.
        """

    def fetching(self, results: Sequence[Array]) -> Callable[[], Sequence[Floats | Exception]]:
        """Begin to bring the results of steps to the host.

        Returns a function that waits for them and returns each step's result, or the error of that step alone.
        """

    def wait_for(self, states: States[Array]) -> None:
        """Wait until they are computed, to measure how long that takes."""

    def give_back_memory(self) -> None:
        """Return memory that is not in use to the device."""

    def close(self) -> None:
        """End what runs, after the last call."""
