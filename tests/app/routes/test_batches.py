"""Batches: jobs of one name, listed, counted, read as one file and removed together."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pandas as pd
import pyarrow.parquet as pq
import pytest
import redis
import redis.asyncio

from app.background.sweeper import Sweeper
from app.contract import keys
from app.contract.uploads import UploadStore
from tests.manual_worker import LABELS, MEMBERS

if TYPE_CHECKING:
    from tests.app.conftest import MakeApi, MakeFrames
    from tests.manual_worker import ManualWorker

Submit = Callable[..., str]


def test_a_batch_is_counted_and_listed(api: httpx.Client, submit: Submit, worker: ManualWorker) -> None:
    """By state; jobs of other batches and of none do not count."""
    first, second, third = (submit(batch="pilot", name=f"{n}.mp4") for n in (1, 2, 3))
    submit(batch="other")
    submit()
    worker.label(first, [])
    assert api.post(f"/v1/jobs/{third}/cancel").status_code == 202
    batch = api.get("/v1/batches/pilot").json()
    assert (batch["jobs"], batch["complete"]) == (3, False)
    assert batch["states"] == {"queued": 1, "running": 0, "succeeded": 1, "failed": 0, "canceled": 1}
    listed = api.get(f"{batch['links']['jobs']}&limit=2").json()
    assert [job["id"] for job in listed["jobs"]] == [third, second]
    assert [job["id"] for job in api.get(listed["next"]).json()["jobs"]] == [first]
    assert listed["jobs"][0]["batch"] == "pilot"
    queued = api.get("/v1/jobs", params={"batch": "pilot", "state": "queued"}).json()["jobs"]
    assert [job["id"] for job in queued] == [second]
    worker.label(second, [])
    assert api.get("/v1/batches/pilot").json()["complete"]


def test_a_batch_is_one_file(api: httpx.Client, submit: Submit, worker: ManualWorker, make_frames: MakeFrames) -> None:
    """Job after job, oldest first, each row with its job's id and name; a table has one header."""
    jobs = [submit(batch="pilot", name=name) for name in ("a, b.mp4", "c.mp4", "waits.mp4")]
    for job_id, count in zip(jobs, (70, 3), strict=False):
        worker.label(job_id, make_frames(count, empty_every=5))
    answer = api.get("/v1/batches/pilot/frames")
    assert answer.headers["mien-complete"] == "false"
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["job_id"], row["name"], int(row["frame_index"])) for row in rows] == [
        *((jobs[0], "a, b.mp4", index) for index in range(70)),
        *((jobs[1], "c.mp4", index) for index in range(3)),
    ]
    assert rows[1]["label"] in LABELS
    lines = [json.loads(line) for line in api.get("/v1/batches/pilot/frames?format=ndjson").text.splitlines()]
    assert [(line["job_id"], line["frame_index"]) for line in lines] == [
        (row["job_id"], int(row["frame_index"])) for row in rows
    ]
    whole = api.get("/v1/batches/pilot/frames", params={"members": "true"}).text
    assert f"{MEMBERS[0]}_{LABELS[0]}" in whole.partition("\n")[0]


def test_a_batch_is_one_parquet_file(
    api: httpx.Client, submit: Submit, worker: ManualWorker, make_frames: MakeFrames
) -> None:
    """Row by row its CSV, typed as a job's file is, with the columns that any of the jobs asked for."""
    plain, named = submit(batch="pilot", name="a, b.mp4"), submit(batch="pilot", name="c.mp4", people="true")
    submit(batch="pilot")  # waits: nothing is known of its members
    for job_id, count in ((plain, 9000), (named, 3)):
        worker.label(job_id, make_frames(count, empty_every=5))
    api.patch(f"/v1/jobs/{named}", json={"persons": [{"name": "Ana", "tracks": [0]}]}).raise_for_status()
    answer = api.get("/v1/batches/pilot/frames?format=parquet&members=true")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert answer.headers["content-disposition"] == 'inline; filename="pilot.parquet"'
    file = pq.ParquetFile(io.BytesIO(answer.content))
    assert file.num_row_groups == 2
    schema = file.schema_arrow
    assert schema.metadata[b"mien.batch"] == b"pilot"
    alone = pq.read_schema(io.BytesIO(api.get(f"/v1/jobs/{named}/frames?format=parquet&members=true").content))
    assert [(field.name, field.type) for field in schema][:2] == [("job_id", "string"), ("name", "string")]
    assert [(field.name, field.type) for field in schema][2:] == [(field.name, field.type) for field in alone]
    table = pd.read_parquet(io.BytesIO(answer.content))
    text = pd.read_csv(io.StringIO(api.get("/v1/batches/pilot/frames?members=true").text))
    pd.testing.assert_frame_equal(text, table, check_dtype=False, rtol=1e-6)
    assert table.groupby("job_id", sort=False)["frame_index"].nunique().to_dict() == {plain: 9000, named: 3}
    assert table.groupby("name")["person_name"].unique().map(lambda names: names[-1]).to_dict()["c.mp4"] == "Ana"
    lines = [json.loads(line) for line in api.get("/v1/batches/pilot/frames?format=ndjson").text.splitlines()]
    assert ["person_id" in line["faces"][0] for line in lines if line["faces"]] == [*[False] * 7200, *[True] * 2]


