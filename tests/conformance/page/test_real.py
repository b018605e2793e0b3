"""Every page once, with the demo's LLMs behind it."""

from typing import Any

import pytest

from tests.app.chromium import ask, session

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]

QUESTION = "What is twelve plus thirty?"


def test_real_models_answer_on_every_page(browser: Any, chatting: Any) -> None:
    with session(browser, chatting.page) as page:
        page.set_default_timeout(120_000)
        ask(page, QUESTION)
        page.get_by_text("Asked: numbers").wait_for()
        page.get_by_text("What the aggregator").wait_for()
        page.get_by_text("arithmetic 0.").first.wait_for()
        page.get_by_test_id("stSidebar").get_by_text("Compare", exact=True).click()
        page.get_by_test_id("stSidebar").get_by_text("general", exact=True).click()
        ask(page, 'Write "star moon" in capital letters.', 2)
        page.get_by_role("button", name="Both alike").click()
        page.get_by_text("general", exact=True).last.wait_for()
        assert page.get_by_test_id("stChatMessage").count() == 4
        page.get_by_role("link", name="Pool").click()
        page.get_by_text("Seen at").wait_for()
        page.get_by_text("Awake", exact=True).wait_for()
        page.get_by_role("link", name="Router").click()
        page.get_by_label("A question; nobody is asked").fill(QUESTION)
        page.get_by_role("button", name="See scores").click()
        page.get_by_text("Quality against price and time").wait_for()
        page.get_by_text("Asked: numbers").wait_for()
        page.get_by_text("Where the training questions lie").wait_for()
        page.get_by_text("Who is good at what").wait_for()
        page.get_by_role("link", name="Chat").click()
        page.get_by_test_id("stChatMessage").nth(3).wait_for()
        assert page.get_by_test_id("stException").count() == 0
