"""The whole OpenAPI document: what FastAPI derives from the routes, with problems, keys and examples added."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.http import deprecations
from app.http.errors import Problem
from app.http.openapi_examples import submission_schema

_JOB_ID = "7c9e6679f7424de2944be07fc1f90ae7"
_LABELS = ["Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise"]
_SCORES = {"Neutral": 0.05, "Anger": 0.01, "Disgust": 0.01, "Fear": 0.01, "Happiness": 0.88, "Sadness": 0.02}
_SHARES = {name: {"share": 1.0 if name == "Happiness" else 0.0, "mean_score": 0.14286} for name in _LABELS}
_JOB: dict[str, Any] = {
    "id": _JOB_ID,
    "name": "interview.mp4",
    "metadata": {"subject": "P07"},
    "batch": "pilot",
    "persons": [{"name": "Ana", "tracks": [0, 3], "hidden": False}],
    "state": "running",
    "stage": None,
    "created_at": "2026-11-24T07:49:22.351Z",
    "started_at": "2026-11-24T07:49:23.012Z",
    "finished_at": None,
    "expires_at": "2026-11-25T07:49:22.351Z",
    "options": {
        "sample_fps": None,
        "faces": "detect",
        "max_faces": 10,
        "min_face_px": 16,
        "min_score": None,
        "members": None,
        "prior": None,
        "model": None,
        "fps": 30,
        "start_s": None,
        "end_s": None,
        "callback_url": None,
        "keep_input": False,
        "priority": "batch",
        "people": False,
        "baseline": None,
        "landmarks": False,
        "smooth_s": 0.3,
        "min_segment_s": 0.4,
        "unsure_below": 0.4,
    },
    "model": {"name": "default", "version": "1"},
    "input": {
        "kind": "video",
        "bytes": 208428,
        "sha256": "95ee1a41bfd0f50a2f9d3384eeb11dfe7601db3a173f24825d5146369216f571",
        "width": 640,
        "height": 360,
        "fps": 23.976,
        "duration_s": 19.69,
        "frame_count": 472,
    },
    "progress": {
        "frames_done": 128,
        "frames_total": 472,
        "bytes_fetched": None,
        "bytes_total": None,
        "frames_per_second": 41.3,
        "eta_s": 8.3,
    },
    "labels": _LABELS,
    "label_shares": None,
    "detector": "default",
    "prior": 1.0,
    "error": None,
    "warnings": [],
    "attempts": 1,
    "worker": "gpu-1-17-3f2a9c",
    "queue_position": None,
    "links": {
        "self": f"http://127.0.0.1:8000/v1/jobs/{_JOB_ID}",
        "timeline": f"http://127.0.0.1:8000/v1/jobs/{_JOB_ID}/timeline.svg",
        **{
            name: f"http://127.0.0.1:8000/v1/jobs/{_JOB_ID}/{name}"
            for name in ("frames", "summary", "events", "video", "preview", "thumbnail", "cancel")
        },
    },
}
_PART = {
    "frames": 128,
    "start_s": 0.0,
    "end_s": 5.34,
    "label": "Happiness",
    "labels": _SHARES,
    "segments": [{"start_s": 0.0, "end_s": 5.34, "label": "Happiness", "mean_score": 0.88, "unsure": False}],
    "events": {
        "Happiness": {
            "count": 1,
            "per_minute": 11.236,
            "mean_s": 5.34,
            "longest_s": 5.34,
            "onsets_s": [0.0],
            "peaks": [{"frame_index": 37, "timestamp_s": 1.543, "score": 0.97}],
        }
    },
    "transitions": [],
    "moments": None,
    "trust": None,
}
_WORKER = {
    "name": "host.1",
    "release": "0.2.0",
    "state": "ready",
    "detail": None,
    "bundle": "default",
    "version": "1",
    "queue": "mien-default",
    "device": "cuda:0",
    "precision": "bf16",
    "detector": "default",
    "started_at": "2026-11-24T07:00:00Z",
    "slots": 1,
    "jobs_running": 0,
    "jobs_done": 12,
    "frames_done": 31000,
    "gpu_memory_bytes": 1200000000,
    "gpu_memory_total_bytes": 24000000000,
    "gpu_utilisation": 0.83,
    "rss_bytes": 900000000,
}
_MODEL = {
    "name": "default",
    "version": "1",
    "queue": "mien-default",
    "labels": _LABELS,
    "window": 9,
    "members": [
        {
            "name": name,
            "title": title,
            "short": short,
            "note": note,
            "backbone": "mobilenet_v1",
            "head": head,
            "temperature": 1.1,
            "fusion_weight": 0.5,
        }
        for name, title, short, note, head in (
            ("cnn", "CNN", "CNN", "looks at single frames", "frame"),
            ("cnn_rnn", "CNN-GRU", "GRU", "reads nine frames in order", "gru"),
        )
    ],
    "prior": {"shares": [0.356, 0.087, 0.006, 0.023, 0.282, 0.128, 0.118], "trained": 1.0, "default": 1.0},
    "metrics": [{"data": "ferplus", "accuracy": 0.8}],
    "provenance": {"recipe": "default"},
    "licence": "MIT",
    "intended_use": "appearance of expressions in video",
    "device": "cuda:0",
    "workers": [_WORKER],
}

# Name of a schema -> its example.
EXAMPLES: dict[str, Any] = {
    "Job": _JOB,
    "JobList": {"jobs": [_JOB], "next": None},
    "FramePage": {
        "job_id": _JOB_ID,
        "name": "interview.mp4",
        "metadata": {"subject": "P07"},
        "labels": _LABELS,
        "frames": [
            {
                "frame_index": 37,
                "timestamp_s": 1.543,
                "faces": [
                    {
                        "track_id": 0,
                        "bbox": [212.5, 80.0, 96.25, 121.0],
                        "detection_score": 0.93,
                        "label": "Happiness",
                        "score": 0.88,
                        "scores": {**_SCORES, "Surprise": 0.02},
                    }
                ],
            }
        ],
        "next": f"/v1/jobs/{_JOB_ID}/frames?from=500&limit=500",
        "complete": False,
    },
    "Summary": {
        "job_id": _JOB_ID,
        "name": "interview.mp4",
        "metadata": {"subject": "P07"},
        "state": "running",
        "complete": False,
        "frames": 128,
        "frames_with_faces": 128,
        "frames_without_faces": 0,
        "left_out": {"max_faces": 0, "min_face_px": 12},
        "video": _PART,
        "tracks": [{"track_id": 0, **_PART}],
        "people": None,
        "reactions": [],
    },
    "Batch": {
        "name": "pilot",
        "jobs": 20,
        "states": {"queued": 17, "running": 1, "succeeded": 2, "failed": 0, "canceled": 0},
        "complete": False,
        "links": {
            "self": "http://127.0.0.1:8000/v1/batches/pilot",
            "jobs": "http://127.0.0.1:8000/v1/jobs?batch=pilot",
            "frames": "http://127.0.0.1:8000/v1/batches/pilot/frames",
        },
    },
    "UploadView": {
        "id": _JOB_ID,
        "length": 524288000,
        "offset": 8388608,
        "name": "interview.mp4",
        "expires_at": "2026-11-25T07:49:22.351Z",
    },
    "Rendering": {"job_id": _JOB_ID, "state": "running", "progress": 0.4},
    "Model": _MODEL,
    "ModelList": {"models": [_MODEL]},
    "Live": {"status": "alive"},
    "Ready": {"status": "ready", "redis": True, "uploads": True, "missing": [], "workers": [_WORKER]},
}


def operation_name(route: APIRoute) -> str:
    """The name of an operation in generated clients: `submit_job` -> `submitJob`."""
    first, *rest = route.name.split("_")
    return route.operation_id or first + "".join(word.capitalize() for word in rest)


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an application."""
    made = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas["Submission"] = submission_schema()
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    # The last one: no key, for operators without keys.
    made["security"] = [{"bearer": []}, {"apiKey": []}, {}]
    for path in made["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                _add_example(response)
            _mark(operation)
    return made


def _mark(operation: dict[str, Any]) -> None:
    """Mark what is deprecated."""
    for one in deprecations.DEPRECATED:
        if one.operation == operation["operationId"]:
            places = [p for p in operation.get("parameters", []) if p["name"] == one.parameter]
            for place in places if one.parameter else [operation]:
                place["deprecated"] = True


def _add_example(response: dict[str, Any]) -> None:
    content = response.get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    first = schema.get("anyOf", [schema])[0]
    name = first.get("$ref", "").rpartition("/")[2]
    if name in EXAMPLES:
        content["example"] = EXAMPLES[name]
