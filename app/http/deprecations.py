"""The table of deprecations in version 1.  Responses carry `Deprecation` and `Sunset`, the document `deprecated`.

Notice periods: docs/versioning.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

PAGE = "/docs"  # target of a response's `Link`


@dataclass(frozen=True)
class Deprecated:
    """A deprecated operation, or one of its parameters.

    operation: its `operationId`.  parameter: of its query, "" for the whole operation.  since, until: times of the
    announcement and of the earliest removal, with time zones.
    """

    operation: str
    since: datetime
    until: datetime
    parameter: str = ""

    def headers(self) -> dict[str, str]:
        """The headers of RFC 9745 and RFC 8594."""
        return {
            "Deprecation": f"@{round(self.since.timestamp())}",
            "Sunset": format_datetime(self.until, usegmt=True),
            "Link": f'<{PAGE}>; rel="deprecation"',
        }


DEPRECATED: list[Deprecated] = []


def of_request(operation: str, parameters: frozenset[str]) -> Deprecated | None:
    """The deprecation of a request that ends first.  parameters: names in its query."""
    used = [
        one for one in DEPRECATED if one.operation == operation and (not one.parameter or one.parameter in parameters)
    ]
    return min(used, key=lambda one: one.until, default=None)
