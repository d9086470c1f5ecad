"""A TypeScript client that @hey-api/openapi-ts generates from the service's own document; `make test-long` runs it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.app.conftest import MP4

if TYPE_CHECKING:
    from tests.app.conftest import MakeFrames
    from tests.manual_worker import ManualWorker

SOURCE = Path(__file__).parent / "typescript"
INSTALL_S = 240


@pytest.mark.long
@pytest.mark.skipif(shutil.which("npm") is None, reason="Node.js with npm is not installed")
def test_a_generated_typescript_client_submits_follows_and_reads(
    api: httpx.Client, worker: ManualWorker, make_frames: MakeFrames, tmp_path: Path
) -> None:
    """It compiles strictly; a form with a list and an option in query and form is taken, and its frames are read."""
    folder = tmp_path / "typescript"
    shutil.copytree(SOURCE, folder)
    (folder / "openapi.json").write_bytes(api.get("/openapi.json").content)

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run("npm", "ci", "--no-fund", "--no-audit")
    run("npx", "openapi-ts", "-i", "openapi.json", "-o", "client", "-c", "@hey-api/client-fetch")
    run("npx", "tsc")
    command = ["node", "built/try.js", str(api.base_url).rstrip("/"), base64.b64encode(MP4).decode()]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        job_id = client.stdout.readline().strip()
        assert job_id
        worker.label(job_id, make_frames(70))
        read = json.loads(client.stdout.read())
    assert client.returncode == 0
    assert read["state"] == "succeeded"
    assert (read["options"]["max_faces"], read["options"]["members"]) == (3, ["cnn", "cnn_rnn"])
    assert read["timeline"].endswith(f"/v1/jobs/{job_id}/timeline.svg")
    assert read["indices"] == list(range(50))
    assert read["listed"] == [job_id]
