"""A release is a tag with a version: package, images and changelog say the same."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def project_version() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def tags(*options: str) -> list[str]:
    """Versions of the tags; none in a clone without them."""
    command = ["git", "tag", *options, "--list", "v*"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [tag.removeprefix("v") for tag in listed.stdout.split()]


def test_images_carry_the_version() -> None:
    """Both images are labelled with it."""
    labels = re.findall(r"org\.opencontainers\.image\.version=(\S+)", (ROOT / "Dockerfile").read_text())
    assert labels == [project_version()] * 2


def test_a_tagged_commit_has_the_version_of_its_tag() -> None:
    """Between releases the version is that of the next one, marked as under development."""
    here, version = tags("--points-at", "HEAD"), project_version()
    assert here == [version] if here else ".dev" in version
    assert version.partition(".dev")[0] not in set(tags()) - set(here)


def test_the_changelog_has_every_release() -> None:
    """Each tag has its section, in order, below what is not released yet."""
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert set(tags()) <= set(sections[1:])
    numbers = [tuple(map(int, section.split("."))) for section in sections[1:]]
    assert numbers == sorted(numbers, reverse=True)
