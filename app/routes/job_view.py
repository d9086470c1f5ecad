"""The API's view of a job's record."""

from __future__ import annotations

from app.contract.jobs import Job, JobRecord
from app.http.links import LinkMaker
from app.jobs.store import Seen

_SHARED = tuple(name for name in Job.model_fields if name in JobRecord.model_fields)


def job_view(seen: Seen, links: LinkMaker) -> Job:
    """A job as the API returns it.  The record was validated when it was read, so it is not validated again."""
    shown = {name: getattr(seen.record, name) for name in _SHARED}
    return Job.model_construct(**shown, queue_position=seen.position, links=links.of_job(seen.record.id))
