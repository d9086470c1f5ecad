"""Summary and timeline of long jobs and of crowds: made once, with little memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.contract.frames import Frame
from app.contract.jobs import JobRecord
from app.contract.segments import Smoothing
from app.jobs.results import Results
from app.reports.digest_cache import DigestCache
from app.reports.timeline import MAX_LANES, draw

Submit = Callable[..., str]
LABELS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")


def test_a_timeline_of_a_crowd_keeps_little(make_frames: Any) -> None:
    """Thousands of short tracks need little memory; the picture states how many it omits."""
    (frame,) = make_frames(1)
    crowd = 5000

    def frames() -> Iterator[Frame]:
        for index in range(crowd):
            faces = tuple(replace(frame.faces[0], track_id=track) for track in (0, 1 + index))
            yield Frame(index, float(index), faces)

    tracemalloc.start()
    picture = draw(frames(), LABELS, 0, crowd - 1, Smoothing())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20
    assert "Face 0" in picture
    assert f"and {crowd + 1 - MAX_LANES} more faces" in picture
    assert "more face" not in draw(make_frames(9, faces=2), LABELS, 0, 1, Smoothing())


@pytest.mark.parametrize("path", ["summary", "timeline.svg"])
def test_digests_are_made_once(
    path: str, api: httpx.Client, submit: Submit, worker: Any, make_frames: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A digest is computed once for an ended job, once per version of a running job, and never for a 304."""
    made: list[str] = []
    real = Results.iterate

    def iterate(self: Results, record: JobRecord) -> Any:
        made.append(record.id)
        return real(self, record)

    monkeypatch.setattr(Results, "iterate", iterate)
    job_id = submit()
    url = f"/v1/jobs/{job_id}/{path}"
    worker.claim(job_id)
    seen = []
    for step in range(3):
        frames = [Frame(64 * step + i, 2.56 * step + i / 25, f.faces) for i, f in enumerate(make_frames(64, faces=2))]
        worker.append(job_id, frames)
        answer = api.get(url)
        seen.append((answer.headers["etag"], answer.content))
        assert api.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        assert len(made) == step + 1
    worker.finish(job_id)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: api.get(url), range(8)))
    seen += [*{(answer.headers["etag"], answer.content) for answer in answers}]
    assert len(made) == 4
    assert len({tag for tag, _ in seen}) == 4
    api.delete(f"/v1/jobs/{job_id}")
    assert api.get(url, headers={"If-None-Match": seen[-1][0]}).status_code == 404


def test_digests_that_are_kept_have_a_limit() -> None:
    """Those that were asked for last stay; one that could not be made is tried again."""
    asked: list[str] = []

    async def get(cache: DigestCache, name: str) -> bytes:
        def make() -> bytes:
            asked.append(name)
            if asked == ["a"]:
                raise ZeroDivisionError
            return name.encode() * 10

        return await cache.get(name, make, keep=True)

    async def run() -> None:
        cache = DigestCache(max_bytes=25)
        with pytest.raises(ZeroDivisionError):
            await get(cache, "a")
        for name in "abacabc":
            assert await get(cache, name) == name.encode() * 10
        cache.close()

    asyncio.run(run())
    assert asked == ["a", *"abcbc"]
