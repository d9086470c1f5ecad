"""People: who is told apart, who never is joined, and which faces are looked at."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from model_store.bundle import BundleError
from model_store.identity import IDENTITY_DIR, load_identity
from worker.core.affine import aligning, warped
from worker.core.picture import Picture
from worker.core.records import DecodedFrame, Detections, Floats, TrackedFrame
from worker.people.best_faces import APART_S, FACES, BestFaces, quality_of
from worker.people.gathering import Gathering
from worker.people.grouping import grouped
from worker.people.identity import EMBEDDING, SIDE, TEMPLATE, Identity

# The astronaut's landmarks, by the default detector.
ASTRONAUT = np.array([[203.5, 107.5], [245.5, 108.5], [227.0, 132.5], [207.5, 151.5], [242.5, 151.5]], np.float32)
LANDMARKS = np.array([[40, 40], [60, 40], [50, 52], [42, 62], [58, 62]], np.float32)


@pytest.fixture(scope="module")
def identity() -> Identity:
    """The network that ships."""
    return Identity(load_identity())


def test_faces_of_concurrent_inputs_are_not_mixed_up(identity: Identity) -> None:
    """Jobs share the network: each gets the embeddings of its own faces."""
    faces = [list(np.random.default_rng(seed).integers(0, 256, (2 + seed, SIDE, SIDE, 3), np.uint8)) for seed in (0, 1)]
    alone = [identity.embed(given) for given in faces]
    with ThreadPoolExecutor(4) as threads:
        for k, found in enumerate(threads.map(identity.embed, faces * 10)):
            np.testing.assert_allclose(found, alone[k % 2], atol=1e-5)


def test_one_face_is_itself_and_no_other(identity: Identity) -> None:
    """Darker, smaller and turned pictures of a face are near each other; another person's is further than 0.6."""
    astronaut = np.asarray(data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    darker = np.asarray(astronaut * 0.6, np.uint8)
    smaller = cv2.resize(cv2.resize(astronaut, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), (512, 512))
    turn = cv2.getRotationMatrix2D((224, 125), 25, 1)
    turned = np.asarray(cv2.warpAffine(astronaut, turn, (512, 512)), np.uint8)
    points = ASTRONAUT @ turn[:, :2].T.astype(np.float32) + turn[:, 2].astype(np.float32)
    views = [(astronaut, ASTRONAUT), (darker, ASTRONAUT), (np.asarray(smaller), ASTRONAUT), (turned, points)]
    faces = [cutout(picture, where) for picture, where in views]
    others = np.asarray(data.lfw_subset()[:3] * 255, np.uint8)  # type: ignore[no-untyped-call]  # grey faces of 25 px
    faces += [np.repeat(cv2.resize(other, (SIDE, SIDE))[:, :, None], 3, axis=2) for other in others]
    found = identity.embed(faces)
    assert found.shape == (7, EMBEDDING)
    away = np.linalg.norm(found - found[0], axis=1)
    assert away[1:4].max() < 0.4
    assert away[4:].min() > 0.6


def cutout(picture: np.ndarray, landmarks: Floats) -> np.ndarray:
    how = aligning(landmarks, TEMPLATE * SIDE)
    return warped(Picture.of(picture), how, SIDE, SIDE, cv2.BORDER_REPLICATE)


def test_a_damaged_network_is_refused(tmp_path: pytest.TempPathFactory) -> None:
    """Its hash is looked at before a tensor is used."""
    folder = tmp_path / "identity"  # type: ignore[operator]
    folder.mkdir()
    for file in IDENTITY_DIR.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError):
        load_identity(folder)


def at(*places: float) -> Floats:
    """Embeddings at places of a line."""
    rows = np.zeros((len(places), EMBEDDING), np.float32)
    rows[:, 0] = places
    return rows


def test_near_tracks_are_one_person_and_far_ones_are_not() -> None:
    """Whichever order they come in."""
    groups = grouped(at(0, 2, 0.2, 2.1, 5, 0.1), set())
    assert [groups[0] == group for group in groups] == [True, False, True, False, False, True]
    assert groups[1] == groups[3]
    assert len(set(groups)) == 3


