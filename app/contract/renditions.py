"""What is made of a kept input when somebody asks for it; it lies beside the input in the upload store."""

from __future__ import annotations

from dataclasses import dataclass

from app.contract.keys import PREFIX

RQ_PREFIX = "render-"  # of RQ's id of a job that makes one


@dataclass(frozen=True)
class Rendition:
    """One kind of it.  name: of its file and in keys; function: what a job in RQ asks for."""

    name: str
    function: str
    content_type: str

    def key(self, job_id: str) -> str:
        """Hash: `state` (queued | running | done | failed), `detail`, and `share`, 0..1, of what is made."""
        return f"{PREFIX}render:{job_id}" + ("" if self is VIDEO else f":{self.name}")

    def rq_id(self, job_id: str) -> str:
        """RQ's id of the job that makes it."""
        return RQ_PREFIX + ("" if self is VIDEO else f"{self.name}-") + job_id


VIDEO = Rendition("video", "mien.render", "video/mp4")  # with boxes and labels; its names are older than the others
PREVIEW = Rendition("preview", "mien.preview", "video/mp4")  # what every browser plays, at most 720 lines high
THUMBNAIL = Rendition("thumbnail", "mien.thumbnail", "image/jpeg")  # of the best face
RENDITIONS = (VIDEO, PREVIEW, THUMBNAIL)


def key_of_rq_id(rq_id: str) -> str | None:
    """The key of what a job of RQ makes; None where it is none of these."""
    job_id = rq_id[-32:]
    return next((kind.key(job_id) for kind in RENDITIONS if kind.rq_id(job_id) == rq_id), None)
