"""Renditions of a kept input, made on request and stored beside the input in the upload store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.contract.keys import PREFIX

RQ_PREFIX = "render-"  # prefix of the RQ id of a rendition's job


@dataclass(frozen=True)
class Rendition:
    """A kind of rendition.  name: of its file and in keys; function: of its job in RQ; path: below the job's."""

    name: str
    function: str
    content_type: str
    path: str

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return self.path.partition("?")[0]

    def key(self, job_id: str) -> str:
        """Hash: `state` (queued | running | done | failed), `detail`, and `share`, the progress from 0 to 1."""
        return f"{PREFIX}render:{job_id}" + ("" if self is VIDEO else f":{self.name}")

    def rq_id(self, job_id: str) -> str:
        """RQ's id of the job that makes the rendition."""
        return RQ_PREFIX + ("" if self is VIDEO else f"{self.name}-") + job_id


Style = Literal["boxes", "blur", "pixelate"]  # what a video has in place of plain faces

# Its keys are older than the others.
VIDEO = Rendition("video", "mien.render", "video/mp4", "video")
VIDEOS: dict[Style, Rendition] = {
    "boxes": VIDEO,
    "blur": Rendition("video-blur", "mien.blur", "video/mp4", "video?style=blur"),
    "pixelate": Rendition("video-pixelate", "mien.pixelate", "video/mp4", "video?style=pixelate"),
}
# Playable in every browser, at most 720 lines high.
PREVIEW = Rendition("preview", "mien.preview", "video/mp4", "preview")
THUMBNAIL = Rendition("thumbnail", "mien.thumbnail", "image/jpeg", "thumbnail")  # of the best face
RENDITIONS = (*VIDEOS.values(), PREVIEW, THUMBNAIL)


def key_of_rq_id(rq_id: str) -> str | None:
    """The key of the rendition that an RQ job makes; None for other jobs."""
    job_id = rq_id[-32:]
    return next((kind.key(job_id) for kind in RENDITIONS if kind.rq_id(job_id) == rq_id), None)
