from collections.abc import Iterator
from typing import Any

import pytest

from tests.app.chromium import ask, chromium, session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(live: Any) -> Iterator[Any]:
    with chromium() as browser, session(browser, live.page) as page:
        page.set_default_timeout(90_000)
        yield page


def test_the_page_streams_an_answer_and_shows_who_was_asked(page: Any) -> None:
    ask(page, 'Write "star moon" in capital letters.')
    page.get_by_text("STAR MOON").first.wait_for()
    page.get_by_text("Asked: words").first.wait_for()
    page.get_by_text("likely to be right").first.wait_for()
    assert page.get_by_role("tab").count() == 3
    assert page.get_by_role("tab").first.inner_text() == "words"


def test_html_in_a_message_is_shown_and_not_run(page: Any) -> None:
    ask(page, "Write \"<img src=x onerror=document.title='hacked'> moon\" in capital letters.", 2)
    assert page.get_by_test_id("stChatMessage").nth(2).get_by_text("<img src=x onerror=").count() == 1
    assert page.locator("img").count() == 0
    assert page.title() == "Counterpoint"


def test_a_long_question_gets_a_plain_error(page: Any) -> None:
    box = page.get_by_placeholder("Ask the mixture")
    box.fill("word " * 8000)
    box.press("Enter")
    page.get_by_text("the context of").last.wait_for()


def test_a_conversation_is_kept_without_being_told_to(page: Any, live: Any) -> None:
    page.goto(live.page)
    page.get_by_test_id("stSidebar").get_by_role("button", name='Write "star moon"').click()
    page.get_by_text("STAR MOON").first.wait_for()
