"""Public URLs of the API, also behind a proxy."""

from __future__ import annotations

from fastapi import Request

from app.contract.jobs import Links
from app.settings import Settings


class LinkMaker:
    """Makes the links of one response: `path` for `Location` and `next`, `url` for `links`."""

    def __init__(self, settings: Settings, request: Request) -> None:
        self._base = settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")
        self._prefix = settings.prefix or request.scope.get("root_path", "").rstrip("/")

    def path(self, path: str) -> str:
        """A path of this API, from the host's root."""
        return self._prefix + path

    def url(self, path: str) -> str:
        """A path of this API as an absolute URL."""
        return self._base + path

    def of_job(self, job_id: str) -> Links:
        """The links of a job."""
        job = self.url(job_path(job_id))
        return Links(
            self=job,
            frames=f"{job}/frames",
            summary=f"{job}/summary",
            events=f"{job}/events",
            timeline=f"{job}/timeline.svg",
            video=f"{job}/video",
            preview=f"{job}/preview",
            thumbnail=f"{job}/thumbnail",
            cancel=f"{job}/cancel",
        )


def job_path(job_id: str) -> str:
    """Path of a job."""
    return f"/v1/jobs/{job_id}"
