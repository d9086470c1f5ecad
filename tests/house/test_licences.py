"""docs/licences.md has a row for everything that the repository and the worker's wheels contain."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "licences.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
EXTRAS = ("app", "worker", "train", "s3", "exports")  # what the images install
# Names as auditwheel writes them: libgfortran-040039e1-0352e75f.so.5.0.0, libopenblasp-r0-59ffcd50.3.15.so.
BUNDLED = re.compile(r"(?P<name>lib.+?)(?:-[0-9a-f]{8})+[.0-9]*\.so[.0-9]*$")


def direct_dependencies() -> set[str]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return {canonicalize_name(Requirement(line).name) for extra in EXTRAS for line in extras[extra]}


def bundled_libraries(package: str) -> set[str]:
    """The names of the shared libraries in a wheel's `.libs` folder."""
    files = [file for file in distribution(package).files or () if file.parts[0].endswith(".libs")]
    return {match["name"] for file in files if (match := BUNDLED.match(file.name))}


def test_every_direct_dependency_has_a_row() -> None:
    """A package that an image installs is listed with its licence, and no other is."""
    table = PAGE.split("## Direct Python dependencies")[1].split("## ")[0]
    assert set(re.findall(r"^\| ([a-z0-9-]+) \| (?:app|worker|both) \|", table, re.MULTILINE)) == direct_dependencies()


@pytest.mark.parametrize("package", ["av", "numpy", "opencv-python-headless", "pi-heif", "pillow"])
def test_every_bundled_library_has_a_row(package: str) -> None:
    """A native library in a wheel is listed under that wheel."""
    found = bundled_libraries(package)
    listed = {name.split(" ")[0] for row in ROWS if row[0] == package and len(row) == 3 for name in row[1].split(", ")}
    assert found
    assert found <= listed


def test_no_other_wheel_of_the_worker_bundles_libraries() -> None:
    """The wheels with a `.libs` folder are those that the test above reads."""
    bundling = {package for package in direct_dependencies() if installed(package) and bundled_libraries(package)}
    assert bundling == {"av", "numpy", "opencv-python-headless", "pi-heif", "pillow"}


def test_both_images_hold_the_notices() -> None:
    """The last stage of each image copies LICENSE and the page, and the build context contains both."""
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    made = {stage.split("\n")[0].split(" AS ")[-1]: stage for stage in stages}
    for image in ("app", "worker"):
        assert "\nCOPY LICENSE docs/licences.md /usr/share/doc/mien/\n" in made[image]
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "!docs/licences.md" in ignored or not {"docs", "docs/", "*.md"} & set(ignored)


def test_weights_and_fonts_come_with_their_licence() -> None:
    """Each foreign network and font has the text of its licence beside it, which the packages contain."""
    folders = {path.parent for path in ROOT.glob("model_store/detectors/*/*.safetensors")}
    folders |= {ROOT / "model_store" / "identity"}
    assert len(folders) > 2
    assert not [folder for folder in folders if not (folder / "LICENSE").is_file()]
    assert (ROOT / "app/web/fonts/OFL.txt").is_file()
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert {"detectors/**/*", "identity/**/*"} <= set(data["model_store"])
    assert "web/**/*" in data["app"]


def installed(package: str) -> bool:
    try:
        distribution(package)
    except ModuleNotFoundError:
        return False
    return True


def test_every_weight_font_and_picture_has_a_row() -> None:
    """Every folder of weights and every font, icon or picture of the repository is named."""
    weights = {path.parent.relative_to(ROOT) for path in ROOT.glob("model_store/*/*/*.safetensors")}
    shown = {
        path.relative_to(ROOT) for pattern in ("app/web/fonts/*.woff2", "app/web/*.svg") for path in ROOT.glob(pattern)
    }
    loose = {path.relative_to(ROOT) for path in ROOT.glob("model_store/*/*.safetensors")}
    assert weights
    assert not [str(path) for path in weights | shown | loose if f"| `{path}` |" not in PAGE]
