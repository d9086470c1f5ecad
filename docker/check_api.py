"""Health check of the app container: exit status 0 while the API responds.

Liveness only: an API without workers still accepts jobs, and a restart would not bring workers back.
"""

from __future__ import annotations

import os
import urllib.request

PORT = os.environ.get("MIEN_PORT", "8000")
urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health/live", timeout=4).close()
