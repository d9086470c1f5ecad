"""A job's record as clients see it."""

from __future__ import annotations

from app.contract.jobs import Job, JobRecord
from app.links import LinkMaker


def job_view(record: JobRecord, links: LinkMaker, queue_position: int | None) -> Job:
    """The public JSON of a record."""
    shown = {name: getattr(record, name) for name in Job.model_fields if name in JobRecord.model_fields}
    return Job(**shown, queue_position=queue_position, links=links.of_job(record.id))
