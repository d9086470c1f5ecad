"""Half a gigabyte by the tus protocol over a line that breaks: each client goes on, and the store has one copy."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tusclient.client import TusClient

import mien
from tests.app.conftest import MP4
from tests.cutting import cutting
from tests.service import Service, serving

pytestmark = [pytest.mark.e2e, pytest.mark.long]

BYTES = 500 * 10**6
CUTS = [30_000_000, 11_000_000, 47_000_000]  # bytes of a connection until it breaks
HELD_BYTES = 100 * 2**20  # that the front end may need beside what it has when nothing is uploaded
JS = Path(__file__).parent / "tus_js"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that begins like an mp4 and whose parts differ."""
    path = tmp_path_factory.mktemp("large") / "long.mp4"
    block = bytearray(random.Random(1).randbytes(10**6))
    with path.open("wb") as file:
        for number in range(BYTES // len(block)):
            block[:8] = number.to_bytes(8, "big")
            file.write(block if number else MP4[:24] + block[24:])
    return path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Redis and API; no worker, so that jobs wait."""
    with serving(tmp_path_factory.mktemp("service"), MIEN_MAX_UPLOAD_BYTES=str(2 * BYTES)) as started:
        started.wait_live()
        yield started


@pytest.fixture(scope="module")
def tus_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tus-js-client and the program that uses it."""
    if shutil.which("npm") is None:
        pytest.skip("Node.js with npm is not installed")
    folder = tmp_path_factory.mktemp("tus") / "js"
    shutil.copytree(JS, folder)
    subprocess.run(["npm", "ci", "--no-fund", "--no-audit", "--silent"], cwd=folder, check=True, timeout=240)
    return folder


def by_tuspy(url: str, video: Path) -> str:
    """-> the upload's id"""
    with video.open("rb") as file:
        uploader = TusClient(f"{url}/v1/uploads").uploader(
            file_stream=file, chunk_size=50_000_000, metadata={"filename": video.name}, retries=10, retry_delay=0.2
        )
        uploader.upload()
        return str(uploader.url).rsplit("/", 1)[-1]


@pytest.fixture(params=["tuspy", "tus-js-client", "mien"])
def submit(request: pytest.FixtureRequest) -> Callable[[str, Path], mien.Job]:
    """Uploads a file with a client and makes a job of it."""

    def post(url: str, upload: str) -> mien.Job:
        job: mien.Job = httpx.post(f"{url}/v1/jobs", json={"upload": upload}, timeout=60).raise_for_status().json()
        return job

    def by_tus_js(url: str, video: Path) -> mien.Job:
        folder = request.getfixturevalue("tus_js")
        command = ["node", "upload.js", f"{url}/v1/uploads", str(video)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stderr
        return post(url, done.stdout.strip().rsplit("/", 1)[-1])

    def by_mien(url: str, video: Path) -> mien.Job:
        with mien.Client(url) as client:
            return client.submit(video)

    ways: dict[str, Callable[[str, Path], mien.Job]] = {
        "tuspy": lambda url, video: post(url, by_tuspy(url, video)),
        "tus-js-client": by_tus_js,
        "mien": by_mien,
    }
    return ways[request.param]


def memory_bytes(pid: int) -> int:
    """What a process holds now."""
    words = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(words.split()[1]) * 1024


def test_half_a_gigabyte_over_a_line_that_breaks(
    service: Service, video: Path, submit: Callable[[str, Path], mien.Job]
) -> None:
    """Three times; the job's input is the file, the only one in the store, and the front end's memory stays flat."""
    api = service.process("api").pid  # `env` and Python are one process
    before, held, stored = memory_bytes(api), [0], [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            held.append(memory_bytes(api) - before)
            stored.append(sum(path.stat().st_size for path in service.uploads.rglob("*") if path.is_file()))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with cutting(urlsplit(service.url).port or 0, list(CUTS)) as line:
            job = submit(line.url, video)
            assert line.cuts == []
    finally:
        over.set()
        watching.join()
    print(f"\nmemory of the front end: at most {max(held) / 2**20:.0f} MiB more than idle")
    with video.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert (job["input"]["bytes"], job["input"]["sha256"], job["name"]) == (BYTES, digest, "long.mp4")
    files = [path for path in service.uploads.rglob("*") if path.is_file()]
    assert [path.relative_to(service.uploads).as_posix() for path in files] == [f"{job['id']}/input"]
    assert max(stored) == BYTES
    assert max(held) < HELD_BYTES
    httpx.delete(f"{service.url}/v1/jobs/{job['id']}").raise_for_status()
    assert service.stored() == []
