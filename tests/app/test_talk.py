import json
from pathlib import Path
from typing import Any

import pytest

from counterpoint import Counterpoint
from serving.keys import LOCAL, Keys
from serving.store import Store
from tests.app.chromium import ask, page_of, send, session
from tests.app.mixture import endpoint, free_port

pytestmark = pytest.mark.slow


def test_an_answer_comes_with_who_was_asked_what_each_said_and_what_was_weighed(page: Any) -> None:
    ask(page, "capital of France")
    page.get_by_text("Asked: atlas, globe, rumour").wait_for()
    assert [tab.inner_text() for tab in page.get_by_role("tab").all()] == ["atlas", "globe", "rumour"]
    page.get_by_text("counts like every other").nth(2).wait_for()
    page.get_by_text("2.00 · The capital is Paris.").wait_for()
    page.get_by_role("tab", name="rumour").click()
    assert page.get_by_role("tabpanel").locator("strong").inner_text() == "Rome."


def test_what_an_expert_writes_neither_runs_nor_loads_anything(page: Any) -> None:
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    ask(page, "nasty <script>document.title='hacked'</script> ![own](http://127.0.0.1:9/leak0.png)")
    ask(page, "formula", 2)
    assert "hacked" not in page.title()
    assert not [url for url in loaded if "leak" in url]
    assert page.locator("img").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0
    assert page.locator(".katex").count() >= 2
    assert page.get_by_text("costs $5 and $6").count() >= 1
    assert page.locator("code").filter(has_text="print('vec![1]')").count() >= 1
    assert page.get_by_test_id("stException").count() == 0


def test_stop_keeps_what_has_come(page: Any) -> None:
    page.get_by_text("Settings", exact=True).click()
    toggle = page.get_by_test_id("stCheckbox").filter(has_text="First expert's words at once")
    while not toggle.locator("input").is_checked():  # a click in the page's first moments may come before it listens
        toggle.get_by_text("First expert's words at once").click()
        page.wait_for_timeout(500)
    send(page, "slow")
    page.get_by_text("word3 ").first.wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped here").wait_for()
    assert "word399" not in page.get_by_test_id("stMainBlockContainer").inner_text()


def test_a_question_is_edited_and_sent_again_and_an_answer_made_anew(page: Any) -> None:
    ask(page, "capital of France")
    page.get_by_role("button", name="Regenerate").click()
    page.get_by_role("button", name="Stop").or_(page.get_by_role("button", name="Copy")).first.wait_for()
    page.get_by_role("button", name="Copy").wait_for()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit the question").fill("something else")
    page.get_by_role("button", name="Send again").click()
    page.get_by_text("An answer of Paris.").first.wait_for()
    page.get_by_role("button", name="Copy").wait_for()
    assert page.get_by_text("The capital is Paris.").count() == 0
    assert page.get_by_test_id("stChatMessage").count() == 2


def test_thumbs_and_comments_reach_the_endpoint(page: Any, mixture: str, folder: Path) -> None:
    ask(page, "capital for feedback")
    page.get_by_test_id("stFeedback").get_by_role("radio").or_(page.get_by_test_id("stFeedback").get_by_role("button")).first.click()
    page.get_by_text("Feedback kept").wait_for()
    page.get_by_role("button", name="Comment").click()
    page.get_by_label("What was right or wrong?").fill("quite right")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_text("Comment kept").wait_for()
    with Counterpoint(mixture) as client:
        talk = next(iter(client.conversations.search("capital for feedback")))
        answer = (client.conversations.get(talk.id).messages or ())[-1]
    with Store(f"sqlite:///{folder / 'store.db'}") as kept:
        taken = kept.feedback(LOCAL, answer.trace_id or "")
    assert taken is not None
    assert (taken.score, taken.comment) == (1.0, "quite right")


