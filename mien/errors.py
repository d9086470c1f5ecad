"""Errors of the client.

    MienError
    ├── ApiError         the service refused a request
    └── JobFailedError   a job did not succeed

A request without an answer raises `httpx.TransportError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from mien.types import Job


class MienError(Exception):
    """Base class of the errors above."""


class ApiError(MienError):
    """The service refused a request.  code: stable, see the API's table; field: the invalid option, or None."""

    def __init__(self, response: httpx.Response) -> None:
        try:
            problem = response.json()
        except ValueError:  # the answer of a proxy
            problem = {}
        self.status = response.status_code
        self.code: str = problem.get("code", "")
        self.detail: str = problem.get("detail") or f"status {self.status}"
        self.field: str | None = problem.get("field")
        self.request_id: str = problem.get("request_id", "")
        super().__init__(self.detail)


class JobFailedError(MienError):
    """A job failed or was cancelled.  job: its final state."""

    def __init__(self, job: Job) -> None:
        error = job["error"]
        super().__init__(error["detail"] if error else f"the job was {job['state']}")
        self.job = job
