"""The whole service with real processes, a client for it, and clips made on the spot.

One service serves all tests; after every test its upload store must be empty.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import httpx
import numpy as np
import numpy.typing as npt
import pytest
import redis
from skimage import data

from app.contract import keys, metrics
from worker.demo.processes import Process, free_port

ROOT = Path(__file__).resolve().parents[1]
READY_S = 240
ENDED_S = 240
ENDED = frozenset({"succeeded", "failed", "canceled"})
MAX_UPLOAD_BYTES = 64 * 2**20
FACE = (224.0, 125.0)  # centre of the face in the portrait, pixels
CODECS = {"gif": "gif", "webm": "libvpx-vp9"}  # by container; MPEG-4 in all others, which browsers do not play
QUICK: dict[str, object] = {"deadline": "realtime", "cpu-used": "8"}  # of VP9, which is slow otherwise
TKHD_MATRIX = 44  # where an mp4's display matrix lies, from the name of its `tkhd` box (version 0)

Picture = npt.NDArray[np.uint8]
Record = dict[str, Any]


@contextmanager
def no_settings() -> Iterator[None]:
    """Hides the `MIEN_` variables of whoever runs the tests, so that they mean the same everywhere."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in [variable for variable in os.environ if variable.startswith("MIEN_")]:
            patch.delenv(variable)
        yield


