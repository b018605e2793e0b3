"""What stands in the sidebar and on the other pages, by hand in a browser."""

from typing import Any

import pytest

from tests.app.chromium import ask, page_of, session

pytestmark = pytest.mark.conformance


def test_a_preset_and_an_expert_that_is_off_decide_who_is_asked(browser: Any, served: str) -> None:
    with session(browser, served) as page:
        sidebar = page.get_by_test_id("stSidebar")
        sidebar.get_by_text("Settings", exact=True).click()
        sidebar.get_by_role("combobox", name="Preset").click()
        page.get_by_role("option", name="Three opinions").click()
        ask(page, "capital of presets")
        page.get_by_text("Asked: atlas, globe, rumour").wait_for()
        sidebar.get_by_role("combobox", name="Experts that are off").click()
        page.get_by_role("option", name="rumour").click()
        ask(page, "capital without a rumour", 2)
        page.get_by_text("How this answer came about").last.click()
        page.get_by_text("Asked: atlas, globe", exact=True).wait_for()
        sidebar.get_by_label("Save as preset").fill("No rumours")
        sidebar.get_by_label("Save as preset").press("Enter")
        sidebar.get_by_role("combobox", name="Preset").click()
        page.get_by_role("option", name="No rumours").wait_for()


def test_the_pools_page_goes_on_by_itself(browser: Any, served: str) -> None:
    with session(browser, f"{served}/pool") as page:
        seen = page.get_by_text("Seen at")
        first = seen.inner_text()
        page.wait_for_function("([text]) => !document.body.innerText.includes(text)", arg=[first])
        page.get_by_text("Live", exact=True).click()
        page.wait_for_timeout(1500)  # one look may be under way
        still = seen.inner_text()
        page.wait_for_timeout(5000)
        assert seen.inner_text() == still


def test_the_objectives_slider_moves_the_choice(browser: Any, whole: str) -> None:
    with page_of(whole) as address, session(browser, f"{address}/router") as page:
        page.get_by_label("A question; nobody is asked").fill("What is 4 plus 9?")
        page.get_by_role("button", name="See scores").click()
        page.get_by_text("Quality against price and time").wait_for()
        asked = page.get_by_text("Asked:").first
        before = asked.inner_text()
        slider = page.get_by_role("slider", name="Weight")
        for _ in range(20):
            slider.press("ArrowRight")
        page.wait_for_function("([text]) => !document.body.innerText.includes(text)", arg=[before])
        page.get_by_text("At every weight").click()
        for text in ("Where the training questions lie", "Who is good at what", "Feedback", "Drift"):
            page.get_by_role("heading", name=text).wait_for()
        assert page.locator("canvas").count() >= 3, "tables and figures"
        assert page.get_by_test_id("stException").count() == 0


def test_a_report_is_read_and_two_runs_are_compared(browser: Any, whole: str) -> None:
    with page_of(whole) as address, session(browser, f"{address}/runs") as page:
        page.get_by_text("Report", exact=True).first.click()
        page.get_by_text("Mean scores by category").wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Report as Markdown").click()
        assert download.value.suggested_filename.endswith(".md")
        page.get_by_role("tab", name="Compare two").click()
        page.get_by_text("Paired bootstrap over the questions that both have").wait_for()
        assert page.get_by_test_id("stException").count() == 0
