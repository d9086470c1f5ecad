"""Names and metadata: where they come from, how they change, and how jobs are found by them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contract.naming import MAX_METADATA, MAX_NAME_CHARACTERS, clean_name, name_of_file

Submit = Callable[..., str]
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)
JPEG = b"\xff\xd8\xff\xe0" + bytes(100)


def named(api: httpx.Client, name: str | None = None, /, **options: str) -> dict[str, Any]:
    """Submit, with or without a file name."""
    answer = api.post("/v1/jobs", files={"file": (name or "clip.mp4", MP4)}, data=options)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("interview.mp4", "interview.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\Ana\\film.mov", "film.mov"),
        ("a\x00b\x1b[31m.mp4", "a b [31m.mp4"),
        ("evil\u202egpj.exe", "evilgpj.exe"),
        ("two\u2028lines\r\nmore", "two lines more"),
        ("  Gespräch   mit \u05d0 😀\u200d.mp4 ", "Gespräch mit \u05d0 😀\u200d.mp4"),
        ("x" * 500, "x" * MAX_NAME_CHARACTERS),
        ("/", ""),
    ],
)
def test_file_names_are_cleaned(file_name: str, name: str) -> None:
    """No folder, no control, no character that turns the text around it; one line of at most 200 characters."""
    assert name_of_file(file_name) == name


@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    """Cleaning is idempotent, and its result can always be encoded."""
    once = clean_name(text)
    assert clean_name(once) == once
    once.encode()


def test_a_job_is_named_after_its_file(api: httpx.Client) -> None:
    """The upload's file name; several frames after the first; what is given comes first; a raw body has none."""
    assert named(api, "C:\\Videos\\Anna\u202e.mp4")["name"] == "Anna.mp4"
    assert named(api, "a.mp4", name="Take\t3")["name"] == "Take 3"
    frames = [("frames", (f"{n}.jpg", JPEG)) for n in (1, 2, 3)]
    assert api.post("/v1/jobs", files=frames).json()["name"] == "1.jpg and 2 more"
    assert api.post("/v1/jobs", content=MP4).json()["name"] is None
    assert api.post("/v1/jobs", content=MP4, params={"name": "raw"}).json()["name"] == "raw"


def test_metadata_comes_as_json_or_by_key(api: httpx.Client) -> None:
    """One JSON object, fields of their own, or both, in forms as in queries."""
    job = named(api, metadata='{"subject": "P07", "site": "Gent"}', **{"metadata.session": "2"})
    assert job["metadata"] == {"subject": "P07", "site": "Gent", "session": "2"}
    raw = api.post("/v1/jobs", content=MP4, params={"metadata.subject": "P08"}).json()
    assert raw["metadata"] == {"subject": "P08"}
    assert api.get(f"/v1/jobs/{job['id']}").json()["metadata"] == job["metadata"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"metadata": "subject"}, "metadata"),
        ({"metadata": "[1]"}, "metadata"),
        ({"metadata": '{"a": 1}'}, "metadata"),
        ({"metadata": '{"a b": "1"}'}, "metadata"),
        ({"metadata": json.dumps({"a": "x" * 201})}, "metadata"),
        ({"metadata": json.dumps({"a": "\u202e"})}, "metadata"),
        ({"metadata": json.dumps({f"k{n}": "" for n in range(MAX_METADATA + 1)})}, "metadata"),
        ({f"metadata.k{n}": "" for n in range(MAX_METADATA + 1)}, "metadata"),
        ({"metadata": '{"a": "1"}', "metadata.a": "2"}, "metadata.a"),
        ({"metadata.": "x"}, "metadata"),
    ],
)
def test_wrong_metadata_is_refused(api: httpx.Client, fields: dict[str, str], field: str) -> None:
    """At most 16 short texts under plain keys, each once."""
    answer = api.post("/v1/jobs", files={"file": ("a", MP4)}, data=fields)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "invalid_option", field)


