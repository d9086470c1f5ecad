"""Writing results: one execution at a time, and nothing after it lost the job."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import redis

from app.contract import chunks, keys
from app.contract.frames import Face, Frame
from app.contract.jobs import InputInfo, JobRecord, ModelRef, State
from app.contract.options import JobOptions
from app.contract.scripts import transitions
from app.contract.scripts.recovery import RECOVER
from worker.jobs import execution as execution_module
from worker.jobs.execution import CanceledError, Execution, LostError, ResultsFullError

JOB = "0123456789abcdef" * 2
TTL_S = 600


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """A Redis in which one job waits."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    record = JobRecord(
        id=JOB,
        queue="mien-default",
        media="mp4",
        created_at=now,
        expires_at=now,
        options=JobOptions(),
        model=ModelRef(name="default"),
        input=InputInfo(kind="video", bytes=1, sha256="0" * 64),
    )
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.job(JOB), mapping=record.to_hash())
        yield client


def frame(index: int) -> Frame:
    return Frame(index, index / 25, (Face(0, (0, 0, 8, 8), 0.5, (0.25, 0.75)),))


def record(connection: redis.Redis) -> JobRecord:
    return JobRecord.from_hash(cast(dict[bytes, bytes], connection.hgetall(keys.job(JOB))))


def stored(connection: redis.Redis, execution: str | None = None) -> list[list[int]]:
    """Frame indices of each chunk of the execution that counts."""
    key = keys.frames(JOB, record(connection).execution if execution is None else execution)
    return [[f.frame_index for f in chunks.decode(chunk)] for chunk in cast(list[bytes], connection.lrange(key, 0, -1))]


def all_lists(connection: redis.Redis) -> list[bytes]:
    return cast(list[bytes], connection.keys(f"{keys.FRAMES}*"))


def claimed(connection: redis.Redis) -> Execution:
    execution = Execution(connection, JOB, TTL_S)
    execution.claim({"labels": ("a", "b")})
    return execution


def end(execution: Execution, state: State, fields: dict[str, Any]) -> None:
    execution.seal(state, fields)
    execution.finish()


def recover(connection: redis.Redis) -> bytes:
    """Recovery's action in the second round without a lease holder."""
    connection.hset(keys.rq_job(JOB), "status", "started")
    connection.delete("queue")
    names = [keys.job(JOB), "queue", keys.rq_job(JOB), "taken", "running"]
    arguments = [JOB, f"{keys.FRAMES}{JOB}:", keys.changed(JOB), "1", "3", "60", '["state", "failed"]']
    return cast(bytes, connection.eval(RECOVER, len(names), *names, *arguments))


def cancel(connection: redis.Redis) -> bytes:
    answer = connection.eval(transitions.CANCEL, 1, keys.job(JOB), keys.changed(JOB), "60", "state", "canceled")
    return cast(bytes, answer)


def forget(connection: redis.Redis) -> None:
    names = (keys.changed(JOB), f"{keys.FRAMES}{JOB}:", JOB)
    connection.eval(transitions.FORGET, 2, keys.job(JOB), keys.jobs(""), *names)


