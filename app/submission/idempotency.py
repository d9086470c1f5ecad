"""`Idempotency-Key`: requests with the same key and body create one job, also concurrently.

The fingerprint of a submission is known only after its body, so both bodies are received; then one submission claims
the key and creates the job, and the other waits for it and returns the same job.  The claim of a dead process expires.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from typing import cast

import redis.asyncio

from app.contract import keys
from app.contract.jobs import InputInfo
from app.contract.options import JobOptions
from app.contract.scripts.requests import CLAIM_KEY
from app.http.errors import Conflict, IdempotencyMismatch, InvalidOption

HEADER = "Idempotency-Key"
CLAIM_S = 30  # lease of the creation of a job
POLL_S = 0.05
SENSIBLE = r"^[\x21-\x7e]{1,255}$"


def redis_key(header: str | None, owner: str) -> str:
    """The Redis key of a header, "" without one.  Raises: InvalidOption if it is malformed."""
    if header is None:
        return ""
    if not re.fullmatch(SENSIBLE, header):
        raise InvalidOption(f"{HEADER}: 1 to 255 visible ASCII characters", field=HEADER)
    return keys.idempotency(owner, hashlib.sha256(header.encode()).hexdigest())


def fingerprint(options: JobOptions, received: InputInfo, url: str = "") -> str:
    """A digest of content and options, independent of how they were sent.  url: where the content is fetched."""
    asked = json.dumps(options.stored(), separators=(",", ":"), ensure_ascii=False)
    text = f"{received.kind} {received.sha256} {received.bytes} {asked}{url}"
    return hashlib.sha256(text.encode()).hexdigest()


async def claim(connection: redis.asyncio.Redis, key: str, print_: str, job_id: str) -> str | None:
    """None if this submission must create the job; the job's id if another created it.

    Raises: IdempotencyMismatch if the key was used with another body; Conflict if the other submission takes too long.
    """
    script = connection.register_script(CLAIM_KEY)
    deadline = time.monotonic() + CLAIM_S
    while time.monotonic() < deadline:
        answer = await script(keys=[key], args=[print_, job_id, CLAIM_S])
        if answer == b"claimed":
            return None
        former, made = (part.decode() for part in cast(list[bytes], answer))
        if former != print_:
            raise IdempotencyMismatch(f"This {HEADER} was used with another body or other options.")
        if await connection.exists(keys.job(made)):
            return made
        await asyncio.sleep(POLL_S)
    raise Conflict(f"Another request with this {HEADER} is still being received.")


async def release(connection: redis.asyncio.Redis, key: str, job_id: str) -> None:
    """Release the claim after a failure, so that another submission can create the job."""
    if await connection.hget(key, "job") == job_id.encode():
        await connection.delete(key)
