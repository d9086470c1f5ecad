"""The client's tests have the front end's: a real server in a thread, and a worker that writes what a test says."""

from __future__ import annotations

from tests.app.conftest import api, make_api, make_frames, uploads, worker

__all__ = ["api", "make_api", "make_frames", "uploads", "worker"]
