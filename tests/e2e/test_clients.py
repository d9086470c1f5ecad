"""The client that the README shows, exactly as it stands there, against the whole service."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.service import Api, Clips

pytestmark = pytest.mark.e2e

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_client_prints_every_frame(api: Api, clips: Clips, tmp_path: Path) -> None:
    """Run as a program beside a `video.mp4`, it prints a line a frame, with its time and its faces' labels."""
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    program = tmp_path / "client.py"
    program.write_text(found[1].replace("http://127.0.0.1:8000", api.service.url))
    (tmp_path / "video.mp4").write_bytes(clips.video(clips.pictures(70)))
    command = [sys.executable, "-W", "error", str(program)]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120).stdout
    lines = [re.fullmatch(r"([\d.]+) (\[.*\])", line) for line in printed.splitlines()]
    assert [float(line[1]) for line in lines if line] == pytest.approx([i / 25 for i in range(70)], abs=6e-4)
    assert sum("'Happiness'" in line[2] for line in lines if line) > 35
