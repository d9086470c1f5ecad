"""Upgrading: what the release before left is taken on, and what this one writes is understood by it.

No code of that release is needed: what it left, and by which schemas it reads, is in a file, see `stored`.
`test_side_by_side` has both run together.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jsonschema_rs
import pytest
import redis

from app.contract import chunks, keys
from app.contract.jobs import JobRecord
from app.contract.options import JobOptions
from tests.upgrade.stored import restore
from tests.waiting import until

if TYPE_CHECKING:
    from tests.service import Api, Service

pytestmark = pytest.mark.e2e

LEFT = json.loads((Path(__file__).parent / "v0.1.0.json").read_text())
CLIP = base64.b64decode(LEFT["clip"])


@pytest.fixture
def left(api: Api) -> Iterator[dict[str, Any]]:
    """The running service of this release, with all that the other one left; its jobs are removed afterwards."""
    content = copy.deepcopy(LEFT)
    restore(content, api.service)
    yield content
    for job in content["jobs"].values():
        assert api.http.delete(f"/v1/jobs/{job['id']}").status_code == 204


def part(*names: str) -> dict[str, Any]:
    """Some of the keys that it left, and no files."""
    kept = {key: value for key, value in copy.deepcopy(LEFT["keys"]).items() if key in names}
    return {"keys": kept, "stored": [], "clip": ""}


@pytest.fixture
def connection(service: Service) -> Iterator[redis.Redis]:
    """To the service's Redis."""
    with redis.Redis.from_url(service.redis_url) as client:
        yield client


def reads(kind: str, values: dict[str, Any]) -> None:
    """Raises where that release could not read the values; names that it does not know it passes over."""
    schema = LEFT["schemas"][kind]
    known = {name: value for name, value in values.items() if name in schema["properties"]}
    jsonschema_rs.validator_for(schema).validate(known)


def reads_record(fields: dict[bytes, bytes]) -> None:
    """Likewise for a job's hash, as that release takes it apart."""
    texts = {name.decode(): value.decode() for name, value in fields.items()}
    known = {name: text for name, text in texts.items() if name in LEFT["schemas"]["JobRecord"]["properties"]}
    reads("JobRecord", {n: text if n in LEFT["text_fields"] else json.loads(text) for n, text in known.items()})


def test_jobs_of_the_release_before_go_on(api: Api, left: dict[str, Any], connection: redis.Redis) -> None:
    """Ended jobs read as they did; one that waited and one whose worker died are labelled, once; the former release
    could read what came of them."""
    jobs = left["jobs"]
    done = jobs["succeeded"]
    for state in ("succeeded", "failed", "canceled"):
        shown = api.job(jobs[state]["id"])
        parts = {part: {name: shown[part][name] for name in jobs[state][part]} for part in ("options", "progress")}
        same = {name: shown[name] for name in jobs[state] if name != "links"}
        assert same | parts == {name: jobs[state][name] for name in same}
    assert api.frames(done["id"], members="true") == left["frames"]
    for state, attempts in (("queued", 1), ("running", 2)):
        ended = api.ended(jobs[state]["id"])
        assert (ended["state"], ended["attempts"]) == ("succeeded", attempts), ended
        records = api.frames(ended["id"])
        assert [record["frame_index"] for record in records] == list(range(80))
        reads_record(cast(dict[bytes, bytes], connection.hgetall(keys.job(ended["id"]))))
        execution = cast(bytes, connection.hget(keys.job(ended["id"]), "execution")).decode()
        written = cast(list[bytes], connection.lrange(keys.frames(ended["id"], execution), 0, -1))
        assert {chunk[0] for chunk in written} == {chunks.VERSION}
    # The video that was asked for is drawn.
    until(lambda: api.http.get(f"/v1/jobs/{done['id']}/video").content[4:8] == b"ftyp")


def test_a_key_of_the_release_before_still_counts(api: Api) -> None:
    """A client that repeats a submission after the upgrade gets the job that it made before."""
    job_id = LEFT["jobs"]["canceled"]["id"]
    (key,) = (key for key in LEFT["keys"] if key.startswith(keys.idempotency("", "")))
    restore(part(key, keys.job(job_id)), api.service)
    again = api.http.post("/v1/jobs?fps=24", content=CLIP, headers={"Idempotency-Key": "kept"})
    assert (again.status_code, again.json().get("id")) == (202, job_id), again.text
    assert again.headers["Idempotency-Replayed"] == "true"
    assert api.http.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_workers_of_the_release_before_are_seen(api: Api, connection: redis.Redis) -> None:
    """Records of that release's workers are shown."""
    (name,) = LEFT["keys"][keys.WORKERS][1]
    restore(part(keys.WORKERS, keys.worker(name)), api.service)
    workers = {worker["name"]: worker for worker in api.http.get("/health/ready").json()["workers"]}
    assert (workers[name]["state"], workers[name]["bundle"]) == ("busy", "default")
    connection.delete(keys.worker(name))


def test_what_workers_say_is_understood_by_the_release_before(connection: redis.Redis, api: Api) -> None:
    """Its front ends list the workers and models of this release."""
    worker = api.http.get("/health/ready").json()["workers"][0]["name"]
    reads("WorkerInfo", json.loads(cast(bytes, connection.get(keys.worker(worker)))))
    reads("ModelInfo", json.loads(cast(bytes, connection.hget(keys.MODELS, "default"))))


def test_a_job_without_new_options_is_read_by_the_release_before(api: Api, connection: redis.Redis) -> None:
    """A front end of that release beside one of this shows it; options that it does not know are not in the record."""
    job = api.submit(CLIP, max_faces=3)
    reads_record(cast(dict[bytes, bytes], connection.hgetall(keys.job(job["id"]))))
    api.ended(job["id"])
    reads_record(cast(dict[bytes, bytes], connection.hgetall(keys.job(job["id"]))))
    assert api.http.delete(f"/v1/jobs/{job['id']}").status_code == 204


def test_the_schemas_find_what_is_not_understood() -> None:
    """A record with an unknown option, or without its queue, fails them: the tests above can fail."""
    fields = {n: v.encode() for n, v in LEFT["keys"][keys.job(LEFT["jobs"]["queued"]["id"])][1].items()}
    record = {name.encode(): value for name, value in fields.items()}
    reads_record(record)
    options = json.dumps(json.loads(fields["options"]) | {"clairvoyance": True}).encode()
    with pytest.raises(jsonschema_rs.ValidationError):
        reads_record(record | {b"options": options})
    with pytest.raises(jsonschema_rs.ValidationError):
        reads_record({name: value for name, value in record.items() if name != b"queue"})


def test_an_option_that_is_used_is_stored() -> None:
    """Only defaults of later options are left out, and what is stored reads as it was given."""
    fields = {n.encode(): v.encode() for n, v in LEFT["keys"][keys.job(LEFT["jobs"]["queued"]["id"])][1].items()}
    record = JobRecord.from_hash(fields)
    assert JobRecord.from_hash({n.encode(): v.encode() for n, v in record.to_hash().items()}) == record
    later = JobOptions.model_fields.keys() - json.loads(fields[b"options"]).keys()
    assert not later & record.options.stored().keys()
