"""What the page does when the endpoint is full or dies in the middle; and batches by hand."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from counterpoint import Counterpoint
from serving.keys import Keys
from serving.store import Store
from tests.app.chromium import page_of, send, session
from tests.app.mixture import endpoint, free_port

pytestmark = pytest.mark.conformance

PER_MINUTE = 10


def test_a_full_endpoint_is_asked_again_when_it_says_so(browser: Any, tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        _, key = Keys(store).create("reader", requests_per_minute=PER_MINUTE)
    with endpoint(tmp_path, keys=True) as url, page_of(url) as address, session(browser, address) as page:
        page.get_by_text("Endpoint", exact=True).click()
        box = page.get_by_role("textbox", name="API key")
        box.fill(key)
        box.press("Enter")
        page.get_by_text("The endpoint wants another key").wait_for(state="detached")
        with Counterpoint(url, api_key=key, model="mix") as client:
            for _ in range(PER_MINUTE):
                client.chat("capital")
        send(page, "capital of patience")
        page.get_by_text("No room, or no connection: asking again in").wait_for()
        page.get_by_text("The capital is Paris.").first.wait_for()


def test_an_endpoint_that_dies_in_the_middle_takes_no_word_with_it(browser: Any, tmp_path: Path) -> None:
    port = free_port()
    alive = ExitStack()
    alive.enter_context(endpoint(tmp_path, port))
    with alive, page_of(f"http://127.0.0.1:{port}") as address, session(browser, address) as page:
        page.get_by_test_id("stSidebar").get_by_text("Settings", exact=True).click()
        page.get_by_text("First expert's words at once").click()
        send(page, "slow")
        page.get_by_text("word3 ").first.wait_for()
        alive.close()
        page.get_by_role("button", name="Ask again").wait_for()
        page.get_by_text("Stopped here").wait_for()
        assert page.get_by_text("word3 ").count() >= 1
        alive.enter_context(endpoint(tmp_path, port))
        page.get_by_role("button", name="Ask again").click()
        page.get_by_role("button", name="Stop").wait_for()
        page.get_by_text("word5 ").first.wait_for()
        assert page.get_by_test_id("stChatMessage").count() == 2


def test_a_file_of_requests_is_uploaded_followed_and_its_answers_downloaded(browser: Any, served: str) -> None:
    lines = [json.dumps({"custom_id": f"n{at}", "messages": f"capital number {at}"}) for at in range(5)]
    with session(browser, f"{served}/runs") as page:
        page.get_by_role("tab", name="Batches").click()
        upload = page.locator("input[type=file]")
        upload.set_input_files({"name": "broken.jsonl", "mimeType": "application/jsonl", "buffer": b'{"messages": "a"}\n{'})
        page.get_by_text("broken.jsonl").wait_for()
        page.get_by_role("button", name="Start batch").click()
        page.get_by_text("line 2 is no JSON").wait_for()
        upload.set_input_files({"name": "capitals.jsonl", "mimeType": "application/jsonl", "buffer": "\n".join(lines).encode()})
        page.get_by_text("capitals.jsonl").first.wait_for()
        page.get_by_role("button", name="Start batch").click()
        page.get_by_text("5 of 5 requests").wait_for(timeout=90_000)
        with page.expect_download() as download:
            page.get_by_role("button", name="Answers").first.click()
        rows = [json.loads(line) for line in Path(download.value.path()).read_text(encoding="utf-8").splitlines()]
        assert len(rows) == 5
        said = {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}
        assert set(said.values()) == {"The capital is Paris."}
        assert page.get_by_test_id("stException").count() == 0
