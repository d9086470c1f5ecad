"""A client of the API, as anybody's would be."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from worker.demo import DemoError

WAIT_S = 2  # one long poll
TIMEOUT_S = 120
ENDED = {"succeeded", "failed", "canceled"}


class Client:
    """Talks to one API.  Use as a context manager."""

    def __init__(self, url: str) -> None:
        keys = [key.strip() for key in os.environ.get("MIEN_API_KEYS", "").split(",") if key.strip()]
        headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, video: Path) -> dict[str, Any]:
        """POST the video; answers the Job."""
        with video.open("rb") as file:
            return self._json(self._http.post("/v1/jobs", files={"file": (video.name, file)}))

    def follow(self, job: dict[str, Any], show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Poll until the job has ended, showing every version of it; answers the last one."""
        while job["state"] not in ENDED:
            started = time.monotonic()
            job = self._json(self._http.get(f"/v1/jobs/{job['id']}", params={"wait": WAIT_S}))
            show(job)
            time.sleep(max(0.0, 0.1 - (time.monotonic() - started)))
        return job

    def frames(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """All frame records, page by page."""
        page: str | None = f"/v1/jobs/{job['id']}/frames"
        while page is not None:
            body = self._json(self._http.get(page))
            yield from body["frames"]
            page = body["next"]

    def save_csv(self, job: dict[str, Any], path: Path) -> None:
        """Write the API's CSV of the job to `path`."""
        request = self._http.stream("GET", f"/v1/jobs/{job['id']}/frames", params={"format": "csv"})
        with request as answer, path.open("wb") as file:
            if answer.is_error:
                answer.read()
                self._json(answer)
            for piece in answer.iter_bytes():
                file.write(piece)

    @staticmethod
    def _json(answer: httpx.Response) -> dict[str, Any]:
        body: dict[str, Any] = answer.json()
        if answer.is_error:
            raise DemoError(f"the API answered {answer.status_code} {body.get('code')}: {body.get('detail')}")
        return body
