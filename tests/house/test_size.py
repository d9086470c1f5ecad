"""Limits on the size of files, functions and packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 65  # about 60
MOST_LOOSE_MODULES = 8
FILES = sorted(path for folder in ("app", "worker", "model_store", "tests") for path in (ROOT / folder).rglob("*.py"))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_and_its_functions_are_small(path: Path) -> None:
    """No file is over 400 lines, no function over about 60."""
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_FILE_LINES
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in functions(ast.parse(text))
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("package", ["app", "worker"])
def test_few_modules_lie_beside_the_rooms(package: str) -> None:
    """Most modules are in subpackages; few are at a package's root."""
    loose = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}
    assert len(loose) <= MOST_LOOSE_MODULES, loose


def test_tests_are_no_packages() -> None:
    """`tests/app/__init__.py` would shadow the real `app`."""
    assert not list((ROOT / "tests").rglob("__init__.py"))
