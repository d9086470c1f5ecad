"""Documents name files that exist, and settings are documented; `tests/docs` has what holds for every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.settings import Settings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text()
SETTINGS = {f"MIEN_{name.upper()}" for name in {**Settings.model_fields, **WorkerSettings.model_fields}}


def documented() -> set[str]:
    return set(re.findall(r"^\| `(MIEN_[A-Z0-9_]+)` \|", SETTINGS_PAGE, re.MULTILINE))


def test_every_setting_is_documented_and_no_other() -> None:
    """The table of docs/settings.md has exactly the settings that the code reads."""
    assert documented() == SETTINGS


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/security.md"])
def test_files_that_are_named_exist(name: str) -> None:
    """A path in backticks is a file or folder of the repository."""
    paths = re.findall(r"`((?:app|worker|model_store|tests|docker|docs)/[\w./-]+)`", (ROOT / name).read_text())
    assert paths
    assert not [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]


def test_architecture_stays_short() -> None:
    """One page: what needs more room is a decision record or a guide."""
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 200


def test_front_end_package_stays_empty() -> None:
    """Importing the front end's package costs nothing."""
    assert (ROOT / "app" / "__init__.py").read_text() == ""