def test_a_failed_expert_is_named_and_the_others_answer(page: Any) -> None:
    ask(page, "it breaks")
    page.get_by_text("rumour failed; the answer was made without.").wait_for()
    page.get_by_role("tab", name="rumour").click()
    page.get_by_text("the engine of rumour died").first.wait_for()


def test_where_all_experts_fail_the_reasons_stand_there(page: Any) -> None:
    send(page, "all die")
    page.get_by_role("button", name="Ask again").wait_for()
    assert page.get_by_text("told to fail").count() >= 1


def test_the_mixture_and_one_expert_answer_side_by_side_and_blind(page: Any) -> None:
    page.get_by_text("Compare", exact=True).click()
    page.get_by_test_id("stSidebar").get_by_text("rumour", exact=True).click()
    send(page, "capital of France")
    page.get_by_text("Which is better?").wait_for()
    main = page.get_by_test_id("stMainBlockContainer")
    assert "rumour" not in main.inner_text()
    columns = main.get_by_test_id("stColumn").all()
    at = next(at for at, column in enumerate(columns) if "Rome" in column.inner_text())
    page.get_by_role("button", name=f"{'AB'[at]} is better").click()
    main.get_by_text("rumour · found better").wait_for()


def test_conversations_are_kept_found_renamed_exported_and_deleted(page: Any) -> None:
    ask(page, "capital of Nowhere")
    page.get_by_role("button", name="Rename, export or delete this conversation").or_(
        page.get_by_test_id("stPopover").first.get_by_role("button")
    ).first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as JSON").click()
    exported = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert [turn["role"] for turn in exported["messages"]] == ["user", "assistant"]
    title = page.get_by_label("Title", exact=True)
    title.fill("A place that is not")
    title.press("Enter")
    page.get_by_test_id("stSidebar").get_by_role("button", name="A place that is not").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="New conversation").click()
    page.get_by_role("heading", name="Counterpoint").wait_for()
    search = page.get_by_placeholder("Search conversations")
    search.fill("of nowhere")
    search.press("Enter")
    page.get_by_test_id("stSidebar").get_by_role("button", name="A place that is not").click()
    page.get_by_text("The capital is Paris.").wait_for()
    page.get_by_role("button", name="How this answer came about").click()
    page.get_by_text("Asked: atlas, globe, rumour").wait_for()
    page.get_by_role("button", name="Rename, export or delete this conversation").or_(
        page.get_by_test_id("stPopover").first.get_by_role("button")
    ).first.click()
    page.get_by_text("Delete for good").click()
    page.get_by_role("button", name="Delete this conversation").click()
    page.get_by_role("heading", name="Counterpoint").wait_for()
    assert page.get_by_test_id("stSidebar").get_by_role("button", name="A place that is not").count() == 0


def test_two_sessions_share_nothing_but_what_the_endpoint_keeps(page: Any, browser: Any, served: str) -> None:
    ask(page, "capital of mine")
    with session(browser, served) as other:
        other.get_by_placeholder("Ask the mixture").wait_for()
        assert other.get_by_test_id("stMainBlockContainer").get_by_text("capital of mine").count() == 0


def test_a_wrong_key_and_a_missing_endpoint_are_said_plainly(browser: Any, tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        _, key = Keys(store).create("reader")
    port = free_port()
    with page_of(f"http://127.0.0.1:{port}") as served, session(browser, served) as page:
        page.get_by_text("The endpoint cannot be reached").first.wait_for()
        with endpoint(tmp_path, port, keys=True):
            page.get_by_text("Endpoint", exact=True).click()
            for typed in ("wrong", key):
                box = page.get_by_role("textbox", name="API key")
                box.fill(typed)
                box.press("Enter")
                if typed == "wrong":
                    page.get_by_text("The endpoint wants another key").first.wait_for()
            page.get_by_text("The endpoint wants another key").wait_for(state="detached")
            ask(page, "capital of France")
            page.get_by_text("The capital is Paris.").first.wait_for()
