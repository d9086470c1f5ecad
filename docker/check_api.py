"""Health check of the app container: exit status 0 while the API answers.

Liveness only: an API without a worker still takes jobs, and to restart it would bring no worker back.
"""

from __future__ import annotations

import os
import urllib.request

PORT = os.environ.get("MIEN_PORT", "8000")
urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health/live", timeout=4).close()
