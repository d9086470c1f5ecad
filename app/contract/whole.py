"""Results over a whole video: the grouping of tracks by person, and each person's own neutral face.

The worker writes them as one table when a job ends; readers of frames join them.  The table holds numbers of tracks and
people, and log-odds of labels, but nothing that could identify a face.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.contract.frames import Frame

LEAST_PROBABILITY = 1e-3  # limits log-odds to +-6.9


@dataclass(frozen=True)
class BestFrame:
    """The best frame of a person."""

    frame_index: int
    timestamp_s: float
    track_id: int


@dataclass(frozen=True)
class Whole:
    """people: track -> person.  best: person -> frame.  neutral: track with a baseline -> log-odds (K,) of its person's
    neutral face."""

    people: Mapping[int, int] = field(default_factory=dict)
    best: Mapping[int, BestFrame] = field(default_factory=dict)
    neutral: Mapping[int, tuple[float, ...]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The form stored in Redis."""
        # Tracks of one person share a baseline, which is written once.
        kinds = list(dict.fromkeys(self.neutral.values()))
        places = {kind: place for place, kind in enumerate(kinds)}
        content = {
            "people": list(self.people.items()),
            "best": [(person, b.frame_index, b.timestamp_s, b.track_id) for person, b in self.best.items()],
            "neutral": [(track, places[kind]) for track, kind in self.neutral.items()],
            "log_odds": kinds,
        }
        return zlib.compress(json.dumps(content, separators=(",", ":")).encode())

    @staticmethod
    def decode(data: bytes) -> Whole:
        """Parse the output of `encode`."""
        content = json.loads(zlib.decompress(data))
        kinds = [tuple(kind) for kind in content["log_odds"]]
        return Whole(
            people=dict(content["people"]),
            best={person: BestFrame(*where) for person, *where in content["best"]},
            neutral={track: kinds[place] for track, place in content["neutral"]},
        )

    def join(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames with `person_id` and `change` of each face."""
        for frame in frames:
            faces = tuple(
                replace(
                    face,
                    person_id=self.people.get(face.track_id),
                    change=self._change(face.track_id, face.scores),
                )
                for face in frame.faces
            )
            yield replace(frame, faces=faces)

    def _change(self, track_id: int, scores: Sequence[float]) -> tuple[float, ...] | None:
        neutral = self.neutral.get(track_id)
        if neutral is None:
            return None
        return tuple(round(log_odds(score) - own, 3) for score, own in zip(scores, neutral, strict=True))


def log_odds(probability: float) -> float:
    """Log-odds of a probability, clipped to at least `LEAST_PROBABILITY` from 0 and 1."""
    held = min(max(probability, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)
    return math.log(held / (1 - held))
