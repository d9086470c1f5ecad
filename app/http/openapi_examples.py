"""Additions to the OpenAPI document that routes' types do not express: problems, examples, bodies of a submission."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from app.contract import media
from app.contract.exports import MEDIA_TYPES
from app.contract.jobs import Job
from app.contract.naming import Naming
from app.contract.options import JobOptions
from app.contract.renditions import Rendition
from app.contract.sources import Source
from app.http import errors

_KINDS = (
    errors.BadRequest,
    errors.Unauthorized,
    errors.NotFound,
    errors.UploadTooSlow,
    errors.Conflict,
    errors.Gone,
    errors.UnsupportedVersion,
    errors.UploadTooLarge,
    errors.UnsupportedMedia,
    errors.InvalidOption,
    errors.IdempotencyMismatch,
    errors.RateLimited,
    errors.QueueFull,
    errors.QuotaExceeded,
    errors.TooManyUploads,
    errors.ChecksumMismatch,
    errors.Unavailable,
    errors.ResultsFull,
    errors.StorageFull,
    errors.NotAcceptable,
)

_FILE_TYPES = [name for kind in media.KINDS for name in kind.content_types]
_IMAGE_TYPES = [name for kind in media.KINDS if kind.is_image for name in kind.content_types]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems; each has an example."""
    return {status: _problem_response(status) for status in statuses}


def _problem_response(status: int) -> dict[str, Any]:
    kinds = [kind for kind in _KINDS if kind.status == status]
    examples = {
        kind.code: {
            "value": {
                "type": "about:blank",
                "title": kind.title,
                "status": status,
                "detail": (kind.__doc__ or "").split("\n")[0],
                "code": kind.code,
                "request_id": "4f7c5b0e2a9d4c7d8e1f",
            }
        }
        for kind in kinds
    }
    return {
        "description": "; ".join(kind.title for kind in kinds),
        "content": {
            errors.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples},
        },
    }


def not_modified() -> dict[int | str, dict[str, Any]]:
    """The `responses` entry of a route that answers 304."""
    return {304: {"description": "The version that If-None-Match names is the newest."}}


def submitted() -> dict[int | str, dict[str, Any]]:
    """The `responses` entry of a submission whose client waits for the end."""
    return {200: {"model": Job, "description": "The job ended within the time that `Prefer: wait=N` gives."}}


def frame_formats() -> dict[int | str, dict[str, Any]]:
    """The `responses` entry of frames: a page of JSON, or streamed text."""
    types = dict.fromkeys(kind.partition(";")[0] for name, kind in MEDIA_TYPES.items() if name != "json")
    text: dict[str, Any] = {name: {"schema": {"type": "string"}} for name in types}
    text[MEDIA_TYPES["parquet"]]["schema"]["format"] = "binary"
    return {200: {"content": text, "description": "A page, or all frames as a file."}}


def event_stream() -> dict[int | str, dict[str, Any]]:
    """The `responses` entry of an event stream."""
    example = 'id: 64\nevent: frames\ndata: {"job_id":"7c9e6679f7424de2944be07fc1f90ae7","from":0,"frames":[]}\n\n'
    event = {
        "type": "object",
        "properties": {
            "event": {"enum": ["progress", "frames", "succeeded", "failed", "canceled"]},
            "id": {"type": "string", "description": "position after the last frame; for Last-Event-ID"},
            "data": {"type": "string", "description": "JSON: the job, or frames"},
            "retry": {"type": "integer"},
        },
    }
    # `itemSchema` is of OpenAPI 3.2.  With the event as `schema`, generated clients parse the stream as one event.
    content = {"text/event-stream": {"schema": {}, "itemSchema": event, "example": example}}
    return {200: {"content": content, "description": "Events, until the job has ended."}}


