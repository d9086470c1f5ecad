"""API keys: authentication, and ownership of jobs."""

from __future__ import annotations

import hashlib
import hmac

from fastapi import Request

from app.http.errors import Unauthorized
from app.http.keyring import Keyring
from app.settings import Settings

NOBODY = ""  # owner of jobs without API keys


def owner_of(request: Request, settings: Settings, keyring: Keyring | None) -> str:
    """The owner of a request's key: its name in the key file, or a hash of the key, so that keys are not stored.

    Raises: Unauthorized if keys are required and the request has no known one.
    """
    if not settings.keys_needed:
        return NOBODY
    given = _given(request).encode()
    name = keyring.name_of(given) if keyring else None
    if name is not None:
        return named_owner(name)
    # All keys are compared in constant time, so that timing reveals neither the key nor a common prefix.
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
    """The owner for a key's name, so that jobs keep their owner when the key is rotated."""
    return f"@{name}"
