"""axe finds nothing wrong in any state, in light and dark, wide and on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.stored import invented, store

if TYPE_CHECKING:
    from tests.browser.conftest import OpenPage, Visit
    from tests.service import Api

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

PHONE = {"width": 390, "height": 844}


def check(visit: Visit, state: str) -> None:
    """Fail with what axe finds, and where."""
    found = Axe().run(visit.page).response["violations"]
    assert not [(state, rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_documentation_is_readable(open_page: OpenPage, scheme: str) -> None:
    """The API's documentation, with everything folded out."""
    visit = open_page(color_scheme=scheme)
    visit.page.goto(f"{visit.url}/docs")
    visit.page.wait_for_selector("#schemas")
    visit.page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    check(visit, "documentation")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("context", [{}, {"viewport": PHONE}], ids=["wide", "phone"])
def test_nothing_is_in_the_way(open_page: OpenPage, api: Api, scheme: str, context: dict[str, Any]) -> None:
    """Start with options and earlier jobs, a problem, the key dialog, and a job with several faces."""
    job_id = store(api.service.redis_url, list(invented(200, 3)))
    visit = open_page(expected=(404, 415), color_scheme=scheme, **context)
    visit.page.wait_for_selector(".share-words")
    check(visit, "start")
    visit.page.click("#more-options summary")
    check(visit, "options")
    visit.drop(b"nothing" * 50, "notes.txt", "text/plain")
    visit.page.wait_for_selector(".upload[data-state=failed]")
    check(visit, "problem")
    visit.page.evaluate("document.querySelector('#key-dialog').showModal()")
    check(visit, "key")
    visit.open(job_id)
    visit.labelled()
    visit.page.wait_for_selector("#faces-now button")
    check(visit, "job")
    visit.page.get_by_label("CNN", exact=True).check(force=True)
    visit.page.locator("#lanes").press("ArrowRight")
    check(visit, "member")
    wide = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    api.http.delete(f"/v1/jobs/{job_id}")
