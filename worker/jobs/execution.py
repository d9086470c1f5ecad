"""One execution of a job in Redis: claim, chunks of frames with progress, end.

Every write is a script of `app.contract.scripts.transitions`, fenced by the execution's token: if another execution
owns the job, or the job was deleted, the write has no effect and raises `LostError`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import redis

from app.contract import chunks, keys, metrics
from app.contract.frames import Frame
from app.contract.jobs import JobRecord, Progress, State, UnreadableRecordError, ending, to_field, to_pairs, utc_now
from app.contract.scripts import transitions

ON_TIME = 0.9  # the claimed number of frames is used unless the estimate is below this share of it
READ_CHUNKS = 16  # in one request
CHECK_S = 0.5  # interval of a running job's check for cancellation and loss


class LostError(Exception):
    """Another execution owns the job, or it ended or was deleted: stop and write nothing.  The message tells which."""

    @property
    def has_successor(self) -> bool:
        """Whether another execution owns or owned the job: then its queue entries must stay."""
        return str(self) in {"lost", "running"}


class ResultsFullError(Exception):
    """Redis has too little memory for the job's results."""


class CanceledError(Exception):
    """The client cancelled the job: stop and keep the results so far."""


class Execution:
    """One execution of one job."""

    def __init__(self, connection: redis.Redis, job_id: str, result_ttl_s: int) -> None:
        self._connection = connection
        self._ttl_s = result_ttl_s
        self._token = secrets.token_hex(8)
        self._job_id = job_id
        self._claimed = False
        self._hash = keys.job(job_id)
        self._frames_key = keys.frames(job_id, self._token)
        self._channel = keys.changed(job_id)
        self._prefix = f"{keys.FRAMES}{job_id}:"
        self._chunk: list[Frame] = []
        self._chunks = 0
        self._done = 0
        self._labels: tuple[str, ...] = ()
        self._firsts: Counter[int] = Counter()  # faces by the index of their best label
        self._total: int | None = None
        self._span_s: tuple[float, float] | None = None
        self._last_s = 0.0
        self._share = 0.0  # done frames / total, as last published
        self._sealed: State = "failed"
        self._waited_s: float | None = None  # set in the job's first execution
        self._claimed_s = self._started = time.monotonic()
        self._checked = self._started

    def claim(self, fields: Mapping[str, Any]) -> JobRecord:
        """Claim the job and record the model that labels it.

        Raises: LostError if it is not queued; UnreadableRecordError, before the claim, if this release does not support
        one of its options.
        """
        if unknown := self._record().unknown_options:
            raise UnreadableRecordError(f"unknown options {', '.join(unknown)}")
        now = to_field(utc_now())
        answer = self._run(transitions.CLAIM, [self._hash], [self._token, now, self._channel], to_pairs(fields))
        if answer != "claimed":
            raise LostError(answer)
        self._claimed, self._claimed_s = True, time.monotonic()
        record = self._record()
        if record.started_at is not None and to_field(record.started_at) == now:
            # Redis' clock, which all hosts share, since this host's may be wrong.
            seconds, microseconds = self._connection.time()
            self._waited_s = max(seconds + microseconds / 1e6 - record.created_at.timestamp(), 0.0)
            metrics.add(self._connection, metrics.observed(metrics.WAIT, self._waited_s))
        self._labels = record.labels or ()
        return record

    def opened(self, total: int | None, fields: Mapping[str, Any], span_s: tuple[float, float] | None = None) -> None:
        """Record the opened input.  Raises: LostError, CanceledError.

        total: frames that the container claims, None if unknown.  span_s: start and end that it claims, in seconds.
        """
        self._total, self._span_s = total, span_s
        self._started = time.monotonic()
        self._append("", fields)

    def add(self, frame: Frame) -> None:
        """Add a frame; a full chunk is written.  Raises: LostError, CanceledError, ResultsFullError."""
        self._chunk.append(frame)
        self._last_s = frame.timestamp_s
        if len(self._chunk) == chunks.CHUNK_FRAMES:
            self.flush()
        else:
            self.check()

    def check(self) -> None:
        """Check for loss and cancellation, at most every `CHECK_S`.  Raises: LostError, CanceledError."""
        if time.monotonic() - self._checked <= CHECK_S:
            return
        self._checked = time.monotonic()
        token, cancel = cast(list[bytes | None], self._connection.hmget(self._hash, "execution", "cancel_requested"))
        if token != self._token.encode():
            raise LostError("gone" if token is None else "lost")
        if cancel == b"true":
            raise CanceledError

    @property
    def added(self) -> int:
        """The number of frames so far."""
        return self._done + len(self._chunk)

    def flush(self) -> None:
        """Write the buffered frames.  Raises: LostError, CanceledError, ResultsFullError."""
        if not self._chunk:
            return
        frames, self._chunk = self._chunk, []
        self._done += len(frames)
        self._firsts.update(
            max(range(len(f.scores)), key=f.scores.__getitem__) for frame in frames for f in frame.faces
        )
        faces = sum(len(frame.faces) for frame in frames)
        counts: dict[str, float] = {metrics.FRAMES: len(frames), metrics.FACES: faces}
        if not self._chunks and self._waited_s is not None:
            counts |= metrics.observed(metrics.FIRST_RECORD, self._waited_s + time.monotonic() - self._claimed_s)
        try:
            self._append(chunks.encode(frames), {"progress": self._progress()}, counts)
        except ResultsFullError:
            self._done -= len(frames)
            raise

    def seal(self, state: State, fields: Mapping[str, Any], whole: bytes = b"") -> None:
        """Record the job's outcome, after writing the buffered frames, also of a cancelled job.

        whole: an encoded `Whole`, if there is one.
        The outcome is final, even if this process dies.  Raises: LostError, ResultsFullError.
        """
        try:
            self.flush()
        except CanceledError:
            if state == "succeeded":
                state = "canceled"
        script_keys = [self._hash, keys.whole(self._job_id, self._token)]
        arguments: list[bytes | str] = [self._token, str(self._ttl_s), self._ending(state, fields), whole]
        answer = self._run(transitions.SEAL, script_keys, arguments)
        if answer != "ok":
            raise LostError(answer)
        self._sealed = state

    def finish(self) -> State:
        """Make the sealed outcome visible and return it.  Raises: LostError."""
        answer = self._run(transitions.FINISH, [self._hash, self._frames_key], [self._token, self._channel])
        if answer != "ok":
            raise LostError(answer)
        ran_s = time.monotonic() - self._claimed_s
        metrics.add(self._connection, {metrics.BUSY_SECONDS: ran_s} | metrics.observed(metrics.RUN, ran_s))
        return self._sealed

    def hand_back(self, *, charged: bool = False, last: bool = False) -> None:
        """Put the job back at the head of its queue, to be restarted.  last: at its end.

        A job with a requested cancellation is not queued; recovery ends it as cancelled.

        charged: this execution counts as one of the job's attempts; not if only the worker stops.  Raises: LostError.
        """
        queue = cast(bytes | None, self._connection.hget(self._hash, "queue"))
        if queue is None:
            raise LostError("gone")
        script_keys = [self._hash, keys.rq_queue(queue.decode()), keys.rq_job(self._job_id)]
        token = self._token if self._claimed else ""
        arguments = [token, self._job_id, self._prefix, self._channel, "charged" if charged else ""]
        arguments += [str(self._ttl_s), self._ending("canceled", {}), "last" if last else ""]
        answer = self._run(transitions.HAND_BACK, script_keys, arguments)
        if answer not in {"ok", "canceled"}:
            raise LostError(answer)

    def _record(self) -> JobRecord:
        raw = cast(dict[bytes, bytes], self._connection.hgetall(self._hash))
        if not raw:
            raise LostError("gone")
        return JobRecord.from_hash(raw)

    def _ending(self, state: State, fields: Mapping[str, Any]) -> str:
        """The fields of a job that ends now, as JSON for the scripts."""
        progress = self._progress()
        if state == "succeeded":
            progress = progress | {"frames_total": self._done, "eta_s": 0.0}
        shown = {"progress": progress, "label_shares": self._label_shares()}
        return json.dumps(to_pairs(ending(state, self._ttl_s, **{**fields, **shown})))

    def _label_shares(self) -> dict[str, float]:
        faces = max(self._firsts.total(), 1)
        counts = {label: self._firsts[k] for k, label in enumerate(self._labels) if self._firsts[k]}
        return {label: round(count / faces, 5) for label, count in counts.items()}

    def _progress(self) -> dict[str, Any]:
        elapsed = max(time.monotonic() - self._started, 1e-6)
        rate = self._done / elapsed if self._done else None
        total = None if self._total is None else self._expected(self._total)
        eta = None if rate is None or total is None else (total - self._done) / rate
        progress = Progress(
            frames_done=self._done,
            frames_total=total,
            frames_per_second=None if rate is None else round(rate, 2),
            eta_s=None if eta is None else round(eta, 2),
        )
        return progress.model_dump(mode="json")

    def _expected(self, claimed: int) -> int:
        """The estimated total of frames: below the claim if the frame rate so far is clearly lower.

        Never so high that the published share of done frames would fall.
        """
        if not self._done:
            return claimed
        total = claimed
        if self._span_s is not None:
            start_s, end_s = self._span_s
            share = (self._last_s - start_s) / max(end_s - start_s, 1e-6)
            at_this_pace = round(self._done / share) if share > 0 else claimed
            total = at_this_pace if at_this_pace < ON_TIME * claimed else claimed
        if self._share:
            total = min(total, int(self._done / self._share))
        total = max(total, self._done)
        self._share = self._done / total
        return total

    def _append(self, chunk: bytes | str, fields: Mapping[str, Any], counts: Mapping[str, float] | None = None) -> None:
        script_keys = [self._hash, self._frames_key]
        arguments = [self._token, self._channel, chunk, str(self._chunks)]
        pipe = self._connection.pipeline(transaction=False)  # one round trip
        pipe.eval(transitions.APPEND, len(script_keys), *script_keys, *arguments, *to_pairs(fields))
        metrics.add(pipe, counts or {})
        answer = cast(bytes, pipe.execute()[0]).decode()
        self._checked = time.monotonic()
        if answer == "full":
            raise ResultsFullError
        if answer in {"lost", "gone"}:
            raise LostError(answer)
        self._chunks += bool(chunk)
        if answer == "cancel":
            raise CanceledError

    def _run(
        self, script: str, script_keys: list[str], arguments: Sequence[bytes | str], pairs: Sequence[str] = ()
    ) -> str:
        answer = self._connection.eval(script, len(script_keys), *script_keys, *arguments, *pairs)
        return cast(bytes, answer).decode()


def written_frames(connection: redis.Redis, record: JobRecord) -> Iterator[Frame]:
    """The frames of the job's current execution, streamed in constant memory."""
    key = keys.frames(record.id, record.execution)
    first = 0
    while found := cast(list[bytes], connection.lrange(key, first, first + READ_CHUNKS - 1)):
        for chunk in found:
            yield from chunks.decode(chunk)
        first += READ_CHUNKS