def rendition(kind: Rendition, waiting: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The `responses` entries of renditions: whole, a range, or not ready yet."""
    content = {kind.content_type: {"schema": {"type": "string", "format": "binary"}}}
    parts: dict[int | str, dict[str, Any]] = {
        206: {"content": content, "description": "The part that `Range` names."},
        416: {"description": "The video is shorter than that."},
    }
    return {
        200: {"content": content, "description": f"The {kind.name}."},
        202: {"model": waiting, "description": "It is being made; ask again after `Retry-After` seconds."},
        **(parts if kind.content_type.startswith("video/") else {}),
    }


def batch_formats() -> dict[int | str, dict[str, Any]]:
    """The `responses` entry of a batch's frames."""
    text: dict[str, Any] = {name: {"schema": {"type": "string"}} for name in ("text/csv", "application/x-ndjson")}
    text[MEDIA_TYPES["parquet"]] = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"content": text, "description": "All frames as a file."}}


def metadata_filter() -> dict[str, Any]:
    """The list parameter `metadata.KEY`."""
    return {
        "name": "metadata.KEY",
        "in": "query",
        "required": False,
        "description": "Only jobs whose metadata has exactly this value at KEY; any number of them.",
        "schema": {"type": "string"},
    }


def submission_docs() -> dict[str, Any]:
    """Parameters and bodies of `POST /v1/jobs`, which the route parses itself from the stream."""
    options = _options()
    options["metadata"] = {"type": "string", "description": options["metadata"]["description"]}
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "properties": {
            "file": {**binary, "description": "a video, an animated GIF, one image, or a zip or tar of images"},
            "frames": {
                "type": "array",
                "items": binary,
                "maxItems": 10_000,
                "description": f"{media.FRAMES} images, in order, instead of `file`",
            },
            **options,
        },
        "additionalProperties": False,
    }
    form_content = {
        "schema": form,
        "encoding": {
            "file": {"contentType": ", ".join(_FILE_TYPES)},
            "frames": {"contentType": ", ".join(_IMAGE_TYPES)},
            # In forms and queries, lists are comma-separated.
            "members": {"style": "form", "explode": False},
        },
        "example": {"file": "(the video)", "sample_fps": 5, "keep_input": True},
    }
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "style": "form",
                "explode": False,
                "description": option.get("description", ""),
                "schema": {key: value for key, value in option.items() if key != "description"},
            }
            for name, option in options.items()
        ],
        "requestBody": {
            "required": True,
            "description": "A form, or the file itself with the options in the query. If `upload` or `url` names the "
            "content, the options may also be a JSON object (`application/json`): the schema `Submission`.",
            "content": {
                "multipart/form-data": form_content,
                # JSON is not listed: generators such as @hey-api/openapi-ts then offer no other body.
                **{name: {"schema": binary} for name in (*_FILE_TYPES, "application/octet-stream")},
            },
        },
    }


def submission_schema() -> dict[str, Any]:
    """The schema of `POST /v1/jobs` as JSON, which no operation refers to: see `submission_docs`."""
    return {
        "title": "Submission",
        "description": "The body of `POST /v1/jobs` as `application/json`: all options, and `upload` or `url`.",
        "type": "object",
        "properties": _options(),
        "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in Source.model_fields],
    }


def _options() -> dict[str, dict[str, Any]]:
    """The schemas of all fields of a submission except its files."""
    return {
        name: _plain(option)
        for kind in (JobOptions, Naming, Source)
        for name, option in kind.model_json_schema()["properties"].items()
    }


def _plain(option: dict[str, Any]) -> dict[str, Any]:
    """An option's schema for text: absent instead of null.

    The default is in the description only: generated clients would send it in both query and form.
    """
    kinds = [kind for kind in option.get("anyOf", []) if kind != {"type": "null"}]
    kind = {"anyOf": kinds} if len(kinds) > 1 else kinds[0] if kinds else {}
    plain = {key: value for key, value in option.items() if key not in {"anyOf", "title"}} | kind
    default = plain.pop("default", None)
    if default is not None:
        shown = default if isinstance(default, str) else json.dumps(default)
        plain["description"] = f"{plain['description']} Default: {shown}."
    return plain
