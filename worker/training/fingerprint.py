"""Provenance of a bundle: digests of its data, and the commit of the code."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signature_of(settings: Mapping[str, Any], files: Mapping[str, str], world: int) -> str:
    """A digest of what a checkpoint depends on: settings, data, number of processes."""
    content = json.dumps([settings, files, world], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def current_commit() -> str | None:
    """The commit of the code, with `-dirty` if files differ from it; None outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