def test_two_tracks_of_one_frame_are_never_one_person() -> None:
    """However alike they are, and whoever joins them later: twins stay two."""
    groups = grouped(at(0, 0, 0, 0.01), {(0, 1)})
    assert groups[0] != groups[1]
    chain = grouped(at(0, 0.1, 0.2), {(0, 2)})
    assert chain[0] != chain[2]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 3), min_size=1, max_size=14), st.data())
def test_no_group_holds_a_pair_that_is_apart(places: list[float], drawn: st.DataObject) -> None:
    """Also of tracks beyond the most that are compared."""
    rows = range(len(places))
    pairs = drawn.draw(st.sets(st.tuples(st.sampled_from(rows), st.sampled_from(rows)).filter(lambda p: p[0] < p[1])))
    groups = grouped(at(*places), pairs)
    assert len(groups) == len(places)
    assert all(groups[a] != groups[b] for a, b in pairs)


def test_many_tracks_are_grouped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond the limit join the nearest group, or make one."""
    monkeypatch.setattr("worker.people.grouping.MOST_TRACKS", 2)
    assert grouped(at(0, 2, 0.1, 2.1, 9, 9.1), {(0, 2)}) == [0, 1, 2, 1, 3, 3]


def test_the_best_faces_are_kept_and_not_all_of_one_moment() -> None:
    """At most two, each better than its neighbours in time."""
    picture = Picture.of(np.zeros((100, 100, 3), np.uint8))
    best = BestFaces()
    for i in range(100):
        best.offer(1 + (i == 50) + i / 1000, i, i / 25, picture, LANDMARKS)
    assert len(best.faces) == FACES
    times = sorted(face.timestamp_s for face in best.faces)
    assert all(after - before >= APART_S for before, after in pairwise(times))
    assert max(best.faces, key=lambda face: face.quality).frame_index == 50


def test_quality_prefers_large_sharp_frontal_faces() -> None:
    """Each makes a face better by itself; a tiny one is no good at all."""
    turned = LANDMARKS.copy()
    turned[2, 0] = 58
    good = quality_of(100, LANDMARKS, 0.3)
    assert good > quality_of(60, LANDMARKS, 0.3) > 0
    assert good > quality_of(100, LANDMARKS, 0.1)
    assert good > 2 * quality_of(100, turned, 0.3)
    assert quality_of(20, LANDMARKS, 0.3) == 0
    assert quality_of(100, np.zeros((5, 2), np.float32), 0.3) == 0


class Shade:
    """Stands for the network: a face's embedding is its brightness."""

    def embed(self, faces: list[np.ndarray]) -> Floats:
        return at(*(float(face.mean()) / 100 for face in faces))


def test_people_over_cuts() -> None:
    """Two people in one frame, one of whom comes back as a new track, and a face too small to tell."""
    gathering = Gathering(Shade())  # type: ignore[arg-type]
    box = np.array([[30, 25, 70, 75]], np.float32)

    def frame(index: int, shades: dict[int, int], ended: tuple[int, ...] = (), size: float = 1) -> None:
        image = np.zeros((100, 200, 3), np.uint8)
        for place, shade in enumerate(shades.values()):
            image[:, 100 * place : 100 * place + 100] = shade
        boxes = np.concatenate([box * (size, 1, size, 1) + (100 * i, 0, 100 * i, 0) for i in range(len(shades))])
        points = np.stack([LANDMARKS + np.array([100 * i, 0]) for i in range(len(shades))])
        faces = Detections(boxes.astype(np.float32), np.ones(len(shades), np.float32), points.astype(np.float32))
        gathering.see(TrackedFrame(DecodedFrame(index, index / 25, image), faces, tuple(shades), ended), lambda _: 0.3)

    for index in range(20):
        frame(index, {0: 40, 1: 200})
    for index in range(20, 40):
        frame(index, {2: 205}, (0, 1))
    frame(40, {3: 120}, (2,), size=0.3)
    gathering.end()
    people, best = gathering.people()
    assert people == {0: 0, 1: 1, 2: 1}
    assert {person: seen.track_id for person, seen in best.items()}.keys() == {0, 1}
    assert best[0].track_id == 0
