"""API keys of a file: named, hashed, and changed without a restart.

A line is `NAME SHA256`: the caller's name and the SHA-256 of the key in hex.  Two lines may have the same name, so that
a key can be rotated; jobs belong to the name.  Empty lines and comments after `#` are ignored.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time

import structlog

LOOK_S = 1.0  # minimum interval between checks of the file
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+([0-9a-f]{64})")

log = structlog.get_logger(__name__)


class KeyFileError(ValueError):
    """The file is invalid; the message names the line without quoting it."""


def read_keys(path: str) -> list[tuple[str, bytes]]:
    """Names and digests.  Raises: KeyFileError, also if the file has none."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} cannot be read: {type(error).__name__}") from None
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise KeyFileError(f"{path}, line {number}: not `NAME SHA256` (python -m app.admin key NAME makes one)")
        found.append((match[1], match[2].encode()))
    if not found:
        raise KeyFileError(f"{path} has no key")
    return found


class Keyring:
    """The current keys of a file; if the file becomes invalid, the former keys stay in use."""

    def __init__(self, path: str) -> None:
        """Raises: KeyFileError."""
        self._path = path
        self._seen = self._stamp()
        self._keys = read_keys(path)
        self._looked = time.monotonic()

    def name_of(self, key: bytes) -> str | None:
        """The name of the key's owner; all keys are compared, each in constant time."""
        self._look()
        digest = hashlib.sha256(key).hexdigest().encode()
        return next((name for name, known in self._keys if hmac.compare_digest(digest, known)), None)

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._keys = read_keys(self._path)
        except KeyFileError as error:
            log.error("keys_not_reloaded", why=str(error))
        else:
            log.info("keys_reloaded", keys=len(self._keys))

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = os.stat(self._path)
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
