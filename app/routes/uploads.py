"""Resumable uploads by the tus protocol 1.0, with its extensions creation, expiration, checksum and termination."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from email.utils import format_datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from app.contract.naming import name_of_file
from app.http.errors import BadRequest, UnsupportedMedia, UnsupportedVersion
from app.http.openapi_examples import problems
from app.middleware.tus import VERSION
from app.routes.dependencies import LinksDep, OwnerDep, ServicesDep
from app.submission import resumable
from app.submission.pace import paced
from app.submission.resumable import Digest, Upload

CHUNK = "application/offset+octet-stream"
EXTENSIONS = "creation,expiration,checksum,termination"
_TUS = {"Cache-Control": "no-store"}

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])


class UploadView(BaseModel):
    """A resumable upload; clients of the protocol use its headers."""

    id: str = Field(description="for `upload` of a job, whose id it becomes")
    length: int = Field(description="bytes that it will have")
    offset: int = Field(description="bytes that are there")
    name: str = Field(description="the file's name, or an empty text")
    expires_at: datetime


async def _speaks_tus(
    tus_resumable: Annotated[str | None, Header(alias="Tus-Resumable", description=f"`{VERSION}`")] = None,
) -> None:
    if tus_resumable != VERSION:
        raise UnsupportedVersion(f"Send Tus-Resumable: {VERSION}.", headers={"Tus-Version": VERSION})


Tus = Depends(_speaks_tus)
Number = r"^[0-9]{1,15}$"


async def _upload(
    upload_id: Annotated[str, Path(description="The upload's id.")], services: ServicesDep, owner: OwnerDep
) -> Upload:
    return await resumable.find(services, owner, upload_id)


UploadDep = Annotated[Upload, Depends(_upload)]


@router.options(
    "",
    operation_id="getUploadOptions",
    summary="What resumable uploads can do",
    status_code=204,
    response_class=Response,
)
async def options(services: ServicesDep) -> Response:
    """Public."""
    headers = {
        **_TUS,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(services.settings.max_upload_bytes),
        "Tus-Checksum-Algorithm": ",".join(resumable.CHECKSUMS),
    }
    return Response(status_code=204, headers=headers)


@router.post(
    "",
    status_code=201,
    summary="Begin a resumable upload",
    response_class=Response,
    responses=problems(400, 401, 412, 413, 422, 429, 503, 507),
    dependencies=[Tus],
)
async def create_upload(
    services: ServicesDep,
    owner: OwnerDep,
    links: LinksDep,
    length: Annotated[str, Header(alias="Upload-Length", pattern=Number, description="Bytes of the file.")],
    metadata: Annotated[
        str | None,
        Header(
            alias="Upload-Metadata", max_length=8000, description="`filename` and its base64; others are passed over."
        ),
    ] = None,
) -> Response:
    """Send the bytes to `Location`, with `PATCH`."""
    upload = await resumable.create(services, owner, int(length), _file_name(metadata or ""))
    return Response(status_code=201, headers={**_headers(upload), "Location": links.path(f"/v1/uploads/{upload.id}")})


@router.get(
    "/{upload_id}",
    summary="A resumable upload",
    response_model=UploadView,
    responses=problems(401, 404, 422, 429, 503),
)
async def get_upload(upload: UploadDep) -> Response:
    """Offset and length; `HEAD` returns them in headers, `Upload-Offset` and `Upload-Length`."""
    view = UploadView(**{name: getattr(upload, name) for name in UploadView.model_fields})
    return Response(view.model_dump_json(), headers=_headers(upload), media_type="application/json")


@router.patch(
    "/{upload_id}",
    status_code=204,
    summary="Send bytes of a resumable upload",
    response_class=Response,
    responses=problems(400, 401, 404, 408, 409, 412, 413, 415, 422, 429, 460, 503, 507),
    openapi_extra={
        "requestBody": {"required": True, "content": {CHUNK: {"schema": {"type": "string", "format": "binary"}}}}
    },
    dependencies=[Tus],
)
async def append_upload(
    request: Request,
    upload: UploadDep,
    services: ServicesDep,
    offset: Annotated[
        str, Header(alias="Upload-Offset", pattern=Number, description="Where the bytes begin: how many are there.")
    ],
    checksum: Annotated[
        str | None,
        Header(alias="Upload-Checksum", description="Algorithm, a space, and the digest of the body in base64."),
    ] = None,
) -> Response:
    """If the connection breaks, the received bytes are kept, unless there is a checksum."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CHUNK:
        raise UnsupportedMedia(f"Send the bytes as {CHUNK}.")
    settings = services.settings
    body = paced(aiter(request.stream()), settings.min_upload_rate, settings.upload_window_s)
    try:
        reached = await resumable.append(services, upload, int(offset), body, _digest(checksum))
    except ClientDisconnect:
        raise BadRequest("The body ends early.") from None
    return Response(status_code=204, headers={**_headers(upload), "Upload-Offset": str(reached)})


@router.delete(
    "/{upload_id}",
    status_code=204,
    summary="Remove a resumable upload",
    response_class=Response,
    responses=problems(401, 404, 412, 422, 429, 503),
    dependencies=[Tus],
)
async def delete_upload(upload: UploadDep, services: ServicesDep, owner: OwnerDep) -> Response:
    """Removes the upload with its bytes."""
    async with resumable.alone(services, upload.id):
        await resumable.find(services, owner, upload.id)  # it has not become a job meanwhile
        await resumable.remove(services, owner, upload.id)
    return Response(status_code=204, headers=_TUS)


def _headers(upload: Upload) -> dict[str, str]:
    return {
        **_TUS,
        "Upload-Offset": str(upload.offset),
        "Upload-Length": str(upload.length),
        "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
    }


def _file_name(metadata: str) -> str:
    """The name in `Upload-Metadata`: pairs of a key and a value in base64.  Raises: BadRequest."""
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "filename":
            try:
                return name_of_file(base64.b64decode(value, validate=True).decode())
            except (binascii.Error, UnicodeDecodeError):
                raise BadRequest("Upload-Metadata: the filename is not text in base64.") from None
    return ""


def _digest(checksum: str | None) -> Digest:
    """Raises: BadRequest."""
    if checksum is None:
        return Digest()
    algorithm, _, value = checksum.partition(" ")
    if algorithm not in resumable.CHECKSUMS:
        raise BadRequest(f"Upload-Checksum: send one of {', '.join(resumable.CHECKSUMS)}.")
    try:
        return Digest(algorithm, base64.b64decode(value, validate=True))
    except binascii.Error:
        raise BadRequest("Upload-Checksum: the digest is not base64.") from None
