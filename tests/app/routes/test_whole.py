"""`person_id` and `change`: null while the job runs and in events, joined to every frame once it has succeeded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.contract import keys
from app.contract.whole import BestFrame, Whole, log_odds

Submit = Callable[..., str]
NEUTRAL = tuple(log_odds(p) for p in (0.4, *[0.1] * 6))
WHOLE = Whole({0: 0, 1: 1}, {0: BestFrame(7, 0.28, 0), 1: BestFrame(9, 0.36, 1)}, {0: NEUTRAL})
ASKED = {"people": "true", "baseline": "auto"}


def test_what_needs_the_whole_is_null_until_the_end_and_then_joined(
    api: httpx.Client, submit: Submit, worker: Any, make_frames: Any
) -> None:
    """In pages, NDJSON, CSV and the summary; frames whose face has no person or baseline stay null."""
    job_id = submit(**ASKED)
    worker.claim(job_id)
    worker.append(job_id, make_frames(100, faces=3)[:64])
    url = f"/v1/jobs/{job_id}"
    for face in api.get(f"{url}/frames").json()["frames"][0]["faces"]:
        assert (face["person_id"], face["change"]) == (None, None)
    assert api.get(f"{url}/summary").json()["people"] is None
    worker.append(job_id, make_frames(100, faces=3)[64:])
    worker.finish(job_id, whole=WHOLE.encode())
    frames = api.get(f"{url}/frames?limit=1000").json()["frames"]
    assert len(frames) == 100
    assert [face["person_id"] for face in frames[50]["faces"]] == [0, 1, None]
    assert [face["change"] is None for face in frames[50]["faces"]] == [False, True, True]
    change = frames[50]["faces"][0]["change"]
    assert change["Neutral"] == pytest.approx(log_odds(0.1) - log_odds(0.4), abs=1e-3)
    assert change["Anger"] == pytest.approx(log_odds(0.4) - log_odds(0.1), abs=1e-3)
    assert frames[0]["faces"][0]["change"]["Neutral"] == pytest.approx(0, abs=1e-3)
    assert [json.loads(line) for line in api.get(f"{url}/frames?format=ndjson").text.splitlines()] == frames
    rows = list(csv.DictReader(io.StringIO(api.get(f"{url}/frames?format=csv").text)))
    assert [row["person_id"] for row in rows[:3]] == ["0", "1", ""]
    assert float(rows[150]["change_Anger"]) == change["Anger"]
    assert rows[1]["change_Anger"] == ""


def test_the_summary_has_people_and_moments(api: httpx.Client, submit: Submit, worker: Any, make_frames: Any) -> None:
    """A person has the segments of their tracks, their appearances and best frame; moments are the largest changes."""
    job_id = submit(**ASKED)
    worker.claim(job_id)
    worker.append(job_id, make_frames(60, faces=2))
    worker.finish(job_id, whole=Whole({0: 0, 1: 0}, WHOLE.best, {0: NEUTRAL}).encode())
    summary = api.get(f"/v1/jobs/{job_id}/summary").json()
    (person,) = summary["people"]
    assert person["frames"] == 120
    assert [appearance["track_id"] for appearance in person["appearances"]] == [0, 1]
    assert person["best_frame"] == {"frame_index": 7, "timestamp_s": 0.28, "track_id": 0}
    (moment, *_) = summary["tracks"][0]["moments"]
    assert (moment["label"], moment["frame_index"]) == ("Anger", 40)
    assert moment["change"] == pytest.approx(log_odds(0.4) - log_odds(0.1), abs=1e-3)
    assert summary["tracks"][1]["moments"] is None


def test_events_never_have_it(api: httpx.Client, submit: Submit, worker: Any, make_frames: Any) -> None:
    """Not even after the end: events are the same as the live ones."""
    job_id = submit(**ASKED)
    worker.claim(job_id)
    worker.append(job_id, make_frames(5))
    worker.finish(job_id, whole=WHOLE.encode())
    with api.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        lines = [line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith('data: {"job_id"')]
    (data,) = [json.loads(line) for line in lines]
    assert [(f["faces"][0]["person_id"], f["faces"][0]["change"]) for f in data["frames"]] == [(None, None)] * 5


def test_who_did_not_ask_does_not_get_it(api: httpx.Client, submit: Submit, worker: Any, make_frames: Any) -> None:
    """Records and CSV are what they were."""
    job_id = submit()
    worker.label(job_id, make_frames(3))
    face = api.get(f"/v1/jobs/{job_id}/frames").json()["frames"][0]["faces"][0]
    assert not {"person_id", "change"} & set(face)
    assert "person_id" not in api.get(f"/v1/jobs/{job_id}/frames?format=csv").text.splitlines()[0]
    assert api.get(f"/v1/jobs/{job_id}/summary").json()["people"] is None


def test_it_lives_as_long_as_the_frames_and_goes_with_the_job(
    api: httpx.Client, submit: Submit, worker: Any, make_frames: Any
) -> None:
    """The table expires with the frames, a rerun has none of an execution that failed, and DELETE removes it."""
    job_id = submit(**ASKED)
    worker.claim(job_id)
    worker.append(job_id, make_frames(5))
    worker.finish(job_id, whole=WHOLE.encode())
    (key,) = worker.redis.keys("mien:*:whole")
    assert key.decode() == keys.whole(job_id, worker.record(job_id).execution)
    frames = keys.frames(job_id, worker.record(job_id).execution)
    assert 0 < worker.redis.ttl(key) == pytest.approx(worker.redis.ttl(frames), abs=1)
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert worker.redis.keys("mien:*:whole") == []
