"""A scripted worker without a model: it registers, claims jobs and writes given frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import redis

from app.contract import keys
from app.contract.frames import Frame
from app.contract.jobs import JobRecord, State, utc_now
from app.contract.uploads import UploadStore
from app.contract.workers import MemberInfo, ModelInfo, PriorInfo, WorkerInfo, WorkerState
from worker.jobs.execution import Execution
from worker.jobs.registration import Registration

MEMBERS = ("cnn", "cnn_rnn", "cnn_transformer")
LABELS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
WORKER = "manual-default"
RESULT_TTL_S = 3600


class ManualWorker:
    """Uses the worker's own writer (`Execution`) and its own registration (`Registration`)."""

    def __init__(self, connection: redis.Redis, uploads: UploadStore) -> None:
        self.redis = connection
        self._uploads = uploads
        self._executions: dict[str, Execution] = {}
        self._registered: dict[str, Registration] = {}

    def announce(
        self,
        bundle: str = "default",
        state: WorkerState = "ready",
        members: Sequence[str] = MEMBERS,
        queue: str = "",
        prior: PriorInfo | None = None,
        **said: Any,
    ) -> None:
        """Be a live worker of a bundle, named `manual-BUNDLE`, from a folder of the bundle's name unless a queue is
        given.  said: more that it says of itself."""
        if bundle in self._registered:
            self._registered.pop(bundle).close()
        info = WorkerInfo(
            name=f"manual-{bundle}",
            state=state,
            bundle=bundle,
            version="1",
            queue=queue or f"mien-{bundle}",
            device="cpu",
            precision="fp32",
            detector="yunet",
            started_at=utc_now(),
        )
        self._registered[bundle] = Registration(self.redis, info, lambda: said)
        self._registered[bundle].register(
            ModelInfo(
                name=bundle,
                version="1",
                queue=info.queue,
                labels=LABELS,
                window=9,
                members=tuple(
                    MemberInfo(name=name, backbone="small", head="h", temperature=1, fusion_weight=1 / len(members))
                    for name in members
                ),
                prior=prior,
                metrics=[{"data": "validation", "accuracy": 0.8}],
                provenance={"data": "test"},
                licence="MIT",
                intended_use="tests",
            )
        )

    def close(self) -> None:
        """Be no live worker any more."""
        for registration in self._registered.values():
            registration.close()

    def record(self, job_id: str) -> JobRecord:
        """A job as stored in Redis."""
        return JobRecord.from_hash(cast(dict[bytes, bytes], self.redis.hgetall(keys.job(job_id))))

    def claim(self, job_id: str) -> Execution:
        """Take a job from its queue, as its next execution.  Raises: LostError."""
        self.redis.lrem(keys.rq_queue("mien-default"), 0, job_id)
        execution = self._executions[job_id] = Execution(self.redis, job_id, RESULT_TTL_S)
        model = {"name": "default", "version": "1"}
        execution.claim({"labels": LABELS, "members": MEMBERS, "detector": "yunet", "model": model, "worker": WORKER})
        return execution

    def append(self, job_id: str, frames: Sequence[Frame]) -> None:
        """Write frames, also where they fill no chunk.  Raises: LostError, CanceledError."""
        execution = self._executions[job_id]
        for frame in frames:
            execution.add(frame)
        execution.flush()

    def finish(self, job_id: str, state: State = "succeeded", whole: bytes = b"", **fields: Any) -> None:
        """End the job; an input that is not kept goes first.  Raises: LostError."""
        keep = self.record(job_id).options.keep_input if self.redis.exists(keys.job(job_id)) else False
        self._executions[job_id].seal(state, {"input_deleted": not keep, **fields}, whole)
        if not keep:
            self._uploads.delete(job_id)
        self._executions[job_id].finish()

    def label(self, job_id: str, frames: Sequence[Frame], state: State = "succeeded") -> None:
        """Do a whole job."""
        self.claim(job_id)
        self.append(job_id, frames)
        self.finish(job_id, state)
