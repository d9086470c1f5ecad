"""Every example of README and guides runs as it stands, against the whole service."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.docs.blocks import PAGES, ROOT, URL, Block, blocks
from tests.service import Client, Clips, Service, no_settings

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RUN = {"bash", "python"}
RUNNABLE = {page: [b for b in blocks(page) if b.language in RUN and b.not_run is None] for page in PAGES}
# curl exits with 0 whatever the status of the answer; here a problem fails the example.
STRICT_CURL = 'curl() { command curl --fail-with-body --silent --show-error --max-time 100 "$@"; }\n'


@pytest.fixture
def example(service: Service, clips: Clips, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a page's examples: files with the names they use, and an ended job in `ID`."""
    video = clips.video(clips.pictures(12))
    (tmp_path / "video.mp4").write_bytes(video)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "other.mp4").write_bytes(video)
    for index in (1, 2):
        (tmp_path / f"{index}.jpg").write_bytes(clips.png(index))
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http:
        client = Client(http)
        job, _ = client.label(video, "video.mp4", keep_input=True)
        with no_settings():
            variables = os.environ | service.environment
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        yield variables | {"ID": str(job["id"]), "PATH": programs, "PYTHONPATH": str(ROOT)}
        for left in http.get("/v1/jobs", params={"limit": 1000}).json()["jobs"]:
            http.delete(f"/v1/jobs/{left['id']}")


@pytest.mark.parametrize(
    "page", [page for page, found in RUNNABLE.items() if found], ids=lambda page: str(page.relative_to(ROOT))
)
def test_examples_run(page: Path, service: Service, example: dict[str, str], tmp_path: Path) -> None:
    """In order and in one folder, so that a block may use what the ones before it wrote."""
    for block in RUNNABLE[page]:
        done = subprocess.run(
            command(block, service.url), cwd=tmp_path, env=example, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def command(block: Block, url: str) -> list[str]:
    """How a block is run; the service's address stands for the examples'."""
    text = block.text.replace(URL, url)
    if block.language == "python":
        return [sys.executable, "-W", "error", "-c", text]
    return ["bash", "-euo", "pipefail", "-c", STRICT_CURL + text]
