"""The payload of a webhook."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Delivery:
    """A pending webhook.  attempts: made so far.  name, metadata: the job's, the latter as JSON."""

    job_id: str
    url: str
    state: str
    finished_at: str
    request_id: str
    attempts: int
    name: str = ""
    metadata: str = "{}"

    def body(self) -> bytes:
        """The JSON body.  It is minimal: the receiver requests the job with its own key."""
        return json.dumps(
            {
                "type": f"job.{self.state}",
                "timestamp": self.finished_at,
                "data": {
                    "id": self.job_id,
                    "state": self.state,
                    "name": self.name or None,
                    "metadata": json.loads(self.metadata),
                },
            },
            separators=(",", ":"),
            ensure_ascii=False,
        ).encode()
