"""Resumable uploads: tuspy sends them, cuts and all, and jobs are made of them; what the protocol asks for holds."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import re
import socket
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis
import redis.asyncio

from app.background.sweeper import Sweeper
from app.contract import keys, pieces
from app.contract.pieces import Pieces
from app.contract.uploads import UploadStore
from app.routes.uploads import CHUNK
from tests.app.conftest import MP4, MakeApi

REFERENCE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
TUS = {"Tus-Resumable": "1.0.0"}
JPEG = b"\xff\xd8\xff\xe0" + bytes(600)


def video(size: int) -> bytes:
    """Something that begins like an mp4, and is nowhere like itself."""
    return MP4[:24] + random.Random(size).randbytes(size - 24)


def create(api: httpx.Client, length: int, **headers: str) -> httpx.Response:
    return api.post("/v1/uploads", headers={**TUS, "Upload-Length": str(length), **headers})


def send(api: httpx.Client, url: str, offset: int, data: bytes, **headers: str) -> httpx.Response:
    given = {**TUS, "Upload-Offset": str(offset), "Content-Type": CHUNK, **headers}
    return api.patch(url, content=data, headers=given)


def cut(api: httpx.Client, url: str, offset: int, data: bytes) -> None:
    """Begin to send the rest of an upload, and close the connection after `data`."""
    base = urlsplit(str(api.base_url))
    head = f"PATCH {url} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nContent-Type: {CHUNK}\r\n"
    with socket.create_connection((base.hostname, base.port)) as connection:
        connection.sendall(f"{head}Upload-Offset: {offset}\r\nContent-Length: {10**9}\r\n\r\n".encode() + data)


def reached(api: httpx.Client, url: str, least: int) -> int:
    """How many bytes an upload has, once it has `least`."""
    for _ in range(200):
        offset = int(api.head(url, headers=TUS).headers["upload-offset"])
        if offset >= least:
            return offset
        time.sleep(0.05)
    raise AssertionError(f"it has {offset} bytes")


def test_tuspy_uploads_as_the_reference_says(
    api: httpx.Client, worker: Any, make_frames: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In requests of 100 KB; the job has the file's name, and there is one copy, which goes with the job's end."""
    path = tmp_path / "video.mp4"
    path.write_bytes(video(350_000))
    monkeypatch.chdir(tmp_path)
    found = re.search(r"```python\n(import httpx\nfrom tusclient.*?)```", REFERENCE, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    program = found[1].replace("http://127.0.0.1:8000", str(api.base_url)).replace("50_000_000", "100_000")
    exec(program, names)
    uploader = names["uploader"]
    upload_id = str(uploader.url).rsplit("/", 1)[-1]
    job = api.get(f"/v1/jobs/{upload_id}").json()
    assert (job["id"], job["name"], job["state"]) == (upload_id, "video.mp4", "queued")
    assert job["input"] | {"bytes": 350_000, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} == job["input"]
    assert (job["options"]["max_faces"], job["options"]["members"]) == (3, ["cnn", "cnn_rnn"])
    worker.label(job["id"], make_frames(3))
    assert api.get(f"/v1/jobs/{job['id']}").json()["state"] == "succeeded"
    assert api.head(str(uploader.url), headers=TUS).status_code == 404


def test_an_upload_that_is_cut_goes_on(make_api: MakeApi, uploads: Path) -> None:
    """Three times, and at another front end each time; one copy is in the store."""
    fronts = [make_api() for _ in range(3)]
    content = video(30 * 2**20)
    url = create(fronts[0], len(content)).headers["location"]
    offset = 0
    for number, front in enumerate(fronts):
        end = (number + 1) * 9 * 2**20 + number
        cut(front, url, offset, content[offset:end])
        offset = reached(fronts[number - 1], url, end)
        assert offset == end
    assert send(fronts[0], url, offset, content[offset:]).status_code == 204
    job = fronts[1].post("/v1/jobs", params={"upload": url.rsplit("/", 1)[-1]}).json()
    stored = [path for path in uploads.rglob("*") if path.is_file()]
    assert [path.relative_to(uploads).as_posix() for path in stored] == [f"{job['id']}/input"]
    assert stored[0].read_bytes() == content


def test_what_the_protocol_asks_for(api: httpx.Client) -> None:
    """Versions, offsets, lengths, types, checksums, expiry, removal."""
    said = api.options("/v1/uploads")
    assert (said.status_code, said.headers["tus-version"]) == (204, "1.0.0")
    assert set(said.headers["tus-extension"].split(",")) == {"creation", "expiration", "checksum", "termination"}
    assert int(said.headers["tus-max-size"]) == 2 * 2**30
    assert api.post("/v1/uploads", headers={"Upload-Length": "5"}).status_code == 412
    made = create(api, 10)
    assert made.status_code == 201
    assert "GMT" in made.headers["upload-expires"]
    url = made.headers["location"]
    assert send(api, url, 3, b"x").status_code == 409
    assert send(api, url, 0, b"x" * 11).status_code == 413
    assert send(api, url, 0, b"x", **{"Content-Type": "video/mp4"}).status_code == 415
    right = base64.b64encode(hashlib.sha1(b"01234").digest()).decode()
    wrong = send(api, url, 0, b"01235", **{"Upload-Checksum": f"sha1 {right}"})
    assert (wrong.status_code, wrong.json()["code"]) == (460, "checksum_mismatch")
    assert send(api, url, 0, b"0", **{"Upload-Checksum": "crc32 AA=="}).status_code == 400
    sent = send(api, url, 0, b"01234", **{"Upload-Checksum": f"sha1 {right}"})
    assert (sent.status_code, sent.headers["upload-offset"]) == (204, "5")
    post = {**TUS, "Upload-Offset": "5", "Content-Type": CHUNK}
    refused = api.post(url, content=b"56", headers=post)
    assert (refused.status_code, refused.headers["tus-resumable"]) == (405, "1.0.0")
    assert api.post(url, content=b"56", headers=post | {"X-HTTP-Method-Override": "PATCH"}).status_code == 204
    head = api.head(url, headers=TUS)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("7", "10")
    assert head.headers["cache-control"] == "no-store"
    early = api.post("/v1/jobs", json={"upload": url.rsplit("/", 1)[-1]})
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    assert api.delete(url, headers=TUS).status_code == 204
    assert api.head(url, headers=TUS).status_code == 404


def test_the_newest_request_sends_the_upload(api: httpx.Client) -> None:
    """A former one that hangs changes nothing any more, also where both send the same bytes."""
    content = video(20 * 2**20)
    url = create(api, len(content)).headers["location"]
    base = urlsplit(str(api.base_url))
    head = f"PATCH {url} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nContent-Type: {CHUNK}\r\nUpload-Offset: 0\r\n"
    with socket.create_connection((base.hostname, base.port), 30) as former:
        former.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + b"x" * 2**20)
        time.sleep(0.2)  # until it is the writer
        assert send(api, url, 0, content[: 9 * 2**20]).status_code == 204
        former.sendall(b"x" * (len(content) - 2**20))
        assert former.recv(100).startswith(b"HTTP/1.1 409 ")
    assert send(api, url, 9 * 2**20, content[9 * 2**20 :]).status_code == 204
    job = api.post("/v1/jobs", json={"upload": url.rsplit("/", 1)[-1]}).json()
    assert job["input"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_limits(make_api: MakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size, open uploads of a key, room; what was removed counts no more."""
    api = make_api(max_upload_bytes=1000, max_open_uploads=2, api_keys="one,two")
    one, two = ({"X-API-Key": key} for key in ("one", "two"))
    assert create(api, 1001, **one).json()["code"] == "upload_too_large"
    first = create(api, 10, **one).headers["location"]
    assert create(api, 10, **one).status_code == 201
    refused = create(api, 10, **one)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_uploads")
    assert create(api, 10, **two).status_code == 201
    assert api.head(first, headers=TUS | two).status_code == 404
    assert api.delete(first, headers=TUS | one).status_code == 204
    monkeypatch.setattr(UploadStore, "free_bytes", lambda self: 5)
    full = create(api, 10, **one)
    assert (full.status_code, full.json()["code"]) == (507, "storage_full")


def test_an_upload_becomes_one_job(api: httpx.Client, uploads: Path) -> None:
    """A retry with the same key answers the same job; without one it is refused, and so is a file beside it."""
    url = create(api, len(MP4)).headers["location"]
    upload_id = url.rsplit("/", 1)[-1]
    send(api, url, 0, MP4)
    assert api.post("/v1/jobs", params={"upload": upload_id}, content=MP4).json()["field"] == "file"
    key = {"Idempotency-Key": "one"}
    first, again = (api.post("/v1/jobs", json={"upload": upload_id}, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"] == upload_id
    assert again.headers["idempotency-replayed"] == "true"
    refused = api.post("/v1/jobs", json={"upload": upload_id})
    assert (refused.status_code, refused.json()["field"]) == (422, "upload")
    assert [path.name for path in uploads.iterdir()] == [upload_id]


def test_an_image_is_stored_as_images_are(api: httpx.Client, uploads: Path) -> None:
    """In an archive, under a job's id of its own; nothing is left of the upload."""
    url = create(api, len(JPEG), **{"Upload-Metadata": "filename ZmFjZS5qcGc="}).headers["location"]
    send(api, url, 0, JPEG)
    job = api.post("/v1/jobs", json={"upload": url.rsplit("/", 1)[-1]}).json()
    assert (job["name"], job["input"]["kind"]) == ("face.jpg", "frames")
    assert [path.name for path in uploads.iterdir()] == [job["id"]]
    assert (uploads / job["id"] / "input").read_bytes().startswith(b"PK")


def test_what_is_no_video_is_refused(api: httpx.Client) -> None:
    """It is rejected when a job is created from it; the upload stays and can be removed."""
    url = create(api, 5).headers["location"]
    send(api, url, 0, b"hello")
    assert api.post("/v1/jobs", json={"upload": url.rsplit("/", 1)[-1]}).status_code == 415
    assert api.delete(url, headers=TUS).status_code == 204


def test_expired_uploads_are_swept(api: httpx.Client, uploads: Path, redis_url: str) -> None:
    """Their bytes, once Redis has forgotten them; those that live stay."""
    urls = [create(api, 100).headers["location"] for _ in range(2)]
    for url in urls:
        send(api, url, 0, bytes(50))
    lives, expired = (url.rsplit("/", 1)[-1] for url in urls)

    async def sweep() -> None:
        async with redis.asyncio.Redis.from_url(redis_url) as connection:
            await connection.delete(keys.resumable(expired))
            sweeper = Sweeper(connection, UploadStore(str(uploads)), 3600)
            await sweeper.sweep()
            await sweeper.sweep()

    asyncio.run(sweep())
    assert [path.name for path in uploads.iterdir()] == [lives]


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> UploadStore:
    """Object storage, with small parts."""
    monkeypatch.setattr(pieces, "LEAST_PART_BYTES", 100)
    return UploadStore(f"memory://{uuid.uuid4().hex}")


def test_an_upload_into_object_storage_goes_on(make_api: MakeApi, s3: httpx.Client) -> None:
    """At another front end; S3 joins the parts, and has one object in the end."""
    s3.put("/store").raise_for_status()
    fronts = [make_api(uploads="s3://store/mien") for _ in range(2)]
    content = video(14 * 2**20)
    url = create(fronts[0], len(content)).headers["location"]
    offset = 0
    for front, end in ((fronts[0], 6 * 2**20 + 1), (fronts[1], 7 * 2**20)):  # the second leaves less than a part
        cut(front, url, offset, content[offset:end])
        offset = reached(fronts[0], url, end)
        assert offset == end
    assert send(fronts[0], url, offset, content[offset:]).status_code == 204
    job = fronts[1].post("/v1/jobs", json={"upload": url.rsplit("/", 1)[-1]}).json()
    assert job["input"]["sha256"] == hashlib.sha256(content).hexdigest()
    listed = s3.get("/store", params={"list-type": "2"}).text
    assert re.findall(r"<Key>(.*?)</Key>", listed) == [f"mien/{job['id']}/input"]
    assert s3.get(f"/store/mien/{job['id']}/input").content == content
    fronts[0].delete(f"/v1/jobs/{job['id']}").raise_for_status()
    assert "<Key>" not in s3.get("/store", params={"list-type": "2"}).text


def test_object_storage_has_pieces_that_it_can_join(objects: UploadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces are rewritten with the next data; a late writer has no effect; one object remains."""
    upload_id = uuid.uuid4().hex
    upload = Pieces(objects, upload_id)
    writers: dict[int, str] = {}
    content, offset = random.Random(1).randbytes(600), 0
    for writer, end in (("a", 250), ("b", 290), ("c", 310), ("d", 600)):
        start, kept = upload.resume(offset, writers)
        upload.write(start, kept + content[offset:end], writer)
        writers[start] = writer
        offset = end
    upload.write(0, b"late", "z")
    assert sorted(writers) == [0, 250]
    joined: list[list[str]] = []

    def merge(path: str, parts: list[str]) -> None:
        joined.append(parts)
        Pieces._join(upload, parts)

    monkeypatch.setattr(type(objects._fs), "merge", staticmethod(merge), raising=False)
    upload.complete(600, writers)
    upload.complete(600, writers)
    assert [len(parts) for parts in joined] == [2]
    assert b"".join(objects.read(upload_id, "input", 0, 600)) == content
    assert [str(path).rsplit("/", 1)[-1] for path in objects._fs.ls(objects._folder(upload_id), detail=False)] == [
        "input"
    ]
