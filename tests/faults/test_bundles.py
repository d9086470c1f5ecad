"""Damaged bundles: the worker does not start, and reports the reason in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_store.bundle import find_bundle
from tests.service import ROOT, no_settings

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WAIT_S = 240


def one_byte_changed(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def a_file_missing(folder: Path) -> None:
    next(folder.glob("*.safetensors")).unlink()


def an_older_format(folder: Path) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["format_version"] = 0
    (folder / "bundle.json").write_text(json.dumps(manifest))


def run(folder: Path, spoil: Callable[[Path], None], redis_url: str, *command: str, device: str) -> list[str]:
    """The error output of a worker with a damaged bundle, line by line."""
    bundle = folder / "spoilt"
    shutil.copytree(find_bundle("default"), bundle)
    spoil(bundle)
    with no_settings():
        environment = os.environ | {"MIEN_REDIS_URL": redis_url, "MIEN_BUNDLE": str(bundle), "MIEN_DEVICE": device}
    environment["MIEN_UPLOADS"] = str(folder / "uploads")
    done = subprocess.run(
        [sys.executable, *command, "run"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (one_byte_changed, "is damaged or replaced"),
        (a_file_missing, "cannot be read"),
        (an_older_format, "has format version 0"),
    ],
)
def test_a_spoilt_bundle(spoil: Callable[[Path], None], why: str, redis_url: str, tmp_path: Path) -> None:
    """Exit status 1 and one clear line that names the bundle's file or format, where it loads after "loading" alone."""
    *before, line = run(tmp_path, spoil, redis_url, "-m", "worker", device="cpu")
    assert len(before) <= 1
    assert all("loading" in other for other in before)
    assert line.startswith("error: ")
    assert why in line


# `worker run` on a host with two GPUs, which are processors here.
TWO_DEVICES = """
from worker.commands import main, run
run.cuda_devices = lambda: ["cpu", "cpu"]
main()
"""


def test_a_spoilt_bundle_for_several_devices(redis_url: str, tmp_path: Path) -> None:
    """All workers reject it, and the command ends with one line, since a restart would not help."""
    lines = run(tmp_path, one_byte_changed, redis_url, "-c", TWO_DEVICES, device="cuda:all")
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert line == lines[-1]
    assert line.count("is damaged or replaced") == 1
