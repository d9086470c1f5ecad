"""Compares ways to make segments of flickering scores: none, a Gaussian, a Markov model with learned transitions.

    python -m worker label clips/* --format ndjson --out records/
    python -m tests.bench.smoothing records/*.ndjson

Of each way: label changes a second; the share of frames *followed late*: in a run of half a second and more in which
the raw label stays the same, how many have another label; and, where the records of two clips with different labels are
joined, how long after the join the second clip's label comes.  The Markov model's transitions are learned on all other
files (Baum-Welch), its emissions are the scores.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.contract.frames import Face, Frame
from app.contract.segments import Smoothing, shown

Scores = npt.NDArray[np.float64]
Clip = tuple[list[float], Scores]  # times, scores (N, K)
Way = Callable[[Clip, Sequence[Clip]], list[int]]
SUSTAINED_S = 0.5


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="+", type=Path)
    clips = [clip for path in parser.parse_args().records for clip in read(path)]
    ways: dict[str, Way] = {"none": filtered(Smoothing(0, 0)), "shortest 0.4 s alone": filtered(Smoothing(0, 0.4))}
    for width in (0.15, 0.3, 0.6, 1.0):
        for shortest in (0, 0.4):
            ways[f"Gaussian {width} s, shortest {shortest} s"] = filtered(Smoothing(width, shortest))
    ways["Markov model, Viterbi"] = markov
    joined = joins(clips)
    print(f"{len(clips)} tracks, {sum(len(times) for times, _ in clips)} frames, {len(joined)} joins")
    for name, way in ways.items():
        changes = late = sustained = 0
        seconds = 0.0
        for clip in clips:
            labels = way(clip, [other for other in clips if other is not clip])
            changes += sum(a != b for a, b in itertools.pairwise(labels))
            seconds += clip[0][-1] - clip[0][0]
            for start, end in runs(clip):
                sustained += end - start
                late += sum(label != labels_of(clip[1])[start] for label in labels[start:end])
        delays = [delay for joint in joined if (delay := delay_s(joint, way, clips)) is not None]
        print(
            f"{name:32} {changes / seconds:6.2f} changes/s  {100 * late / max(sustained, 1):5.1f} % late"
            f"  join seen after {1000 * float(np.median(delays)):5.0f} ms, {len(joined) - len(delays)} never"
        )


def read(path: Path) -> list[Clip]:
    """The tracks of a file that last for a second or more."""
    tracks: dict[int, tuple[list[float], list[list[float]]]] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        for face in record["faces"]:
            times, rows = tracks.setdefault(face["track_id"], ([], []))
            times.append(record["timestamp_s"])
            rows.append(list(face["scores"].values()))
    return [(times, np.array(rows)) for times, rows in tracks.values() if times[-1] - times[0] >= 1]


def labels_of(scores: Scores) -> list[int]:
    """Raw labels."""
    return [int(k) for k in scores.argmax(axis=1)]


def filtered(smoothing: Smoothing) -> Way:
    """What the service does."""

    def way(clip: Clip, _: Sequence[Clip]) -> list[int]:
        frames = (
            Frame(i, time, (Face(0, (0, 0, 1, 1), None, tuple(row)),))
            for i, (time, row) in enumerate(zip(*clip, strict=True))
        )
        return [frame.labels[0] for frame in shown(frames, smoothing)]

    return way


def markov(clip: Clip, others: Sequence[Clip]) -> list[int]:
    """The likeliest sequence of labels."""
    key = tuple(sorted(id(other) for other in others))
    if key not in _learned:
        _learned[key] = learned([scores for _, scores in others])
    transitions = np.log(_learned[key])
    emissions = np.log(np.maximum(clip[1], 1e-4))
    best = emissions[0]
    back = []
    for row in emissions[1:]:
        ways = best[:, None] + transitions
        back.append(ways.argmax(axis=0))
        best = ways.max(axis=0) + row
    labels = [int(best.argmax())]
    for before in reversed(back):
        labels.append(int(before[labels[-1]]))
    return labels[::-1]


_learned: dict[tuple[int, ...], Scores] = {}


def learned(clips: Sequence[Scores], rounds: int = 12) -> Scores:
    """Transitions (K, K) a frame."""
    size = clips[0].shape[1]
    transitions = np.full((size, size), 0.1 / (size - 1))
    np.fill_diagonal(transitions, 0.9)
    for _ in range(rounds):
        counts = np.full((size, size), 1e-2)
        for scores in clips:
            rows = np.maximum(scores, 1e-4)
            forward = np.empty_like(rows)
            forward[0] = rows[0] / rows[0].sum()
            for i in range(1, len(rows)):
                forward[i] = forward[i - 1] @ transitions * rows[i]
                forward[i] /= forward[i].sum()
            backward = np.ones(size)
            for i in range(len(rows) - 2, -1, -1):
                pair = forward[i][:, None] * transitions * (rows[i + 1] * backward)
                counts += pair / pair.sum()
                backward = transitions @ (rows[i + 1] * backward)
                backward /= backward.sum()
        transitions = counts / counts.sum(axis=1, keepdims=True)
    return transitions


def runs(clip: Clip) -> list[tuple[int, int]]:
    """From which to which frame the raw label stays for `SUSTAINED_S`."""
    times, raw = clip[0], labels_of(clip[1])
    edges = [0, *(i for i in range(1, len(raw)) if raw[i] != raw[i - 1]), len(raw)]
    return [(a, b) for a, b in itertools.pairwise(edges) if times[b - 1] - times[a] >= SUSTAINED_S]


def joins(clips: Sequence[Clip]) -> list[tuple[Clip, int, int]]:
    """Each clip's first second after the last of another, where both show one label, and not the same."""
    found = []
    for (times, scores), (later, after) in itertools.permutations(clips, 2):
        first, second = scores[[t >= times[-1] - 1 for t in times]], after[[t <= later[0] + 1 for t in later]]
        labels = [set(labels_of(part)) for part in (first, second)]
        if len(labels[0]) == len(labels[1]) == 1 and labels[0] != labels[1]:
            joined = np.concatenate([first, second])
            found.append((([i / 25 for i in range(len(joined))], joined), len(first), labels[1].pop()))
    return found


def delay_s(joint: tuple[Clip, int, int], way: Way, clips: Sequence[Clip]) -> float | None:
    """How late after the join its label comes, seconds; negative: before."""
    clip, place, label = joint
    labels = way(clip, clips)
    if label not in labels:
        return None
    return (labels.index(label) - place) / 25


if __name__ == "__main__":
    main()
