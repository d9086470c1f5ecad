"""Frame records in the format of Hume's batch prediction API (closed in 2026), so that its clients can migrate.

Faces are grouped by track (`face_0`, ...).  Limits: the emotions are this service's labels, seven instead of Hume's
48; there are no FACS units and no descriptions; `prob` is the detection score, 1 for given crops; a page
holds at most `limit` frames, and the `Link` header names the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from app.contract.frames import Face, Frame
from app.contract.jobs import JobRecord


class HumeSource(BaseModel):
    """One file of Hume's answer; `results` holds `predictions` and `errors`."""

    source: dict[str, Any]
    results: dict[str, Any]


def predictions(record: JobRecord, frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Frames of a job in the format of Hume's `GET /v0/batch/jobs/{id}/predictions`."""
    labels = record.labels or ()
    groups: dict[int, list[dict[str, Any]]] = {}
    for frame in frames:
        for face in frame.faces:
            groups.setdefault(face.track_id, []).append(_prediction(frame, face, labels))
    grouped = [{"id": f"face_{track}", "predictions": rows} for track, rows in sorted(groups.items())]
    file = {
        "file": record.id,
        "file_type": "video" if record.input.kind == "video" else "image",
        "models": {"face": {"metadata": None, "grouped_predictions": grouped}},
    }
    source = {"type": "file", "filename": record.name or record.id, "content_type": None, "md5sum": None}
    errors = [{"message": record.error.detail, "file": record.id}] if record.error else []
    return [{"source": source, "results": {"predictions": [file], "errors": errors}}]


def _prediction(frame: Frame, face: Face, labels: Sequence[str]) -> dict[str, Any]:
    x, y, width, height = face.bbox
    return {
        "frame": frame.frame_index,
        "time": frame.timestamp_s,
        "prob": 1.0 if face.detection_score is None else face.detection_score,
        "box": {"x": x, "y": y, "w": width, "h": height},
        "emotions": [{"name": name, "score": score} for name, score in zip(labels, face.scores, strict=True)],
        "facs": None,
        "descriptions": None,
    }