def test_a_batch_without_frames_is_an_empty_table(api: httpx.Client, submit: Submit) -> None:
    """Its columns are those that are known before any labels are."""
    submit(batch="pilot")
    assert api.get("/v1/batches/pilot/frames").text.startswith("job_id,name,frame_index,")
    table = pd.read_parquet(io.BytesIO(api.get("/v1/batches/pilot/frames?format=parquet").content))
    assert (len(table), list(table)[:3]) == (0, ["job_id", "name", "frame_index"])


def test_jobs_that_fit_into_no_table_are_refused(
    api: httpx.Client, submit: Submit, worker: ManualWorker, make_frames: MakeFrames, redis_url: str
) -> None:
    """Two models may have other labels; NDJSON names them in every record."""
    for name in ("a", "b"):
        worker.label(submit(batch="mixed", name=name), make_frames(2))
    with redis.Redis.from_url(redis_url) as connection:
        job_id = api.get("/v1/jobs?batch=mixed").json()["jobs"][0]["id"]
        connection.hset(keys.job(job_id), "labels", json.dumps([*LABELS[:-1], "Contempt"]))
    refused = api.get("/v1/batches/mixed/frames")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert len(api.get("/v1/batches/mixed/frames?format=ndjson").text.splitlines()) == 4


def test_a_batch_is_removed_as_a_whole(api: httpx.Client, submit: Submit, worker: ManualWorker, uploads: Path) -> None:
    """Waiting, ended and kept jobs with their inputs; afterwards there is no such batch."""
    jobs = [submit(batch="pilot"), submit(batch="pilot", keep_input=True), submit(batch="pilot")]
    other = submit(batch="other")
    worker.label(jobs[1], [])
    assert api.delete("/v1/batches/pilot").status_code == 204
    assert {api.get(f"/v1/jobs/{job_id}").status_code for job_id in jobs} == {404}
    assert [path.name for path in uploads.iterdir()] == [other]
    for method, path in (("GET", ""), ("GET", "/frames"), ("DELETE", "")):
        answer = api.request(method, f"/v1/batches/pilot{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert api.get("/v1/jobs?batch=pilot").json() == {"jobs": [], "next": None}


def test_a_batch_is_its_keys_own(make_api: MakeApi) -> None:
    """Another key's batch of the same name has other jobs."""
    api = make_api(api_keys="one,two")
    first, second = ({"X-API-Key": key} for key in ("one", "two"))
    mp4 = b"\x00\x00\x00\x18ftypisom" + bytes(500)
    made = api.post("/v1/jobs", content=mp4, params={"batch": "pilot"}, headers=first).json()
    assert made["batch"] == "pilot"
    assert api.get("/v1/batches/pilot", headers=first).json()["jobs"] == 1
    assert api.get("/v1/batches/pilot", headers=second).status_code == 404


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "ä", ".", "..", ".a"])
def test_a_wrong_name_is_refused(api: httpx.Client, name: str) -> None:
    """Before the body."""
    answer = api.post("/v1/jobs", params={"batch": name}, content=b"x")
    assert (answer.status_code, answer.json()["field"]) == (422, "batch")


def test_expired_jobs_leave_their_batch(api: httpx.Client, submit: Submit, redis_url: str, uploads: Path) -> None:
    """They do not count, and the sweeper drops what is left of them."""
    kept, expired = submit(batch="pilot"), submit(batch="pilot")
    with redis.Redis.from_url(redis_url) as connection:
        connection.delete(keys.job(expired))
        assert api.get("/v1/batches/pilot").json()["jobs"] == 1

        async def sweep() -> None:
            async with redis.asyncio.Redis.from_url(redis_url) as asynchronous:
                await Sweeper(asynchronous, UploadStore(str(uploads)), 3600).sweep()

        asyncio.run(sweep())
        assert connection.zrange(keys.batch("", "pilot"), 0, -1) == [kept.encode()]
