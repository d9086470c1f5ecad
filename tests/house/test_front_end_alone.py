"""The front end installs and runs without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.test_release import project_version

ROOT = Path(__file__).resolve().parents[2]
PROBE = """
import importlib.util, sys
import app.main
app.main.create_app
absent = [name for name in ("torch", "cv2", "numpy") if importlib.util.find_spec(name)]
loaded = [name for name in ("torch", "cv2", "numpy", "worker", "model_store") if name in sys.modules]
assert not absent, f"installed: {absent}"
assert not loaded, f"imported: {loaded}"
from app.contract.release import release
print(release())
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_front_end_imports_in_an_environment_of_its_own(tmp_path: Path) -> None:
    """`pip install .[app]` into an empty environment is enough to import the API, brings no torch, and knows its
    release."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, source)
    for name in ("app", "worker", "model_store"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = tmp_path / "environment"
    run([sys.executable, "-m", "venv", str(environment)], tmp_path)
    python = str(environment / "bin" / "python")
    run([python, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", ".[app]"], source)
    assert run([python, "-c", PROBE], tmp_path).strip() == project_version()


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
