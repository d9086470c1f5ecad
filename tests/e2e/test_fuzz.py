"""The service answers whatever its own OpenAPI document allows, and whatever it does not, as the document says.

`make fuzz-api` does this for five minutes; `FUZZ_SECONDS` and `FUZZ_SEED` choose otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.service import Api, Clips

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("FUZZ_SECONDS", "15"))
SEED = os.environ.get("FUZZ_SEED", "1")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 260)
def test_schemathesis_finds_nothing(api: Api, clips: Clips, tmp_path: Path) -> None:
    """All checks hold for every operation while a worker runs, and the worker continues afterwards."""
    clip = clips.video(clips.pictures(6, (160, 120)))
    (tmp_path / "clip.mp4").write_bytes(clip)
    (tmp_path / "picture.png").write_bytes(clips.png(0, (64, 48)))
    command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(HERE / "schemathesis.toml")]
    command += ["run", f"{api.service.url}/openapi.json", "--checks", "all", "--seed", SEED]
    command += ["--max-time", str(SECONDS), "--max-examples", str(max(10, SECONDS * 3))]
    command += ["--request-timeout", "70", "--max-response-time", "65", "--suppress-health-check", "all"]
    environment = os.environ | {
        "FUZZ_MEDIA": str(tmp_path),
        "SCHEMATHESIS_HOOKS": "fuzz_media",
        "PYTHONPATH": str(HERE),
    }
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    print(ended.stdout[-1500:])
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    remove_all(api)
    _, frames = api.label(clip)
    assert len(frames) == 6


def remove_all(api: Api) -> None:
    """Remove what schemathesis left."""
    while jobs := api.http.get("/v1/jobs", params={"limit": 100}).json()["jobs"]:
        for job in jobs:
            assert api.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
