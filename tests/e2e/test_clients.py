"""The clients as their users run them, against the whole service: the README's program, and `mien label`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mien
from mien.command import key_of
from tests.service import ROOT

if TYPE_CHECKING:
    from tests.service import Api, Clips

pytestmark = pytest.mark.e2e

README = ROOT / "README.md"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def test_the_readmes_client_prints_every_frame(api: Api, clips: Clips, tmp_path: Path) -> None:
    """Run as a program beside a `video.mp4`, it prints a line a frame, with its time and its faces' labels."""
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    program = tmp_path / "client.py"
    program.write_text(found[1].replace("http://127.0.0.1:8000", api.service.url))
    (tmp_path / "video.mp4").write_bytes(clips.video(clips.pictures(70)))
    command = [sys.executable, "-W", "error", str(program)]
    printed = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    lines = [re.fullmatch(r"([\d.]+) (\[.*\])", line) for line in printed.splitlines()]
    assert [float(line[1]) for line in lines if line] == pytest.approx([i / 25 for i in range(70)], abs=6e-4)
    assert sum("'Happiness'" in line[2] for line in lines if line) > 35


def test_mien_label_labels_many_and_goes_on(api: Api, clips: Clips, tmp_path: Path) -> None:
    """Several at once; a failure stops no other and is reported at the end; a second run sends only missing files."""
    for name, frames in (("a.mp4", 6), ("b.mp4", 4), ("c.mp4", 5)):
        (tmp_path / name).write_bytes(clips.video(clips.pictures(frames)))
    (tmp_path / "bad.mp4").write_text("no video")
    command = [sys.executable, "-W", "error", "-m", "mien", "label", "--server", api.service.url, "--out", "results"]
    command += ["--option", "max_faces=1", "--batch", "pilot", "--delete"]

    def label(*names: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            [*command, *names], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.stdout == ""
        return done.returncode, done.stderr.splitlines()

    status, lines = label("a.mp4", "bad.mp4", "b.mp4")
    assert status == 1
    assert any(re.fullmatch(r"\[./3\] bad\.mp4: The file's type is not supported; .*", line) for line in lines)
    assert lines[3:] == [
        "3 videos: 2 labelled (10 frames), 1 failed:",
        f"  {lines[4].strip()}",
        "error: 1 of 3 videos could not be labelled",
    ]
    assert lines[4].startswith("  bad.mp4: The file's type is not supported; ")
    written = {path.name: len(path.read_text().splitlines()) - 1 for path in (tmp_path / "results").iterdir()}
    assert written == {"a.csv": 6, "b.csv": 4}
    assert api.http.get("/v1/batches/pilot").status_code == 404

    # An earlier run had sent c.mp4 and was ended while it waited: its job is the one that is written and removed.
    options = {"max_faces": "1", "batch": "pilot"}
    with mien.Client(api.service.url) as client:
        job = client.submit(tmp_path / "c.mp4", idempotency_key=key_of(tmp_path / "c.mp4", options), **options)
    status, lines = label("a.mp4", "c.mp4")
    assert status == 0
    assert "[1/2] a.mp4: results/a.csv exists already" in lines
    assert lines[-1] == "2 videos: 1 labelled (5 frames), 1 skipped"
    assert (tmp_path / "results" / "c.csv").exists()
    assert api.http.get(f"/v1/jobs/{job['id']}").status_code == 404
