"""Pages are well-formed: blocks parse, commands and options exist, links and anchors lead somewhere."""

from __future__ import annotations

import configparser
import csv
import json
import re
import shlex
import subprocess
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from app.admin.__main__ import app as admin
from mien.command import app as mien
from tests.docs.blocks import PAGES, ROOT, Block, blocks, without_blocks
from worker.commands import COMMANDS, MODULES

BLOCKS = [block for page in PAGES for block in blocks(page)]
PICTURES = {"text", "mermaid"}
README_LINES = 150
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def of_language(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_readme_stays_short() -> None:
    """It states what Mien is and where to go next; the rest is in the guides."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_code_block_is_fenced_and_names_its_language(page: Path) -> None:
    """An indented block, or one without a language, would be checked by no test."""
    indented = re.findall(r"(?:^|\n)\n    \S.*", without_blocks(page))
    assert not indented
    assert {block.language for block in blocks(page)} <= {"bash", "python", "json", "yaml", "ini", "csv", *PICTURES}


@pytest.mark.parametrize("block", of_language("bash"), ids=str)
def test_shell_blocks_parse(block: Block) -> None:
    """`bash -n` reads them, also those that are not run."""
    done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", of_language("python", "json", "yaml", "ini", "csv"), ids=str)
def test_other_blocks_parse(block: Block) -> None:
    """Each is what its language says."""
    match block.language:
        case "python":
            compile(block.text, str(block), "exec")
        case "json":
            json.loads(block.text)
        case "yaml":
            assert isinstance(yaml.safe_load(block.text), dict)
        case "ini":
            configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
        case "csv":
            assert len({len(row) for row in csv.reader(block.text.splitlines())}) == 1


@cache
def options_of(program: str, name: str) -> set[str]:
    """The options of a subcommand of `worker`, `app.admin` or `mien`."""
    if program == "worker":
        single = typer.Typer(add_completion=False)
        single.command()(import_module(f"worker.commands.{MODULES.get(name, name)}").command)
        command = typer.main.get_command(single)
    else:
        group = typer.main.get_command({"app.admin": admin, "mien": mien}[program])
        assert isinstance(group, TyperGroup)
        command = group.commands[name]
    return {option for parameter in command.params for option in parameter.opts}


def test_commands_and_options_exist() -> None:
    """Every command of the pages has the options that are shown with it, and every make target is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    seen = set()
    for block in of_language("bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.replace("-m mien", "mien"), comments=True)
            for place, word in enumerate(words[:-1]):
                name, given = words[place + 1], {part for part in words[place + 2 :] if part.startswith("--")}
                if word == "make":
                    assert name in targets, block
                elif (word in {"worker", "app.admin"} and words[place - 1] == "-m") or (word == "mien"):
                    assert word != "worker" or name in COMMANDS, block
                    assert given <= options_of(word, name), (str(block), given)
                else:
                    continue
                seen.add(word)
    assert seen == {"make", "worker", "app.admin", "mien"}


@cache
def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = HEADING.findall(without_blocks(page))
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the repository, and its anchor a heading there; all others are https."""
    dead = []
    for first, second in LINK.findall(without_blocks(page)):
        link = first or second
        path, _, anchor = link.partition("#")
        if link.startswith("https://"):
            continue
        target = (page.parent / path).resolve() if path else page
        there = target.exists() and target.is_relative_to(ROOT)
        if not there or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead
