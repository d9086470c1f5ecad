"""Submitting: what is taken, what is refused and how, and that refusals leave nothing."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.contract import keys
from app.jobs.queueing import Queueing
from tests.manual_worker import ManualWorker
from tests.waiting import until

MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)
JPEG = b"\xff\xd8\xff\xe0" + bytes(100)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(100)


def stored(uploads: Path) -> list[Path]:
    return [path for path in uploads.rglob("*") if path.is_file()]


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", JPEG)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("a.jpg")
        info.size = len(JPEG)
        archive.addfile(info, io.BytesIO(JPEG))
    return buffer.getvalue()


CONTENTS = {
    "mp4": (MP4, "mp4", "video"),
    "webm": (b"\x1a\x45\xdf\xa3" + bytes(100), "matroska", "video"),
    "avi": (b"RIFF\x10\x00\x00\x00AVI LIST" + bytes(100), "avi", "video"),
    "ts": ((b"G" + bytes(187)) * 4, "mpegts", "video"),
    "gif": (b"GIF89a" + bytes(100), "gif", "video"),
    "zip": (zipped(), "zip", "frames"),
    "tar": (tarred(), "tar", "frames"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_multipart_and_raw_store_the_bytes_as_they_came(
    name: str, api: httpx.Client, uploads: Path, redis_url: str
) -> None:
    """A file is stored byte for byte under a name of ours, with its size and hash, whichever way it came."""
    content, media, kind = CONTENTS[name]
    answers = [
        api.post("/v1/jobs", files={"file": ("../../evil.name", content)}),
        api.post("/v1/jobs", content=content, headers={"Content-Type": "video/mp4"}),
        api.post("/v1/jobs", content=content),
    ]
    for answer in answers:
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
        assert int(answer.headers["retry-after"]) >= 1
        assert (uploads / job["id"] / "input").read_bytes() == content
        assert job["input"]["kind"] == kind
        assert job["input"]["bytes"] == len(content)
        assert job["input"]["sha256"] == hashlib.sha256(content).hexdigest()
        with redis.Redis.from_url(redis_url) as connection:
            assert connection.hget(keys.job(job["id"]), "media") == media.encode()


def test_frames_become_one_archive_in_order(api: httpx.Client, uploads: Path) -> None:
    """Several `frames` are stored as one uncompressed zip, in the order they came."""
    images = [JPEG, PNG, WEBP, JPEG + b"1"]
    files = [("frames", (f"{9 - i}.jpg", image)) for i, image in enumerate(images)]
    job = api.post("/v1/jobs", files=files, data={"fps": "12.5"}).json()
    assert job["input"]["kind"] == "frames"
    assert job["input"]["bytes"] == sum(map(len, images))
    assert job["options"]["fps"] == 12.5
    with zipfile.ZipFile(uploads / job["id"] / "input") as archive:
        assert archive.namelist() == ["000000.jpg", "000001.png", "000002.webp", "000003.jpg"]
        assert [archive.read(name) for name in archive.namelist()] == images


def test_one_image_is_one_frame(api: httpx.Client, uploads: Path) -> None:
    """A single image as `file` is an archive of one frame."""
    job = api.post("/v1/jobs", files={"file": ("a.png", PNG)}).json()
    assert job["input"]["kind"] == "frames"
    with zipfile.ZipFile(uploads / job["id"] / "input") as archive:
        assert archive.namelist() == ["000000.png"]


def test_more_than_a_thousand_frames(api: httpx.Client, uploads: Path) -> None:
    """The multipart reader has no limit below the contract's 10,000 frames."""
    files = [("frames", ("f.jpg", JPEG))] * 1500
    job = api.post("/v1/jobs", files=files).json()
    with zipfile.ZipFile(uploads / job["id"] / "input") as archive:
        assert len(archive.namelist()) == 1500


