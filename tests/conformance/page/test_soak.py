"""Two people at one page, fifty turns each, and an expert whose process is killed in the middle."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from counterpoint import Counterpoint
from tests.app.chromium import page_and_process, send, session
from tests.app.mixture import endpoint, free_port

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1500)]

TURNS = 50
MIDDLE = 25
EARLY = 10
CONTEXT = 65_536
PEOPLE = ("heron", "otter")
MOST_GROWTH = 60 * 2**20
"""Bytes that the page's process may grow by between the tenth turn and the last."""


def question(who: str, turn: int) -> str:
    return f"{who} asks number {turn:03d}"


def answer(who: str, turn: int) -> str:
    return f"To {who} number {turn:03d} the reply is " + " ".join(f"{who}{turn}x{word}" for word in range(12))


def experts(names: tuple[str, ...]) -> list[dict[str, Any]]:
    rules = [{"match": question(who, turn), "say": answer(who, turn), "pause_s": 0.03} for who in PEOPLE for turn in range(TURNS)]
    return [{"name": name, "model": "-", "engine": "scripted", "max_model_len": CONTEXT, "options": {"script": rules}} for name in names]


def serve_rumour(folder: str, port: int) -> None:
    """Serves one expert, in a process of its own, until it is killed."""
    changes = {"name": "far", "experts": experts(("rumour",))}
    with endpoint(Path(folder), port, store=False, changes=changes):
        signal.pause()


@contextmanager
def rumour(folder: Path) -> Iterator[tuple[int, int]]:
    """Starts the process, and gives its port and number."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=serve_rumour, args=(str(folder), port), daemon=True)
    process.start()
    assert process.pid is not None
    try:
        with Counterpoint(f"http://127.0.0.1:{port}", retries=20) as client:
            client.models()
        yield port, process.pid
    finally:
        process.kill()
        process.join()


def heap(page: Any) -> int:
    """Bytes of JavaScript that are in use in a browser session, after rubbish was collected."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("HeapProfiler.collectGarbage")
    devtools.send("Performance.enable")
    figures = {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}
    devtools.detach()
    return int(figures["JSHeapUsedSize"])


def said(page: Any) -> list[str]:
    """What the page's messages say, in their order."""
    earlier = page.get_by_role("button", name="earlier turns")
    if earlier.count():
        earlier.click()
        page.get_by_test_id("stChatMessage").nth(2 * TURNS - 1).wait_for()
    return [message.inner_text() for message in page.get_by_test_id("stChatMessage").all()]


def test_two_people_talk_for_fifty_turns_while_an_expert_is_killed(browser: Any, tmp_path: Path) -> None:
    with rumour(tmp_path) as (port, pid):
        far = {"name": "rumour", "model": "rumour", "engine": "openai", "max_model_len": CONTEXT, "api_base": f"http://127.0.0.1:{port}/v1"}
        changes = {"experts": [*experts(("atlas", "globe")), far]}
        with (
            endpoint(tmp_path, changes=changes) as url,
            page_and_process(url) as (address, process),
            session(browser, address) as heron,
            session(browser, address) as otter,
        ):
            people = dict(zip(PEOPLE, (heron, otter), strict=True))
            for page in people.values():
                page.set_default_timeout(90_000)
            early, sizes, failures = 0, {}, 0
            for turn in range(TURNS):
                for who, page in people.items():
                    send(page, question(who, turn))
                if turn == MIDDLE:
                    os.kill(pid, signal.SIGKILL)
                for who, page in people.items():
                    last = page.get_by_test_id("stChatMessage").last
                    last.get_by_text(f"{who}{turn}x11").first.wait_for()
                    last.get_by_role("button", name="Regenerate").wait_for()
                    failures += page.get_by_text("rumour failed; the answer was made without.").count() > 0
                if turn == EARLY:
                    early = psutil.Process(process.pid).memory_info().rss
                    sizes = {who: heap(page) for who, page in people.items()}
            grown = psutil.Process(process.pid).memory_info().rss - early
            heaps = {who: heap(page) - sizes[who] for who, page in people.items()}
            for who, page in people.items():
                messages = said(page)
                assert len(messages) == 2 * TURNS
                for turn in range(TURNS):
                    assert question(who, turn) in messages[2 * turn]
                    assert answer(who, turn) in messages[2 * turn + 1]
                other = next(name for name in PEOPLE if name != who)
                assert not any(other in message for message in messages)
            with Counterpoint(url, model="mix") as client:
                for who in PEOPLE:
                    (found,) = client.conversations.search(f"{who} asks number 000")
                    kept = [(message.role, message.content) for message in client.conversations.get(found.id).messages or ()]
                    assert kept == [
                        pair for turn in range(TURNS) for pair in (("user", question(who, turn)), ("assistant", answer(who, turn)))
                    ]
            assert failures >= len(PEOPLE), "the dead expert was told of"
            assert grown < MOST_GROWTH
            assert max(heaps.values()) < MOST_GROWTH
