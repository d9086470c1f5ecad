"""API keys: who calls, and whose jobs are whose."""

from __future__ import annotations

import hashlib
import hmac

from fastapi import Request

from app.http.errors import Unauthorized
from app.http.keyring import Keyring
from app.settings import Settings

NOBODY = ""  # owner of jobs where keys are off


def owner_of(request: Request, settings: Settings, keyring: Keyring | None) -> str:
    """The owner that a request's key stands for: its name in the file, or a hash of the key, so that keys lie nowhere.

    Raises: Unauthorized if keys are on and the request has none that is known.
    """
    if not settings.keys_needed:
        return NOBODY
    given = _given(request).encode()
    name = keyring.name_of(given) if keyring else None
    if name is not None:
        return named_owner(name)
    # Every key is compared, each in constant time: neither which key it is nor how much of it fits can be timed.
    matches = [hmac.compare_digest(given, key.get_secret_value().encode()) for key in settings.api_keys]
    if not any(matches):
        raise Unauthorized()
    return hashlib.sha256(given).hexdigest()


def _given(request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return request.headers.get("x-api-key", "")


def named_owner(name: str) -> str:
    """The owner that a key's name stands for: jobs stay where they are when the key is rotated."""
    return f"@{name}"
