"""The code blocks of README, guides and READMEs of folders.

Blocks are fenced, with their language.  A block that is not to be run has a comment above it, with the reason:

    <!-- not run: needs Docker -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "docs/**/", "docker/**/", "model_store/**/", "tests/bench/**/")
PAGES = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}*.md"))
FENCE = re.compile(r"^```(?P<info>.*)\n(?P<text>(?:(?!```).*\n)*)```$", re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->\n$")
URL = "http://127.0.0.1:8000"  # of the service in all examples


@dataclass(frozen=True)
class Block:
    """line: of its first line of code.  not_run: why it is not run, or None."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    content = page.read_text()
    found = []
    for fence in FENCE.finditer(content):
        reason = NOT_RUN.search(content[: fence.start()])
        line = content.count("\n", 0, fence.start()) + 2
        found.append(Block(page, line, fence["info"], fence["text"], reason["reason"] if reason else None))
    return found


def without_blocks(page: Path) -> str:
    """The page's text, with its fenced blocks taken out."""
    return FENCE.sub("", page.read_text())
