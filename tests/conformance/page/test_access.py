"""Keyboard, contrast, phones, and a page that stands still while an answer comes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.chromium import PHONE, ask, page_of, send, session

pytestmark = pytest.mark.conformance

CONTRASTS = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
MOST_SHIFT = 0.1
"""What web.dev calls a good cumulative layout shift."""

BETWEEN_TOPS = """() => {
  const [first, second] = [...document.querySelectorAll('[data-testid=stChatMessage]')].map(one => one.getBoundingClientRect().top);
  return [second - first];
}"""
"""From a question's top to its answer's; both at one moment, for the page scrolls by itself."""

ON_FOCUS = """() => {
  const seen = document.activeElement, label = seen.getAttribute('aria-label') || seen.innerText || seen.getAttribute('placeholder');
  return {tag: seen.tagName, label: label || '', visible: seen.matches(':focus-visible')};
}"""
TOO_WIDE = """() => [...document.querySelectorAll('[data-testid=stMainBlockContainer] *')].filter(one =>
  one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('[role=tablist], .stDataFrame, pre, [data-testid=stTabs]')
).map(one => one.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def served_whole(whole: str) -> Iterator[str]:
    """The address of the page before an endpoint with a router and runs."""
    with page_of(whole) as url:
        yield url


def focus(page: Any) -> dict[str, Any]:
    return dict(page.evaluate(ON_FOCUS))


def tab_to(page: Any, label: str, most: int = 60, key: str = "Tab") -> None:
    """Presses Tab until something bears the keyboard."""
    seen = []
    for _ in range(most):
        page.keyboard.press(key)
        seen.append(focus(page))
        if label in seen[-1]["label"]:
            assert seen[-1]["visible"]
            return
    raise AssertionError(f"{label!r} was not reached: {[each['label'][:30] for each in seen]}")


def test_a_conversation_goes_without_a_mouse(browser: Any, served: str) -> None:
    with session(browser, served) as page:
        page.get_by_placeholder("Ask the mixture").wait_for()
        tab_to(page, "Ask the mixture")
        page.keyboard.type("capital of keys")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Regenerate").wait_for()
        assert focus(page)["tag"] == "TEXTAREA", "the keyboard stays in the box while an answer comes"
        page.keyboard.type("something more")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Copy").nth(1).wait_for()
        tab_to(page, "atlas", key="Shift+Tab")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert focus(page)["label"].strip() == "rumour"
        page.keyboard.press("Enter")
        page.get_by_role("tab", name="rumour").last.and_(page.locator("[aria-selected=true]")).wait_for()
        tab_to(page, "Regenerate")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Stop").or_(page.get_by_role("button", name="Regenerate")).first.wait_for()
        page.get_by_role("button", name="Regenerate").wait_for()
        assert page.get_by_test_id("stChatMessage").count() == 4


def test_an_answer_is_stopped_by_the_keyboard(browser: Any, served: str) -> None:
    with session(browser, served) as page:
        send(page, "slow")
        page.get_by_role("button", name="Stop").wait_for()
        tab_to(page, "Stop", key="Shift+Tab")
        page.keyboard.press("Enter")
        page.get_by_text("Stopped").first.wait_for()


def test_what_is_written_while_an_answer_comes_is_asked_next(browser: Any, served: str) -> None:
    with session(browser, served) as page:
        send(page, "slow")
        page.get_by_role("button", name="Stop").wait_for()
        send(page, "capital of later")
        page.get_by_text("Asked next: capital of later").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("The capital is Paris.").first.wait_for()
        page.get_by_role("button", name="Regenerate").wait_for()
        said = [message.inner_text() for message in page.get_by_test_id("stChatMessage").all()]
        assert "slow" in said[0]
        assert "capital of later" in said[-2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser: Any, served_whole: str, scheme: str) -> None:
    with session(browser, served_whole, color_scheme=scheme) as page:
        found = {"start": _contrasts(page, "Several LLMs")}
        for name in ("Settings", "Compare", "Endpoint"):
            page.get_by_test_id("stSidebar").get_by_text(name, exact=True).click()
        send(page, "slow")
        page.get_by_text("experts have answered").first.wait_for()
        found["coming"] = _contrasts(page, "Stop")
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped").first.wait_for()
        page.get_by_role("button", name="New conversation").click()
        ask(page, "it breaks")
        ask(page, "formula", 2)
        ask(page, "capital of France", 3)
        page.get_by_role("tab", name="rumour").last.click()
        found["chat"] = _contrasts(page, "Rome")
        send(page, "all die")
        page.get_by_role("button", name="Ask again").wait_for()
        found["trouble"] = _contrasts(page, "told to fail")
        for path, text in (("pool", "Seen at"), ("router", "Drift"), ("runs", "Report")):
            page.goto(f"{served_whole}/{path}")
            page.get_by_text(text).first.wait_for()
            if path == "router":
                page.get_by_label("A question; nobody is asked").fill("What is 4 plus 9?")
                page.get_by_role("button", name="See scores").click()
                page.get_by_text("Quality against price and time").wait_for()
            found[path] = _contrasts(page, text)
    assert all(each["texts"] > 10 for each in found.values())
    assert [(name, *weak) for name, each in found.items() for weak in each["weak"]] == []


def _contrasts(page: Any, text: str) -> dict[str, Any]:
    page.get_by_text(text).first.wait_for()
    page.wait_for_timeout(1000)  # colours fade in
    return dict(page.evaluate(CONTRASTS))


@pytest.mark.parametrize("path", ["", "pool", "router", "runs"])
def test_nothing_is_wider_than_a_phone(browser: Any, served_whole: str, path: str) -> None:
    with session(browser, f"{served_whole}/{path}", viewport=PHONE, has_touch=True) as page:
        if path:
            page.get_by_role("heading", name=path.title(), exact=True).wait_for()
        else:
            ask(page, "capital of a phone")
        page.wait_for_timeout(1500)  # charts draw themselves after they are there
        wide = page.evaluate(TOO_WIDE)
        assert wide == []
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_box_stands_still_while_an_answer_comes(browser: Any, served: str) -> None:
    with session(browser, served) as page:
        box = page.get_by_placeholder("Ask the mixture")
        ask(page, "capital of a quiet place")
        page.evaluate(
            "() => { window.shifts = []; new PerformanceObserver(list => shifts.push(...list.getEntries().map(one => one.value)))"
            ".observe({type: 'layout-shift'}) }"
        )
        page.get_by_test_id("stSidebar").get_by_text("Settings", exact=True).click()
        page.get_by_text("First expert's words at once").click()
        send(page, "slow")
        page.get_by_text("word3 ").first.wait_for()
        page.evaluate("shifts.length = 0")
        boxes, tops = [], []
        for number in range(4, 60, 4):
            page.get_by_text(f"word{number} ").first.wait_for()
            boxes.append(list(box.bounding_box().values()))
            tops.append(page.evaluate(BETWEEN_TOPS))
        for seen in (boxes, tops):
            assert seen == [pytest.approx(seen[0], abs=1)] * len(seen), "nothing moves by a pixel"
        shifts = page.evaluate("shifts")
        assert sum(shifts) < MOST_SHIFT
