"""200 jobs and 10 batches of 20, submitted by many clients at once: each is labelled whole, once, and found again."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mien
from tests.service import Clips, Service, serving

pytestmark = [pytest.mark.e2e, pytest.mark.long]

JOBS, BATCHES, SIZE = 200, 10, 20
CLIENTS = 16
FRAMES = (3, 4, 5, 6)  # of the clips, in turn


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The service with one worker."""
    with serving(tmp_path, True) as started:
        started.start_worker("worker")
        started.wait_ready()
        yield started


@pytest.mark.timeout(1200)
def test_many_jobs_and_batches_without_a_loss(service: Service, clips: Clips, tmp_path: Path) -> None:
    """The front end and the worker are those of a deployment, with the rights that Redis gives them there."""
    paths = [tmp_path / f"{frames}.mp4" for frames in FRAMES]
    for path, frames in zip(paths, FRAMES, strict=True):
        path.write_bytes(clips.video(clips.pictures(frames, (160, 120))))
    names = [None] * JOBS + [f"batch-{number}" for number in range(BATCHES)] * SIZE
    began = time.monotonic()
    with mien.Client(service.url) as client, ThreadPoolExecutor(CLIENTS) as threads:

        def submit(number: int) -> mien.Job:
            return client.submit(paths[number % len(paths)], batch=names[number], name=f"take {number}")

        jobs = list(threads.map(submit, range(len(names))))
        submitted_s = time.monotonic() - began
        ended = list(threads.map(client.wait, jobs))
        ended_s = time.monotonic() - began
        assert Counter(job["state"] for job in ended) == {"succeeded": len(names)}
        wanted = [FRAMES[number % len(paths)] for number in range(len(names))]
        assert [job["progress"]["frames_done"] for job in ended] == wanted
        found_indices = threads.map(lambda job: [record["frame_index"] for record in client.frames(job)], jobs)
        assert list(found_indices) == [list(range(count)) for count in wanted]
        assert len({job["id"] for job in jobs}) == len(names)
        assert [job["id"] for job in client.jobs(limit=150)] == [
            job["id"] for job in sorted(ended, key=lambda job: (job["created_at"], job["id"]), reverse=True)
        ]
        for name in sorted({name for name in names if name}):
            own = {job["id"]: count for job, count, batch in zip(jobs, wanted, names, strict=True) if batch == name}
            batch = client.batch(name)
            assert (batch["jobs"], batch["states"]["succeeded"], batch["complete"]) == (SIZE, SIZE, True)
            client.save_batch(name, tmp_path / "batch.csv")
            with (tmp_path / "batch.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            found = {(row["job_id"], row["frame_index"]) for row in rows}
            assert Counter(job_id for job_id, _ in found) == own
            client.delete_batch(name)
        for job in jobs[:JOBS]:
            client.delete(job)
        assert list(client.jobs()) == []
    assert service.stored() == []
    print(f"\n{len(names)} jobs submitted in {submitted_s:.1f} s by {CLIENTS} clients, ended after {ended_s:.1f} s")