@dataclass
class Service:
    """Redis and API, and workers as they are started."""

    url: str
    uploads: Path
    redis_url: str
    _folder: Path
    _cleanup: ExitStack
    environment: dict[str, str]
    _processes: list[Process] = field(default_factory=list)

    def start(self, name: str, *command: str) -> Process:
        """A process of the service; stopped at the latest with it."""
        with no_settings():
            process = Process(name, command, self.environment, self._folder)
        self._cleanup.callback(process.stop)
        self._processes.append(process)
        return process

    def start_worker(self, name: str, code: Path = ROOT) -> Process:
        """Another worker, of this release or of a checkout; it may not be ready yet."""
        return self.start(name, *module_of(code, "worker", "run"))

    def process(self, name: str) -> Process:
        """The running process that was started under this name: `redis`, `api`, ..."""
        return next(process for process in self._processes if process.name == name)

    def stop(self, process: Process) -> str:
        """SIGTERM, and wait; the end of its log."""
        process.stop()
        self._processes.remove(process)
        return process.tail()

    def run(self, *command: str) -> str:
        """What another command prints, with the service's settings."""
        with no_settings():
            everything = os.environ | self.environment
        done = subprocess.run(command, env=everything, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def wait_live(self) -> None:
        """Until the API answers, with or without workers."""
        while True:
            try:
                httpx.get(f"{self.url}/health/live", trust_env=False)
            except httpx.TransportError:
                self.process("api").check()
                time.sleep(0.1)
            else:
                return

    def wait_ready(self) -> dict[str, Any]:
        """The body of /health/ready once it answers 200."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for process in self._processes:
                process.check()
            try:
                answer = httpx.get(f"{self.url}/health/ready", trust_env=False)
            except httpx.TransportError:
                time.sleep(0.2)
                continue
            if answer.status_code == 200:
                return cast(dict[str, Any], answer.json())
            time.sleep(0.2)
        raise AssertionError("\n".join(process.tail() for process in self._processes))

    def model_loads(self) -> float:
        """How often workers loaded a bundle."""
        with redis.Redis.from_url(self.redis_url) as connection:
            return float(cast(bytes, connection.hget(keys.METRICS, metrics.MODEL_LOADS)))

    def stored(self) -> list[str]:
        """Everything in the upload store, except the folder itself."""
        return sorted(str(path.relative_to(self.uploads)) for path in self.uploads.rglob("*"))


def module_of(code: Path, *arguments: str) -> list[str]:
    """`python -m ...` with the code of a checkout."""
    return ["env", "-C", str(code), sys.executable, "-m", *arguments]


def redis_rights() -> list[str]:
    """The rights of the Redis user of front ends and workers."""
    lines = (ROOT / "docker" / "redis.acl").read_text().splitlines()
    return [right for line in lines if not line.startswith("#") for right in line.split()]


@contextmanager
def serving(folder: Path, as_user: bool = False, code: Path = ROOT, /, **settings: str) -> Iterator[Service]:
    """Redis and API on free ports in an empty folder; no worker yet.

    as_user: front end and workers may do in Redis only what they must.  code: the checkout whose API it is.
    settings: more variables of the environment.
    """
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("redis-server is not installed (Debian: apt-get install redis-server)")
    redis_port, port = free_port(), free_port()
    redis_url = f"redis://127.0.0.1:{redis_port}/0"
    environment = {
        "MIEN_REDIS_URL": redis_url.replace("//", "//mien:password@") if as_user else redis_url,
        "MIEN_UPLOADS": str(folder / "uploads"),
        "MIEN_HOST": "127.0.0.1",
        "MIEN_PORT": str(port),
        "MIEN_DEVICE": "cpu",
        "MIEN_NICE": "0",  # other runs on the same machine would have the processor first
        "MIEN_THREADS": "1",  # likewise
        "MIEN_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
        **settings,
    }
    with ExitStack() as cleanup:
        url = f"http://127.0.0.1:{port}"
        service = Service(url, folder / "uploads", redis_url, folder, cleanup, environment)
        user = ["--user", "mien", "on", ">password", *redis_rights()] if as_user else []
        address = ["--port", str(redis_port), "--bind", "127.0.0.1", "--dir", str(folder)]
        service.start("redis", program, *address, "--save", "", "--appendonly", "no", *user)
        service.start("api", *module_of(code, "app"))
        yield service


@dataclass
class Client:
    """What a client does with the service, wherever that runs."""

    http: httpx.Client

    def submit(self, content: bytes, name: str = "clip.mp4", **options: object) -> Record:
        """POST as a form's `file`; the Job."""
        fields = {option: str(value) for option, value in options.items()}
        answer = self.http.post("/v1/jobs", files={"file": (name, content)}, data=fields)
        assert answer.status_code == 202, answer.text
        return cast(Record, answer.json())

    def job(self, job_id: str) -> Record:
        """The Job now."""
        answer = self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return cast(Record, answer.json())

    def running(self, job_id: str) -> Record:
        """The Job once it has frames and still runs."""
        deadline = time.monotonic() + ENDED_S
        while time.monotonic() < deadline:
            job = self.job(job_id)
            assert job["state"] not in ENDED, f"it ended too early to be looked at: {job}"
            if job["progress"]["frames_done"]:
                return job
            time.sleep(0.05)
        raise AssertionError("it never had frames")

    def ended(self, job_id: str) -> Record:
        """The Job once it has ended."""
        deadline = time.monotonic() + ENDED_S
        while time.monotonic() < deadline:
            job = cast(Record, self.http.get(f"/v1/jobs/{job_id}", params={"wait": 5}).json())
            if job["state"] in ENDED:
                return job
        raise AssertionError(f"it did not end: {job}")

    def label(self, content: bytes, name: str = "clip.mp4", **options: object) -> tuple[Record, list[Record]]:
        """Submit, wait for success, read everything: the Job and its frame records."""
        job = self.ended(self.submit(content, name, **options)["id"])
        assert job["state"] == "succeeded", job["error"]
        return job, self.frames(job["id"])

    def frames(self, job_id: str, **query: object) -> list[Record]:
        """All frame records, page by page until there is no next one."""
        page: str | None = str(httpx.URL(f"/v1/jobs/{job_id}/frames", params={k: str(v) for k, v in query.items()}))
        records: list[Record] = []
        while page is not None:
            answer = self.http.get(page)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            records += body["frames"]
            page = body["next"]
            if not body["frames"] and page is not None:
                time.sleep(0.05)
        return records


@dataclass
class Api(Client):
    """A client that sees behind the API."""

    service: Service

    def ended(self, job_id: str) -> Record:
        """The Job once it has ended; an input that is not kept is gone by then."""
        job = super().ended(job_id)
        assert (job_id in self.service.stored()) == job["options"]["keep_input"]
        return job


class Clips:
    """Makes inputs from the astronaut's portrait, which is in the public domain."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._portrait = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)  # type: ignore[no-untyped-call]

    def picture(self, index: int, size: tuple[int, int] = (320, 240)) -> Picture:
        """BGR, with one frontal face near the middle that moves slowly with the index.  size: width, height."""
        width, height = size
        x, y = 12 * np.sin(index / 9), 6 * np.cos(index / 11)
        matrix = np.array([[1, 0, width / 2 - FACE[0] + x], [0, 1, height / 2 - FACE[1] + y]], np.float32)
        moved = cv2.warpAffine(self._portrait, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(moved, np.uint8)

    def pictures(self, count: int, size: tuple[int, int] = (320, 240)) -> list[Picture]:
        """The first so many pictures."""
        return [self.picture(index, size) for index in range(count)]

    def png(self, index: int, size: tuple[int, int] = (320, 240)) -> bytes:
        """A picture as a PNG file."""
        ok, encoded = cv2.imencode(".png", self.picture(index, size))
        assert ok
        return encoded.tobytes()

    def video(
        self,
        pictures: Sequence[Picture],
        *,
        container: str = "mp4",
        times_ms: Sequence[int] | None = None,
        options: dict[str, str] | None = None,
    ) -> bytes:
        """A video at 25 frames a second, or with these presentation times."""
        height, width = pictures[0].shape[:2]
        times = [40 * index for index in range(len(pictures))] if times_ms is None else times_ms
        file = self._folder / "video"  # `faststart` opens what it wrote once more
        with av.open(str(file), "w", format=container, options=options or {}) as output:
            stream = cast(av.VideoStream, output.add_stream(CODECS.get(container, "mpeg4"), rate=25))
            stream.options = QUICK if container == "webm" else {}
            stream.width, stream.height, stream.bit_rate = width, height, 2_000_000
            stream.pix_fmt = "rgb8" if container == "gif" else "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for picture, time_ms in zip(pictures, times, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return file.read_bytes()

    def phone_video(self, pictures: Sequence[Picture]) -> bytes:
        """An mp4 as phones held upright write it: lying frames, and a display matrix that turns them clockwise."""
        lying = [np.ascontiguousarray(np.rot90(picture)) for picture in pictures]
        content = bytearray(self.video(lying))
        start = content.index(b"tkhd") + TKHD_MATRIX
        one, height = 0x10000, lying[0].shape[0]
        turned = [0, one, 0, 2**32 - one, 0, 0, height * one, 0, 0x40000000]
        upright = [one, 0, 0, 0, one, 0, 0, 0, 0x40000000]
        assert content[start : start + 36] == _big_endian(upright)
        content[start : start + 36] = _big_endian(turned)
        return bytes(content)

    def sound(self) -> bytes:
        """An mp4 with a second of silence and no picture."""
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as output:
            stream = output.add_stream("aac", rate=48_000, layout="mono")
            for index in range(46):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, 1024 * index, Fraction(1, 48_000)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return file.getvalue()


def _big_endian(words: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(4, "big") for word in words)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Makes inputs."""
    return Clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def long_clip(clips: Clips) -> bytes:
    """Takes long enough to be looked at, cancelled or interrupted."""
    return clips.video(clips.pictures(400, (640, 360)))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with one worker, ready for jobs."""
    with serving(tmp_path_factory.mktemp("service"), True) as started:
        started.start_worker("worker")
        started.wait_ready()
        yield started


@pytest.fixture
def api(service: Service) -> Iterator[Api]:
    """A client of the service; the test fails if anything is left in the upload store."""
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http:
        yield Api(http, service)
    deadline = time.monotonic() + 5  # what was deleted while it was used may go a moment later
    while (left := service.stored()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


@pytest.fixture
def own_api(tmp_path: Path) -> Iterator[Api]:
    """A client of a service of the test's own, without workers."""
    with serving(tmp_path) as started, httpx.Client(base_url=started.url, timeout=60, trust_env=False) as http:
        started.wait_live()
        yield Api(http, started)
        assert not started.stored()
