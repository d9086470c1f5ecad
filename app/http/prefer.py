"""The `Prefer` header (RFC 7240): how long a client waits for the end of its job."""

from __future__ import annotations

import re

MAX_WAIT_S = 60
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,6})"?\s*(?=$|[,;])', re.IGNORECASE)


def wait_seconds(header: str | None) -> int:
    """Seconds of `wait=N`, at most `MAX_WAIT_S`; 0 without it."""
    match = _WAIT.search(header or "")
    return min(int(match[1]), MAX_WAIT_S) if match else 0
