"""The API under test, as a real server in a thread, and a stand-in for workers."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import redis
import uvicorn

from app.contract import chunks, keys
from app.contract.frames import Face, Frame
from app.contract.jobs import JobRecord, to_field, utc_now
from app.contract.scripts import transitions
from app.contract.scripts.recovery import RECOVER
from app.contract.workers import MemberInfo, ModelInfo, WorkerInfo
from app.main import create_app
from app.settings import Settings

LABELS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
MEMBERS = ("cnn", "cnn_rnn", "cnn_transformer")


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    """Folder of the upload store."""
    return tmp_path / "uploads"


MakeApi = Callable[..., httpx.Client]


@pytest.fixture
def make_api(redis_url: str, uploads: Path) -> Iterator[MakeApi]:
    """Starts a front end with the given settings; returns a client for it."""
    with ExitStack() as stack:

        def make(**settings: Any) -> httpx.Client:
            values = {"redis_url": redis_url, "uploads": str(uploads), **settings}
            base = stack.enter_context(serving(Settings(**values)))
            return stack.enter_context(httpx.Client(base_url=base, timeout=30))

        yield make


@pytest.fixture
def api(make_api: MakeApi) -> httpx.Client:
    """A client for a front end with default settings."""
    return make_api()


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """A front end on a free port, in a thread -> its base URL."""
    config = uvicorn.Config(
        create_app(settings),
        host="127.0.0.1",
        port=0,
        log_config=None,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


class StandIn:
    """Writes what a worker writes, through the contract's scripts, when a test says so."""

    def __init__(self, connection: redis.Redis, uploads: Path) -> None:
        self.redis = connection
        self.uploads = uploads
        self.execution = uuid.uuid4().hex
        self._scripts = {
            name: connection.register_script(getattr(transitions, name))
            for name in ("CLAIM", "APPEND", "SEAL", "FINISH")
        }
        self._scripts["RECOVER"] = connection.register_script(RECOVER)

    def announce(
        self, bundle: str = "default", state: str = "ready", members: Sequence[str] = MEMBERS, queue: str = ""
    ) -> None:
        """Be a live worker of a bundle, from a folder of the bundle's name unless a queue is given."""
        now = utc_now()
        info = WorkerInfo(
            name=f"standin-{bundle}",
            state=state,
            bundle=bundle,
            version="1",
            queue=queue or f"mien-{bundle}",
            device="cpu",
            precision="fp32",
            detector="yunet",
            started_at=now,
        )
        model = ModelInfo(
            name=bundle,
            version="1",
            queue=info.queue,
            labels=LABELS,
            window=9,
            members=tuple(
                MemberInfo(name=name, backbone="small", head="h", temperature=1, fusion_weight=1 / len(members))
                for name in members
            ),
            metrics=[{"data": "validation", "accuracy": 0.8}],
            provenance={"data": "test"},
            licence="MIT",
            intended_use="tests",
        )
        self.redis.set(keys.worker(info.name), info.model_dump_json(), ex=60)
        self.redis.zadd(keys.WORKERS, {info.name: time.time()})
        self.redis.hset(keys.MODELS, bundle, model.model_dump_json())

    def record(self, job_id: str) -> JobRecord:
        return JobRecord.from_hash(cast(dict[bytes, bytes], self.redis.hgetall(keys.job(job_id))))

    def claim(self, job_id: str, **fields: Any) -> str:
        """Take a job, as its next execution."""
        self.redis.lrem("rq:queue:mien-default", 0, job_id)
        known = {
            "labels": LABELS,
            "members": MEMBERS,
            "detector": "yunet",
            "model": {"name": "default", "version": "1"},
        }
        arguments = [
            self.execution,
            _now(),
            keys.changed(job_id),
            *_pairs({**known, **fields}),
        ]
        return self._run("CLAIM", [keys.job(job_id)], arguments)

    def append(self, job_id: str, frames: Sequence[Frame], done: int | None = None, **fields: Any) -> str:
        """Write one chunk, and the progress after it."""
        shown = {"progress": {"frames_done": done if done is not None else len(frames), "frames_total": None}, **fields}
        written = self.redis.llen(keys.frames(job_id, self.execution))
        chunk = chunks.encode(frames) if frames else ""
        arguments = [self.execution, keys.changed(job_id), chunk, written, *_pairs(shown)]
        return self._run("APPEND", [keys.job(job_id), keys.frames(job_id, self.execution)], arguments)

    def finish(self, job_id: str, state: str = "succeeded", ttl_s: int = 3600, **fields: Any) -> str:
        """End the job; its input goes first."""
        for path in (self.uploads / job_id).glob("*"):
            path.unlink()
        if (self.uploads / job_id).exists():
            (self.uploads / job_id).rmdir()
        expires = (utc_now() + timedelta(seconds=ttl_s)).isoformat()
        ended = {"state": state, "finished_at": _now(), "expires_at": expires, "input_deleted": True, **fields}
        answer = self._run("SEAL", [keys.job(job_id)], [self.execution, ttl_s, json.dumps(_pairs(ended))])
        if answer != "ok":
            return answer
        arguments = [self.execution, keys.changed(job_id)]
        return self._run("FINISH", [keys.job(job_id), keys.frames(job_id, self.execution)], arguments)

    def give_up(self, job_id: str) -> None:
        """What recovery does when this worker is dead."""
        names = [keys.job(job_id), "no-queue", keys.rq_job(job_id), "no-taken", "no-running"]
        answer = self._run("RECOVER", names, [job_id, keys.frames(job_id, ""), keys.changed(job_id), 1, 9, 60, "[]"])
        assert answer == "waits"

    def label(self, job_id: str, frames: Sequence[Frame], state: str = "succeeded") -> None:
        """Do a whole job."""
        assert self.claim(job_id) == "claimed"
        for start in range(0, len(frames), chunks.CHUNK_FRAMES):
            chunk = frames[start : start + chunks.CHUNK_FRAMES]
            assert self.append(job_id, chunk, start + len(chunk)) == "ok"
        assert self.finish(job_id, state) == "ok"

    def _run(self, name: str, redis_keys: list[str], arguments: list[Any]) -> str:
        answer: bytes = self._scripts[name](keys=redis_keys, args=arguments)
        return answer.decode()