def test_patch_changes_what_it_names(api: httpx.Client, worker: Any) -> None:
    """Absent fields stay, null removes; waiting clients see the change; unknown fields are rejected."""
    job = named(api, "a.mp4", metadata='{"subject": "P07", "site": "Gent"}')
    url = f"/v1/jobs/{job['id']}"
    tag = api.get(url).headers["etag"]
    patched = api.patch(url, json={"name": " New\u202e  name ", "metadata": {"site": None, "note": "bé/1"}})
    assert patched.status_code == 200
    assert (patched.json()["name"], patched.json()["metadata"]) == ("New name", {"subject": "P07", "note": "bé/1"})
    assert api.get(url, params={"wait": 5}, headers={"If-None-Match": tag}).json() == patched.json()
    assert api.patch(url, json={"metadata": None}).json()["metadata"] == {}
    assert api.patch(url, json={"name": None}).json()["name"] is None
    assert api.patch(url, json={}).json()["state"] == "queued"
    for body, field in (({"state": "failed"}, "state"), ({"name": 5}, "name"), ({"metadata": {"!": "x"}}, "metadata")):
        answer = api.patch(url, json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert api.patch(url, content=b"{", headers={"content-type": "application/json"}).status_code == 400
    full = api.patch(url, json={"metadata": {f"k{n}": "" for n in range(MAX_METADATA + 1)}})
    assert (full.status_code, full.json()["field"]) == (422, "metadata")
    assert api.get(url).json()["metadata"] == {}
    worker.redis.delete(f"mien:job:{job['id']}")
    assert api.patch(url, json={"name": "x"}).status_code == 410


def test_an_ended_job_that_is_renamed_still_expires(api: httpx.Client, worker: Any, make_frames: Any) -> None:
    """A change of the name does not keep a job longer."""
    job_id = named(api)["id"]
    worker.label(job_id, make_frames(3))
    api.patch(f"/v1/jobs/{job_id}", json={"name": "later", "metadata": {"a": "b"}})
    assert worker.redis.ttl(f"mien:job:{job_id}") > 0


def found(api: httpx.Client, query: str) -> list[str]:
    """Names of all jobs that a query finds, page by page."""
    names: list[str] = []
    path: str | None = f"/v1/jobs?{query}"
    while path:
        page = api.get(path).json()
        names += [job["name"] for job in page["jobs"]]
        path = page["next"]
    return names


def test_jobs_are_found_by_words_and_metadata(api: httpx.Client) -> None:
    """All words, in any case, in name, id, metadata or people's names; metadata exactly; pages keep the filter."""
    first = named(api, "Interview Ana.mp4", metadata='{"subject": "P07"}')
    named(api, "interview bo.mp4", metadata='{"subject": "P08", "site": "Gent & co"}')
    named(api, "holiday.mp4")
    assert found(api, "q=INTERVIEW&limit=1") == ["interview bo.mp4", "Interview Ana.mp4"]
    assert found(api, "q=view%20ana") == ["Interview Ana.mp4"]
    assert found(api, f"q={first['id'][:12]}") == ["Interview Ana.mp4"]
    assert found(api, "q=gent") == ["interview bo.mp4"]
    assert found(api, "metadata.subject=P07") == ["Interview Ana.mp4"]
    assert found(api, f"metadata.site={quote('Gent & co')}&q=interview&limit=1") == ["interview bo.mp4"]
    assert found(api, "metadata.subject=P0") == []
    api.patch(f"/v1/jobs/{first['id']}", json={"persons": [{"name": "Zoë", "tracks": [3]}, {"tracks": [0, 1]}]})
    assert found(api, f"q={quote('interview ZOË')}") == ["Interview Ana.mp4"]


def test_jobs_are_found_by_label_and_time(api: httpx.Client, worker: Any, make_frames: Any) -> None:
    """By a label that comes first on a face of theirs, or on a share of all, and by when they were made."""
    first, second = named(api, "first"), named(api, "second")
    frames = make_frames(60, faces=2)
    worker.label(first["id"], frames)
    job = api.get(f"/v1/jobs/{first['id']}").json()
    labels = [max(zip(face.scores, job["labels"], strict=True))[1] for frame in frames for face in frame.faces]
    shares = {label: round(labels.count(label) / len(labels), 5) for label in set(labels)}
    assert job["label_shares"] == shares
    assert api.get(f"/v1/jobs/{second['id']}").json()["label_shares"] is None
    least, absent = min(shares, key=shares.__getitem__), next(name for name in job["labels"] if name not in shares)
    assert found(api, f"label={least.lower()}") == ["first"]
    assert found(api, f"label={absent}") == []
    assert found(api, f"label={least}&label_share={shares[least]}") == ["first"]
    assert found(api, f"label={least}&label_share={shares[least] + 0.01}") == []
    assert found(api, f"since={quote(second['created_at'])}") == ["second"]
    assert found(api, "since=2999-01-01") == []
    assert sorted(found(api, "since=0001-01-01T00:00:00%2B14:00")) == ["first", "second"]
    for bad in ("since=yesterday", "label_share=2", f"q={'x' * 201}"):
        answer = api.get(f"/v1/jobs?{bad}")
        assert (answer.status_code, answer.json()["field"]) == (422, bad.split("=")[0])


def test_one_request_looks_at_a_bounded_number_of_jobs(
    api: httpx.Client, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a filter that skips most jobs, pages are short or empty, and following `next` finds every match."""
    monkeypatch.setattr("app.jobs.listing.SCAN_LIMIT", 20)
    monkeypatch.setattr("app.jobs.listing.BATCH", 10)
    names = [named(api, f"{'needle' if n % 30 == 0 else 'hay'} {n}")["name"] for n in range(61)]
    reads: list[int] = []
    path: str | None = "/v1/jobs?q=needle"
    while path:
        before = worker.redis.info("commandstats")["cmdstat_hmget"]["calls"]
        page = api.get(path).json()
        reads.append(worker.redis.info("commandstats")["cmdstat_hmget"]["calls"] - before)
        path = page["next"]
    assert max(reads) <= 20
    assert found(api, "q=needle") == [name for name in reversed(names) if name.startswith("needle")]


def test_what_is_made_of_a_job_carries_its_name(api: httpx.Client, worker: Any, make_frames: Any) -> None:
    """Pages of frames, summary and Hume's shape have it in them; text is saved under it."""
    job = named(api, "Gespräch 1.mp4", metadata='{"subject": "P07"}')
    worker.label(job["id"], make_frames(3))
    url = f"/v1/jobs/{job['id']}"
    for path in ("frames", "summary"):
        body = api.get(f"{url}/{path}").json()
        assert (body["name"], body["metadata"]) == ("Gespräch 1.mp4", {"subject": "P07"})
    assert api.get(f"{url}/frames?format=hume").json()[0]["source"]["filename"] == "Gespräch 1.mp4"
    saved = api.get(f"{url}/frames?format=csv").headers["content-disposition"]
    assert saved == f"inline; filename=\"{job['id']}.csv\"; filename*=UTF-8''Gespr%C3%A4ch%201.csv"
    api.patch(url, json={"name": None})
    assert api.get(f"{url}/summary").json()["name"] is None
    plain = api.get(f"{url}/frames?format=vtt").headers["content-disposition"]
    assert plain == f'inline; filename="{job["id"]}.vtt"'


def test_people_are_named_and_exported(api: httpx.Client, worker: Any, make_frames: Any) -> None:
    """Tracks get names and become one person; every format has it; an empty list undoes it."""
    job = named(api, "two.mp4")
    worker.label(job["id"], make_frames(30, faces=3))
    url = f"/v1/jobs/{job['id']}"
    plain = api.get(f"{url}/frames?format=csv").text
    notes = [{"name": "Ana <&>", "tracks": [0, 2], "hidden": False}, {"name": None, "tracks": [1], "hidden": True}]
    assert api.patch(url, json={"persons": notes}).json()["persons"] == notes
    assert api.patch(url, json={"name": "other"}).json()["persons"] == notes
    for faces in (
        api.get(f"{url}/frames").json()["frames"][3]["faces"],
        json.loads(api.get(f"{url}/frames?format=ndjson").text.splitlines()[3])["faces"],
    ):
        assert [face["person_name"] for face in faces] == ["Ana <&>", None, "Ana <&>"]
    rows = api.get(f"{url}/frames?format=csv").text.splitlines()
    assert rows[0] == plain.splitlines()[0] + ",person_name"
    assert [row.rpartition(",")[2] for row in rows[1:4]] == ["Ana <&>", "", "Ana <&>"]
    assert "<v Ana &lt;&amp;&gt;>" in api.get(f"{url}/frames?format=vtt").text
    tracks = api.get(f"{url}/summary").json()["tracks"]
    assert [track["person_name"] for track in tracks] == ["Ana <&>", None, "Ana <&>"]
    elan = api.get(f"{url}/frames?format=eaf").text
    assert re.findall(r"TIER_ID='?\"?([^'\"]+)", elan) == ["Ana &lt;&amp;&gt;", "Face 1"]
    assert '<PROPERTY NAME="name">other</PROPERTY>' in elan
    api.patch(url, json={"persons": [{"tracks": [1, 2]}]})
    tracks = api.get(f"{url}/summary").json()["tracks"]
    assert [track["person_name"] for track in tracks] == [None, "Face 1", "Face 1"]
    assert api.patch(url, json={"persons": []}).json()["persons"] == []
    assert api.get(f"{url}/frames?format=csv").text == plain
    none: list[dict[str, Any]] = [{"tracks": []}]
    types: list[list[dict[str, Any]]] = [[{"tracks": ["0"]}], [{"tracks": [0], "hidden": 0}]]
    for wrong in (none, [{"tracks": [0]}, {"tracks": [0]}], [{"tracks": [-1]}], [{"tracks": [0], "x": 1}], *types):
        answer = api.patch(url, json={"persons": wrong})
        assert (answer.status_code, answer.json()["field"]) == (422, "persons")
