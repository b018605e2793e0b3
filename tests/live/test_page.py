from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.slow

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def page(live: Any, chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        context = playwright.chromium.launch_persistent_context(str(profile), executable_path=chromium, headless=True, args=FLAGS)
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.goto(live.page)
        yield page
        context.close()


def ask(page: Any, question: str, answers: int = 1) -> None:
    box = page.get_by_placeholder("Ask the mixture")
    box.fill(question)
    box.press("Enter")
    page.get_by_role("button", name="Copy").nth(answers - 1).wait_for()
    page.get_by_role("button", name="Regenerate").wait_for()


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
