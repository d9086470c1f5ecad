"""What of version 1 is to go, in one table: answers carry `Deprecation` and `Sunset`, the document says `deprecated`.

How long in advance that is said: docs/versioning.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

PAGE = "/docs"  # where an answer's `Link` leads


@dataclass(frozen=True)
class Deprecated:
    """An operation, or one of its parameters, that is to go.

    operation: its `operationId`.  parameter: of its query, "" for all of it.  since, until: when it was announced, and
    when it may be gone, with their zones.
    """

    operation: str
    since: datetime
    until: datetime
    parameter: str = ""

    def headers(self) -> dict[str, str]:
        """RFC 9745 and RFC 8594."""
        return {
            "Deprecation": f"@{round(self.since.timestamp())}",
            "Sunset": format_datetime(self.until, usegmt=True),
            "Link": f'<{PAGE}>; rel="deprecation"',
        }


DEPRECATED: list[Deprecated] = []


def of_request(operation: str, parameters: frozenset[str]) -> Deprecated | None:
    """What of a request is to go first.  parameters: names in its query."""
    used = [
        one for one in DEPRECATED if one.operation == operation and (not one.parameter or one.parameter in parameters)
    ]
    return min(used, key=lambda one: one.until, default=None)
