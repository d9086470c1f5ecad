"""axe finds nothing wrong in any state: in light and dark; wide, on a phone, and at 200 %."""

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
DOUBLE = {"viewport": {"width": 640, "height": 450}, "device_scale_factor": 2}  # 1280 x 900, enlarged by the browser


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
@pytest.mark.parametrize("context", [{}, {"viewport": PHONE}, DOUBLE], ids=["wide", "phone", "200 %"])
def test_nothing_is_in_the_way(open_page: OpenPage, api: Api, scheme: str, context: dict[str, Any]) -> None:
    """Start with options and earlier jobs, a problem, dialogs, a job with several faces, and two side by side."""
    job_id, other = (store(api.service.redis_url, list(invented(200, faces))) for faces in (3, 2))
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
    visit.page.keyboard.press("+")
    visit.page.focus("#compare-with")
    visit.page.wait_for_selector("#compare-with optgroup", state="attached")
    visit.page.select_option("#compare-with", other)
    visit.page.wait_for_selector(".other-lane")
    check(visit, "compared, closer")
    visit.page.click("#name-job")
    check(visit, "naming")
    visit.page.keyboard.press("Escape")
    wide = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    for each in (job_id, other):
        api.http.delete(f"/v1/jobs/{each}")
