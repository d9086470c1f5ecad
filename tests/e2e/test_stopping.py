"""Jobs that are cancelled or deleted while they run; those that lose their worker are in `tests/faults`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.service import Api, Clips

pytestmark = pytest.mark.e2e

FRAMES = 400  # of the long clip


def test_cancelled_job_stops_and_keeps_its_frames(api: Api, long_clip: bytes) -> None:
    """Cancelling a running job ends it early; what was labelled before stays readable, in order."""
    job = api.submit(long_clip)
    before = api.running(job["id"])["progress"]["frames_done"]
    answer = api.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.status_code == 202
    ended = api.ended(job["id"])
    assert ended["state"] == "canceled"
    frames = api.frames(job["id"])
    assert before <= len(frames) < FRAMES
    assert [frame["frame_index"] for frame in frames] == list(range(len(frames)))


def test_queued_job_that_is_cancelled_never_starts(api: Api, clips: Clips, long_clip: bytes) -> None:
    """A job that waits behind another ends at once when cancelled."""
    first = api.submit(long_clip)
    api.running(first["id"])
    waiting = api.submit(clips.video(clips.pictures(2)))
    assert api.http.post(f"/v1/jobs/{waiting['id']}/cancel").status_code == 202
    ended = api.job(waiting["id"])
    assert (ended["state"], ended["started_at"], ended["attempts"]) == ("canceled", None, 0)
    api.http.post(f"/v1/jobs/{first['id']}/cancel")
    assert api.ended(first["id"])["state"] == "canceled"


def test_deleted_job_is_gone_at_once_and_the_worker_goes_on(api: Api, clips: Clips, long_clip: bytes) -> None:
    """DELETE of a running job removes record, results and input; the worker soon serves the next job."""
    job = api.submit(long_clip)
    api.running(job["id"])
    assert api.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert api.http.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert api.http.get(f"/v1/jobs/{job['id']}/frames").status_code == 404
    assert job["id"] not in api.service.stored()
    _, frames = api.label(clips.video(clips.pictures(3)))
    assert len(frames) == 3
    assert api.http.get(f"/v1/jobs/{job['id']}").status_code == 404
