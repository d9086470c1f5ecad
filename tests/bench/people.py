"""Which tracks are the same person: films cut together in random order from clips of known people.

    python -m tests.bench.people FOLDER [--films 6] [--seed 0]

FOLDER holds clips and `people.csv` with the columns `path` and `person`; the same name is the same person.  A film is
pieces of 0.8 to 2.5 s in random order, each with a camera move of its own: it pans, zooms and turns.  Tracks of 0.5 s
and more count; each pair of tracks of one film is right or wrong.  Prints precision, recall, F1, and the processor time
of gathering as a share of the faces stage's with the ensemble's.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from app.contract.options import JobOptions
from worker.core.records import DecodedFrame, TrackedFrame
from worker.ensemble.stream import ClipStream
from worker.inference import serving
from worker.people.gathering import Gathering
from worker.settings import WorkerSettings, decode_limits

SIZE = (480, 360)
FPS = 25
PIECE_S = (0.8, 2.5)
LEAST_S = 0.5
PIECES = 40  # a film, at most
Picture = npt.NDArray[np.uint8]


@dataclass
class Film:
    """frames: of the film.  people: who is seen in each."""

    frames: list[DecodedFrame] = field(default_factory=list)
    people: list[str] = field(default_factory=list)


def main() -> None:
    """Print a line a film, and the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    loaded = serving.load(WorkerSettings())
    clips = [(person, list(pictures(loaded, path))) for path, person in listed(chosen.folder)]
    draws = random.Random(chosen.seed)
    right = wrong = missed = 0
    spent_s = whole_s = 0.0
    for number in range(chosen.films):
        film = cut(clips, draws)
        tracks, people, gathering_s, film_s = gathered(loaded, film)
        pairs = [(tracks[a] == tracks[b], people[a] == people[b]) for a, b in itertools.combinations(sorted(tracks), 2)]
        counts = [pairs.count(kind) for kind in ((True, True), (False, True), (True, False))]
        right, wrong, missed = (total + count for total, count in zip((right, wrong, missed), counts, strict=True))
        spent_s, whole_s = spent_s + gathering_s, whole_s + film_s
        print(
            f"film {number}: {len(film.frames)} frames, {len(tracks)} tracks, {len(set(tracks.values()))} people,"
            f" {len(set(people.values()))} found; pairs: {counts[0]} right, {counts[1]} wrong, {counts[2]} missed",
            flush=True,
        )
    print(
        f"precision {right / max(right + wrong, 1):.4f}, recall {right / max(right + missed, 1):.4f},"
        f" F1 {2 * right / max(2 * right + wrong + missed, 1):.4f};"
        f" gathering {100 * spent_s / whole_s:.1f} % of the processor time of faces and ensemble"
    )


def listed(folder: Path) -> list[tuple[Path, str]]:
    """Clips with their people."""
    with (folder / "people.csv").open() as file:
        return [(folder / row["path"], row["person"]) for row in csv.DictReader(file)]


def pictures(loaded: serving.Serving, path: Path) -> Iterator[Picture]:
    """Of a clip, at most six seconds."""
    options = JobOptions(sample_fps=FPS, end_s=6)
    source = loaded.open_source(path, serving.reading_of(path), options, decode_limits(WorkerSettings()))
    yield from (frame.image for frame in source.frames() if frame.image is not None)
    source.close()


def cut(clips: list[tuple[str, list[Picture]]], draws: random.Random) -> Film:
    """A film of the clips' pieces."""
    pieces = []
    for person, shown in clips:
        start = 0
        while start < len(shown):
            length = round(draws.uniform(*PIECE_S) * FPS)
            if len(shown) - start >= LEAST_S * FPS:
                pieces.append((person, shown[start : start + length]))
            start += length
    draws.shuffle(pieces)
    film = Film()
    for person, piece in pieces[:PIECES]:
        for picture in moved(piece, draws):
            index = len(film.frames)
            film.frames.append(DecodedFrame(index, index / FPS, picture))
            film.people.append(person)
    return film


def moved(piece: list[Picture], draws: random.Random) -> Iterator[Picture]:
    """The piece as a camera sees it that pans, zooms and turns, over SIZE."""
    height, width = piece[0].shape[:2]
    fit = max(SIZE[0] / width, SIZE[1] / height)
    starts, ends = ([draws.uniform(0.7, 1.3), draws.uniform(-8, 8), draws.uniform(-30, 30)] for _ in range(2))
    for i, picture in enumerate(piece):
        share = i / max(len(piece) - 1, 1)
        zoom, degrees, pan = (a + (b - a) * share for a, b in zip(starts, ends, strict=True))
        how = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom * fit)
        how[:, 2] += (SIZE[0] / 2 - width / 2 + pan, SIZE[1] / 2 - height / 2 + pan / 3)
        yield np.asarray(cv2.warpAffine(picture, how, SIZE, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


class Watched(Gathering):
    """Counts its own processor time, and in which frames each track is."""

    def __init__(self, real: Gathering) -> None:
        super().__init__(real._identity)
        self.seconds = 0.0
        self.places: dict[int, list[int]] = {}

    def see(self, tracked: TrackedFrame, sharpness: Callable[[int], float]) -> None:
        for track_id in tracked.track_ids:
            self.places.setdefault(track_id, []).append(tracked.frame.frame_index)
        began = time.thread_time()
        super().see(tracked, sharpness)
        self.seconds += time.thread_time() - began

    def end(self) -> None:
        began = time.thread_time()
        super().end()
        self.seconds += time.thread_time() - began


def gathered(loaded: serving.Serving, film: Film) -> tuple[dict[int, str], dict[int, int], float, float]:
    """True and found person of each track, and seconds of gathering and in total."""
    began = time.process_time()
    watched = Watched(loaded.pipeline.gathering())
    cropped = loaded.pipeline.crop(film.frames, serving.label_options(JobOptions()), people=watched)
    engine = loaded.pipeline.engine
    for _ in ClipStream(engine, engine.member_names).run(cropped):
        pass
    grouping = time.thread_time()
    people, _ = watched.people()
    watched.seconds += time.thread_time() - grouping
    seconds = time.process_time() - began
    tracks = {}
    for track_id, places in watched.places.items():
        if len(places) >= LEAST_S * FPS:
            names = [film.people[place] for place in places]
            tracks[track_id] = max(set(names), key=names.count)
    found = {track_id: people.get(track_id, -1 - track_id) for track_id in tracks}
    return tracks, found, watched.seconds, seconds - watched.seconds


if __name__ == "__main__":
    main()
