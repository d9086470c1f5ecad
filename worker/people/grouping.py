"""Clusters tracks by person: average linkage of embeddings, never two tracks of one frame."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from worker.core.records import Floats

SAME_PERSON = 0.57  # mean distance below which two groups are merged
MOST_TRACKS = 1000  # most tracks in the clustering; further ones join the nearest group


def grouped(embeddings: Floats, apart: Collection[tuple[int, int]], threshold: float = SAME_PERSON) -> list[int]:
    """Embeddings (N, 128), the most certain first -> the group of each row.

    apart: pairs of rows that occur in one frame and must not share a group.
    """
    count = min(len(embeddings), MOST_TRACKS)
    members: list[list[int]] = [[row] for row in range(count)]
    distances = np.full((count, count), np.inf)
    for row in range(1, count):
        distances[row, :row] = distances[:row, row] = np.linalg.norm(embeddings[:row] - embeddings[row], axis=1)
    for a, b in apart:
        if a < count and b < count:
            distances[a, b] = distances[b, a] = np.inf
    while count > 1:
        a, b = sorted(divmod(int(distances.argmin()), distances.shape[1]))
        if not distances[a, b] < threshold:
            break
        sizes = len(members[a]), len(members[b])
        joined = (distances[a] * sizes[0] + distances[b] * sizes[1]) / sum(sizes)  # infinite if either is
        distances[a], distances[:, a] = joined, joined
        distances[a, a] = np.inf
        distances[b], distances[:, b] = np.inf, np.inf
        members[a] += members[b]
        members[b] = []
    groups = [group for group in members if group]
    for row in range(count, len(embeddings)):
        _join_nearest(row, groups, embeddings, apart, threshold)
    numbers = np.empty(len(embeddings), int)
    for number, group in enumerate(groups):
        numbers[group] = number
    return [int(number) for number in numbers]


def _join_nearest(
    row: int, groups: list[list[int]], embeddings: Floats, apart: Collection[tuple[int, int]], threshold: float
) -> None:
    means: npt.NDArray[np.float64] = np.array([embeddings[group].mean(axis=0) for group in groups])
    away: Sequence[float] = np.linalg.norm(means - embeddings[row], axis=1).tolist()
    for number in np.argsort(away):
        if away[number] >= threshold:
            break
        if not any((other, row) in apart or (row, other) in apart for other in groups[number]):
            groups[number].append(row)
            return
    groups.append([row])