@pytest.fixture
def worker(redis_url: str, uploads: Path) -> Iterator[StandIn]:
    """A stand-in worker."""
    with redis.Redis.from_url(redis_url) as connection:
        yield StandIn(connection, uploads)


MakeFrames = Callable[..., list[Frame]]


@pytest.fixture
def make_frames() -> MakeFrames:
    """Makes frames: one or more smoothly changing faces in each, or none in every `empty_every`th."""

    def make(count: int, faces: int = 1, fps: float = 25, empty_every: int = 0, members: int = 3) -> list[Frame]:
        return [
            Frame(i, round(i / fps, 6), () if empty_every and i % empty_every == 0 else _faces(i, faces, members))
            for i in range(count)
        ]

    return make


def _faces(index: int, count: int, members: int) -> tuple[Face, ...]:
    return tuple(
        Face(
            track_id=track,
            bbox=(10.0 + track * 50, 20.5, 40.0, 40.0),
            detection_score=0.9,
            scores=_scores(index, track),
            members=tuple(_scores(index + member, track) for member in range(members)),
        )
        for track in range(count)
    )


def _scores(index: int, track: int) -> tuple[float, ...]:
    best = (index // 40 + track) % len(LABELS)
    return tuple(0.4 if k == best else 0.1 for k in range(len(LABELS)))


def _pairs(fields: dict[str, Any]) -> list[str]:
    return [text for name, value in fields.items() for text in (name, to_field(value))]


def _now() -> str:
    return utc_now().isoformat()


@pytest.fixture
def submit(api: httpx.Client) -> Callable[..., str]:
    """Submits a small video -> the job's id."""

    def post(client: httpx.Client = api, **options: Any) -> str:
        answer = client.post("/v1/jobs", files={"file": ("a.mp4", MP4)}, data=options)
        assert answer.status_code == 202, answer.text
        job_id: str = json.loads(answer.content)["id"]
        return job_id

    return post


# The start of an MP4; the front end looks no further.
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(2000)
