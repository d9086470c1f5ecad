"""Documents only refer to things that exist, and settings are documented."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from app.settings import Settings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))
README = (ROOT / "README.md").read_text()
SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text()
SETTINGS = {f"MIEN_{name.upper()}" for name in {**Settings.model_fields, **WorkerSettings.model_fields}}


def documented() -> set[str]:
    return set(re.findall(r"^\| `(MIEN_[A-Z0-9_]+)` \|", SETTINGS_PAGE, re.MULTILINE))


def test_every_setting_is_documented_and_no_other() -> None:
    """The table of docs/settings.md has exactly the settings that the code reads."""
    assert documented() == SETTINGS


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", *DOCS])
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link in a document names a file that exists."""
    page = ROOT / name
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/security.md"])
def test_files_that_are_named_exist(name: str) -> None:
    """A path in backticks is a file or folder of the repository."""
    paths = re.findall(r"`((?:app|worker|model_store|tests|docker|docs)/[\w./-]+)`", (ROOT / name).read_text())
    assert paths
    assert not [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]


def test_architecture_stays_short() -> None:
    """One page: what needs more room is a decision record or a guide."""
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 200


def test_python_client_is_python() -> None:
    """The README's client compiles and is made with the package that it names."""
    source = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert source is not None
    tree = ast.parse(source[1])
    assert [name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names] == ["mien"]


def test_make_targets_named_in_the_readme_exist() -> None:
    """A reader can run every make command of the README."""
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", README, re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named <= targets


def test_front_end_package_stays_empty() -> None:
    """Importing the front end's package costs nothing."""
    assert (ROOT / "app" / "__init__.py").read_text() == ""