def test_a_job_from_claim_to_end(connection: redis.Redis) -> None:
    """Chunks hold exactly 64 frames, the last the rest; the record has the progress, and both expire."""
    execution = Execution(connection, JOB, TTL_S)
    taken = execution.claim({"labels": ("a", "b")})
    assert (taken.state, taken.attempts, taken.labels) == ("running", 1, ("a", "b"))
    execution.opened(150, {"detector": "cascade"})
    for i in range(150):
        execution.add(frame(i))
        assert [len(chunk) for chunk in stored(connection)] == [64] * ((i + 1) // 64)
        assert record(connection).progress.frames_done == (i + 1) // 64 * 64
    assert record(connection).progress.frames_total == 150
    end(execution, "succeeded", {"warnings": ["odd"]})
    assert stored(connection) == [list(range(64)), list(range(64, 128)), list(range(128, 150))]
    ended = record(connection)
    assert (ended.state, ended.detector, ended.warnings) == ("succeeded", "cascade", ("odd",))
    assert (ended.progress.frames_done, ended.progress.frames_total, ended.progress.eta_s) == (150, 150, 0)
    assert ended.finished_at is not None
    for key in (keys.job(JOB), keys.frames(JOB, ended.execution)):
        assert TTL_S - 20 < connection.ttl(key) <= TTL_S


@pytest.mark.parametrize(("interval_s", "total"), [(0.04, 500), (0.041, 500), (0.2, 100), (0.16, 125)])
def test_the_claim_is_believed_as_long_as_frames_keep_pace(
    interval_s: float, total: int, connection: redis.Redis
) -> None:
    """The estimate falls below 500 claimed frames if they arrive much more slowly; at the end it is the true number."""
    execution = claimed(connection)
    execution.opened(500, {}, (0.0, 20.0))
    for i in range(64):
        execution.add(Frame(i, i * interval_s, ()))
    assert record(connection).progress.frames_total == pytest.approx(total, abs=3)
    execution.seal("succeeded", {})
    execution.finish()
    assert record(connection).progress.frames_total == 64


@pytest.mark.parametrize("slow_s", [0.0448, 0.05, 0.08])
def test_progress_never_goes_back(slow_s: float, connection: redis.Redis) -> None:
    """A recording of a screen: its claim is doubted while little moves, and no longer once much does."""
    execution = claimed(connection)
    execution.opened(4000, {}, (0.0, 160.0))
    shares = [0.0]
    at_s = 0.0
    for i in range(64 * 40):
        execution.add(Frame(i, at_s, ()))
        at_s += slow_s if i // 64 < 28 else 0.001
        if i % 64 == 63:
            progress = record(connection).progress
            assert progress.frames_total is not None
            assert progress.frames_done <= progress.frames_total <= 4000
            shares.append(progress.frames_done / progress.frames_total)
    assert shares == sorted(shares)


def test_a_second_execution_fences_the_first(connection: redis.Redis) -> None:
    """The first execution's frames are removed; its later writes have no effect and raise LostError."""
    first = claimed(connection)
    for i in range(70):
        first.add(frame(i))
    assert len(stored(connection)) == 1
    with pytest.raises(LostError, match="running"):
        claimed(connection)  # a job that runs is nobody else's
    assert recover(connection) == b"waits"
    second = claimed(connection)
    assert all_lists(connection) == []
    before = record(connection)
    assert before.attempts == 2
    with pytest.raises(LostError):
        first.flush()
    with pytest.raises(LostError):
        first.opened(5, {"detector": "stale"})
    with pytest.raises(LostError):
        end(first, "succeeded", {})
    with pytest.raises(LostError, match="lost"):
        first.hand_back()
    assert all_lists(connection) == []
    assert record(connection) == before
    second.add(frame(7))
    end(second, "succeeded", {})
    assert stored(connection) == [[7]]
    assert len(all_lists(connection)) == 1


def test_an_ended_job_is_not_claimed(connection: redis.Redis) -> None:
    """A job that ended stays as it ended; one that is gone stays gone."""
    end(claimed(connection), "failed", {})
    before = record(connection)
    with pytest.raises(LostError, match="failed"):
        claimed(connection)
    assert record(connection) == before
    forget(connection)
    with pytest.raises(LostError, match="gone"):
        claimed(connection)
    assert connection.exists(keys.job(JOB)) == 0


def test_cancelling_stops_at_the_next_chunk(connection: redis.Redis) -> None:
    """The chunk that learns of it is kept, and the job ends as cancelled with the frames so far."""
    execution = claimed(connection)
    for i in range(10):
        execution.add(frame(i))
    assert cancel(connection) == b"requested"
    with pytest.raises(CanceledError):
        execution.flush()
    end(execution, "canceled", {})
    assert record(connection).state == "canceled"
    assert stored(connection) == [list(range(10))]


def test_cancelling_is_noticed_between_chunks(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow job asks by itself whether it is still wanted."""
    monkeypatch.setattr(execution_module, "CHECK_S", 0)
    execution = claimed(connection)
    execution.add(frame(0))
    cancel(connection)
    with pytest.raises(CanceledError):
        execution.add(frame(1))


def test_cancelling_at_the_last_moment(connection: redis.Redis) -> None:
    """A job cancelled after its last frame but before its end is cancelled, with all its frames."""
    execution = claimed(connection)
    execution.add(frame(0))
    cancel(connection)
    end(execution, "succeeded", {})
    assert record(connection).state == "canceled"
    assert stored(connection) == [[0]]


def test_a_job_cancelled_while_it_waited(connection: redis.Redis) -> None:
    """It ends without a worker, and a later claim is refused."""
    assert cancel(connection) == b"canceled"
    with pytest.raises(LostError, match="canceled"):
        claimed(connection)
    assert record(connection).attempts == 0


def test_deleting_stops_at_the_next_chunk(connection: redis.Redis) -> None:
    """After its deletion nothing of a job is written: neither record nor frames come back."""
    execution = claimed(connection)
    for i in range(70):
        execution.add(frame(i))
    forget(connection)
    with pytest.raises(LostError):
        execution.flush()
    with pytest.raises(LostError):
        end(execution, "succeeded", {})
    with pytest.raises(LostError, match="gone"):
        execution.hand_back()
    assert cast(list[bytes], connection.keys(f"*{JOB}*")) == []


def test_deleting_is_noticed_between_chunks(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow job learns of its deletion before its chunk is full."""
    monkeypatch.setattr(execution_module, "CHECK_S", 0)
    execution = claimed(connection)
    forget(connection)
    with pytest.raises(LostError):
        execution.add(frame(0))


def test_handing_back_costs_no_attempt(connection: redis.Redis) -> None:
    """The job waits again without its frames, and the next claim starts from the beginning."""
    before = record(connection)
    execution = claimed(connection)
    for i in range(70):
        execution.add(frame(i))
    execution.hand_back()
    waiting = record(connection)
    assert (waiting.state, waiting.attempts, waiting.execution) == ("queued", before.attempts, "")
    assert waiting.progress == before.progress
    assert all_lists(connection) == []
    with pytest.raises(LostError):
        execution.flush()
    again = Execution(connection, JOB, TTL_S)
    assert again.claim({}).attempts == 1


def test_a_cancelled_job_is_not_handed_back(connection: redis.Redis) -> None:
    """A worker that stops before it saw the wish leaves a job that ends as cancelled, with its frames."""
    execution = claimed(connection)
    for i in range(70):
        execution.add(frame(i))
    assert cancel(connection) == b"requested"
    execution.hand_back()
    assert connection.llen(keys.rq_queue("q")) == 0
    assert not connection.exists(keys.rq_job(JOB))
    assert recover(connection) == b"sealed"
    names = (keys.job(JOB), keys.frames(JOB, record(connection).execution))
    assert connection.eval(transitions.FINISH, 2, *names, record(connection).execution, keys.changed(JOB)) == b"ok"
    assert record(connection).state == "canceled"
    assert stored(connection) == [list(range(64))]


class Repeating:
    """Runs every script twice and gives the second answer, as after a connection that broke behind the first."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection

    def eval(self, *arguments: Any) -> Any:
        self._connection.eval(*arguments)
        return self._connection.eval(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_scripts_may_run_twice(connection: redis.Redis) -> None:
    """A request that is repeated after a lost answer counts once: no extra attempt, no duplicate frame."""
    execution = Execution(cast(redis.Redis, Repeating(connection)), JOB, TTL_S)
    assert execution.claim({}).attempts == 1
    execution.opened(70, {})
    for i in range(70):
        execution.add(frame(i))
    end(execution, "succeeded", {})
    assert stored(connection) == [list(range(64)), list(range(64, 70))]
    assert (record(connection).state, record(connection).attempts) == ("succeeded", 1)


def test_a_sealed_end_is_the_end(connection: redis.Redis) -> None:
    """A sealed job takes no frames, is not restarted, and ends as sealed whichever process finishes it."""
    execution = claimed(connection)
    execution.add(frame(0))
    execution.seal("succeeded", {"warnings": ["odd"]})
    assert record(connection).state == "running"
    assert recover(connection) == b"sealed"
    cancel(connection)
    with pytest.raises(LostError, match="running"):
        claimed(connection)
    assert execution.finish() == "succeeded"
    assert (record(connection).state, record(connection).warnings) == ("succeeded", ("odd",))
    assert stored(connection) == [[0]]
    assert connection.hmget(keys.job(JOB), "sealed", "ending", "ending_ttl_s") == [None, None, None]


def test_recovery_seals_against_a_late_execution(connection: redis.Redis) -> None:
    """A job that failed after its last attempt stays failed, even if the presumed dead execution continues."""
    for _ in range(2):
        claimed(connection)
        assert recover(connection) == b"waits"
    late = claimed(connection)
    assert recover(connection) == b"sealed"
    late.add(frame(0))
    for attempt in (late.flush, late.hand_back, lambda: late.seal("succeeded", {})):
        with pytest.raises(LostError, match="lost"):
            attempt()
        late.add(frame(0))
    execution = record(connection).execution
    names = (keys.job(JOB), keys.frames(JOB, execution))
    assert connection.eval(transitions.FINISH, 2, *names, execution, keys.changed(JOB)) == b"ok"
    assert (record(connection).state, record(connection).attempts) == ("failed", 3)
    assert all_lists(connection) == []


@pytest.fixture
def full(connection: redis.Redis) -> Iterator[redis.Redis]:
    """The same Redis at its memory limit, once the test asks for it by `CONFIG SET maxmemory 1`."""
    yield connection
    connection.config_set("maxmemory", 0)


def test_a_full_redis_takes_ends_but_no_frames(full: redis.Redis) -> None:
    """At the memory limit the next chunk is refused clearly; ending, cancelling, handing back and deleting work."""
    execution = claimed(full)
    for i in range(70):
        execution.add(frame(i))
    full.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        full.set("key", "value")
    with pytest.raises(ResultsFullError):
        execution.flush()
    execution.hand_back()
    again = claimed(full)
    assert cancel(full) == b"requested"
    end(again, "canceled", {})
    ended = record(full)
    assert (ended.state, ended.progress.frames_done) == ("canceled", 0)
    forget(full)
    assert cast(list[bytes], full.keys(f"*{JOB}*")) == [keys.rq_job(JOB).encode()]


def test_every_change_is_told(connection: redis.Redis) -> None:
    """Each visible change increases the revision and publishes it on the job's channel."""
    with connection.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe(keys.changed(JOB))
        assert listener.get_message(timeout=5) is None  # the subscription itself
        execution = claimed(connection)
        execution.opened(64, {})
        for i in range(64):
            execution.add(frame(i))
        end(execution, "succeeded", {})
        told = [listener.get_message(timeout=5) for _ in range(4)]
    assert [message and int(message["data"]) for message in told] == [1, 2, 3, 4]
    assert record(connection).revision == 4
