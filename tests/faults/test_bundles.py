"""Bundles that are not what they were: the worker does not start, and says why in one line."""

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


@pytest.mark.parametrize("spoil", [one_byte_changed, a_file_missing, an_older_format])
def test_a_spoilt_bundle(spoil: Callable[[Path], None], redis_url: str, tmp_path: Path) -> None:
    """Exit status 1, and one clear line that names the bundle's file or format."""
    folder = tmp_path / "spoilt"
    shutil.copytree(find_bundle("default"), folder)
    spoil(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
    environment |= {"MIEN_REDIS_URL": redis_url, "MIEN_BUNDLE": str(folder), "MIEN_DEVICE": "cpu"}
    environment["MIEN_UPLOADS"] = str(tmp_path / "uploads")
    done = subprocess.run(
        [sys.executable, "-m", "worker", "run"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "Traceback" not in line
    assert any(why in line for why in ("is damaged or replaced", "cannot be read", "has format version 0"))
