"""The page: its files, their security policy, and their settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx
import pytest

from app.contract.colours import colours
from app.routes.pages import WEB

if TYPE_CHECKING:
    from tests.app.conftest import MakeApi

SCRIPTS = sorted(WEB.rglob("*.js"))
STYLES = sorted(WEB.rglob("*.css"))
MOST_LINES = 300
REFERENCE = re.compile(r"""(?:src|href)="([^"#]+)"|from "([^"]+)"|url\("([^"]+)"\)""")


def references(text: str) -> set[str]:
    return {next(filter(None, groups)) for groups in REFERENCE.findall(text)}


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_are_whole_and_need_nothing_from_elsewhere(api: httpx.Client, path: str) -> None:
    """Every file that a page reaches, directly or through others, is served from here; no other host is named."""
    waiting, known = [path], {path}
    while waiting:
        here = waiting.pop()
        answer = api.get(here)
        assert answer.status_code == 200, here
        if not re.match(r"text/|application/javascript", answer.headers["content-type"]):
            continue
        assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}", answer.text)
        for name in references(answer.text) - {"docs", "openapi.json"}:
            other = urljoin(here, name)
            if other not in known:
                known.add(other)
                waiting.append(other)
    if path == "/":
        own = [file for file in [*SCRIPTS, *STYLES] if not file.name.startswith("docs.")]
        assert {f"/static/{file.relative_to(WEB)}" for file in own} <= known


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page/main.js", "/static/styles/base.css"])
def test_pages_may_do_little(api: httpx.Client, path: str) -> None:
    """The policy forbids inline scripts and styles, other origins, and framing."""
    headers = api.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert not re.search(r"unsafe|https?:|\*", headers["content-security-policy"])
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["index.html", "docs.html"])
def test_markup_has_nothing_inline(name: str) -> None:
    """No script, style or handler stands in the markup, where the policy would refuse it."""
    markup = (WEB / name).read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", markup)


def test_every_element_that_a_script_asks_for_exists() -> None:
    """Ids in the scripts are ids in the page, and the page has each of its ids once."""
    ids = re.findall(r'\sid="([^"]+)"', (WEB / "index.html").read_text())
    assert len(ids) == len(set(ids))
    for script in SCRIPTS:
        assert set(re.findall(r'byId\("([^"]+)"\)', script.read_text())) <= set(ids), script.name


def test_page_learns_what_it_cannot_know(make_api: MakeApi) -> None:
    """The limits, and whether a key is required, are public."""
    settings = make_api(max_upload_bytes=1000, result_ttl_s=60).get("/page/settings").json()
    assert (settings["keys_needed"], settings["max_upload_bytes"], settings["result_ttl_s"]) == (False, 1000, 60)
    assert make_api(api_keys=["a-key"]).get("/page/settings").json()["keys_needed"] is True


def test_page_has_the_colours_of_the_timeline(api: httpx.Client) -> None:
    """The page asks for its labels' colours and gets those that everything else has, in order."""
    labels = ["Neutral", "Anger", "Contempt"]
    answer = api.get("/page/colours", params={"label": labels})
    assert answer.json() == colours(labels)
    assert list(answer.json()) == labels
    assert api.get("/page/colours").status_code == 422


@pytest.mark.parametrize("file", [*SCRIPTS, *STYLES], ids=lambda file: str(Path(file).relative_to(WEB)))
def test_scripts_and_styles_are_small(file: Path) -> None:
    """No script or style is over MOST_LINES lines, and none sets markup from text."""
    text = file.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