def test_too_many_frames(api: httpx.Client, uploads: Path) -> None:
    """The 10,001st frame is refused and nothing is kept."""
    files = [("frames", ("f.jpg", JPEG[:4]))] * 10_001
    answer = api.post("/v1/jobs", files=files)
    assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")
    assert stored(uploads) == []


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty file": ({"files": {"file": ("a.mp4", b"")}}, 415, "unsupported_media"),
    "empty body": ({"content": b"", "headers": {"Content-Type": "video/mp4"}}, 415, "unsupported_media"),
    "text named mp4": ({"files": {"file": ("a.mp4", b"hello, world")}}, 415, "unsupported_media"),
    "script playlist": ({"files": {"file": ("a.mp4", b"#EXTM3U\n/etc/passwd")}}, 415, "unsupported_media"),
    "pdf": ({"content": MP4, "headers": {"Content-Type": "application/pdf"}}, 415, "unsupported_media"),
    "video among frames": ({"files": [("frames", ("a", JPEG)), ("frames", ("b", MP4))]}, 415, "unsupported_media"),
    "empty frame": ({"files": [("frames", ("a", JPEG)), ("frames", ("b", b""))]}, 415, "unsupported_media"),
    "no content": ({"files": {"fps": (None, "25")}}, 422, "invalid_option"),
    "file and frames": ({"files": [("file", ("a", MP4)), ("frames", ("b", JPEG))]}, 422, "invalid_option"),
    "two files": ({"files": [("file", ("a", MP4)), ("file", ("b", MP4))]}, 422, "invalid_option"),
    "unknown option": ({"files": {"file": ("a", MP4)}, "data": {"colour": "red"}}, 422, "invalid_option"),
    "unknown in query": ({"content": MP4, "params": {"colour": "red"}}, 422, "invalid_option"),
    "wrong type": ({"files": {"file": ("a", MP4)}, "data": {"max_faces": "many"}}, 422, "invalid_option"),
    "not finite": ({"content": MP4, "params": {"fps": "nan"}}, 422, "invalid_option"),
    "unknown member": ({"content": MP4, "params": {"members": "cnn,svm"}}, 422, "invalid_option"),
    "unknown prior": ({"content": MP4, "params": {"prior": "even"}}, 422, "invalid_option"),
    "prior below 0": ({"files": {"file": ("a", MP4)}, "data": {"prior": "-0.1"}}, 422, "invalid_option"),
    "prior of a model without": ({"content": MP4, "params": {"prior": "balanced"}}, 422, "invalid_option"),
    "unknown model": ({"content": MP4, "params": {"model": "other"}}, 422, "invalid_option"),
    "end before start": ({"content": MP4, "params": {"start_s": "5", "end_s": "4"}}, 422, "invalid_option"),
    "given twice": ({"content": MP4, "params": [("fps", "5"), ("fps", "6")]}, 422, "invalid_option"),
    "not multipart": (
        {"content": MP4, "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        400,
        "malformed_request",
    ),
    "form without an end": (
        {
            "content": b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            + MP4
            + b"\r\n--x\r\n",
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        },
        400,
        "malformed_request",
    ),
    "no boundary": ({"content": MP4, "headers": {"Content-Type": "multipart/form-data"}}, 400, "malformed_request"),
    "over the limit": ({"content": MP4 + bytes(10_000)}, 413, "upload_too_large"),
    "over the limit, chunked": ({"content": (MP4 for _ in range(9))}, 413, "upload_too_large"),
}


def test_a_file_under_another_name(api: httpx.Client) -> None:
    """A video in a part named `video`, the likeliest mistake, gets an error that names the part to use."""
    answer = api.post("/v1/jobs", files={"video": ("a.mp4", MP4 + bytes(200_000))})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (422, "invalid_option", "video")
    assert "'video'" in problem["detail"]
    assert "`file`" in problem["detail"]


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_leave_nothing(case: str, make_api: Any, worker: ManualWorker, uploads: Path, redis_url: str) -> None:
    """Each bad request has its status and code, and leaves neither file nor key."""
    request, status, code = REFUSED[case]
    worker.announce()
    answer = make_api(max_upload_bytes=12_000).post("/v1/jobs", **request)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    assert str(uploads) not in answer.text
    assert stored(uploads) == []
    assert list(uploads.iterdir()) == []
    with redis.Redis.from_url(redis_url) as connection:
        assert connection.keys("mien:job*") == []
        assert connection.keys("rq:job*") == []


def test_problem_names_the_field(api: httpx.Client) -> None:
    """A wrong option is named, in the form as in the query."""
    for request in ({"data": {"max_faces": "0"}, "files": {"file": ("a", MP4)}}, {"params": {"max_faces": "0"}}):
        assert api.post("/v1/jobs", **request).json()["field"] == "max_faces"


@pytest.mark.parametrize(("text", "value"), [("false", False), ("true", True), ("0", False), ("1", True)])
def test_false_is_false(text: str, value: bool, api: httpx.Client) -> None:
    """Booleans in forms and queries mean what they say."""
    form = api.post("/v1/jobs", files={"file": ("a", MP4)}, data={"keep_input": text})
    query = api.post("/v1/jobs", content=MP4, params={"keep_input": text})
    assert form.json()["options"]["keep_input"] is value
    assert query.json()["options"]["keep_input"] is value


def test_options_may_follow_the_file(api: httpx.Client) -> None:
    """The order of form fields does not matter."""
    files: list[Any] = [("file", ("a", MP4)), ("members", (None, "cnn,cnn_rnn")), ("faces", (None, "cropped"))]
    options = api.post("/v1/jobs", files=files).json()["options"]
    assert options["members"] == ["cnn", "cnn_rnn"]
    assert options["faces"] == "cropped"


def test_refusal_is_seen_by_a_client_that_sends_everything_first(api: httpx.Client) -> None:
    """An early refusal of a 30 MB body arrives as an answer, not as a reset connection."""
    answer = api.post("/v1/jobs", params={"colour": "red"}, content=(bytes(2**20) for _ in range(30)))
    assert answer.json()["code"] == "invalid_option"


def test_a_client_that_goes_away_leaves_nothing(api: httpx.Client, uploads: Path) -> None:
    """A connection that ends in the middle of the body leaves no file."""
    with socket.create_connection((api.base_url.host, api.base_url.port or 80)) as connection:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\nContent-Length: {2**24}\r\n\r\n"
        connection.sendall(head.encode() + MP4 + bytes(2**22))
        until(lambda: stored(uploads) != [])
    until(lambda: list(uploads.iterdir()) == [])


def test_unreachable_redis(make_api: Any, uploads: Path) -> None:
    """Without Redis a submission is 503 `unavailable`, and its upload is removed."""
    answer = make_api(redis_url="redis://127.0.0.1:1/0").post("/v1/jobs", content=MP4)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert list(uploads.iterdir()) == []


@pytest.mark.parametrize("made", [True, False])
def test_redis_goes_away_before_it_says_whether_the_job_was_made(
    made: bool, api: httpx.Client, worker: Any, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets 503 and the input stays: a created job is labelled, otherwise the sweep removes the input."""
    create = Queueing._create

    def broken(*given: Any) -> None:
        if made:
            create(*given)
        raise redis.ConnectionError("away")

    def away(*_: Any) -> bool:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(Queueing, "_create", broken)
    monkeypatch.setattr(Queueing, "_remove", away)
    answer = api.post("/v1/jobs", content=MP4)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    (path,) = stored(uploads)
    assert path.read_bytes() == MP4
    job_id = path.parent.name
    waiting = [job_id.encode()] if made else []
    assert worker.redis.lrange("rq:queue:mien-default", 0, -1) == waiting
    if made:
        worker.label(job_id, [])
        assert api.get(f"/v1/jobs/{job_id}").json()["state"] == "succeeded"


def test_rq_job_is_json(api: httpx.Client, redis_url: str) -> None:
    """The queued job holds JSON, the allow-listed function and the id; no pickle."""
    job = api.post("/v1/jobs", content=MP4).json()
    with redis.Redis.from_url(redis_url) as connection:
        assert connection.lrange("rq:queue:mien-default", 0, -1) == [job["id"].encode()]
        import zlib

        raw = connection.hget(f"rq:job:{job['id']}", "data")
        assert json.loads(zlib.decompress(raw)) == [keys.LABEL_FUNCTION, None, [job["id"]], {}]
