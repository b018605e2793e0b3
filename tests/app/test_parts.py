import doctest
import gc
import importlib
import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from app.board import Board
from app.export import as_json, as_markdown
from app.figures import experts_table, newer, slots_table
from app.harmless import harmless, pieces, plain
from app.history import MOST_TALKS, EndpointShelf, SessionShelf
from app.lines import LinesError, requests_of
from app.marking import MOST_WORDS, marked
from app.session import address
from app.settings import MOST_PRESETS, PRESETS, Settings, saved
from app.trouble import trouble_of
from app.turns import MOST_ACCOUNTS, MOST_TURNS, Talk, Turn, bounded, sides, voted
from app.underway import Question
from counterpoint import (
    AsyncCounterpoint,
    BadRequestError,
    ConnectionFailedError,
    Counterpoint,
    ExpertAnswer,
    Explanation,
    Route,
    ServerError,
)
from counterpoint.asking import chunk_of

PARTS = ["export", "harmless", "history", "lines", "marking", "panels", "settings", "trouble", "turns", "underway", "wording"]
ACCOUNT = Explanation(Route(("a",), (1.0,), "a", {"a": 0.5}), (ExpertAnswer("a", "yes"),), "vote")


@pytest.mark.parametrize("name", PARTS)
def test_the_examples_of_each_part_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"app.{name}"))
    assert found.failed == 0
    assert found.attempted > 0


@pytest.mark.parametrize(
    "text",
    [
        "![a](http://x/y)",
        "<!--\n```\n-->\n![a](http://x/y)\n```",
        "- ~~~\n  ```\n![a](http://x/y)\n",
        "$$\n```\n$$\n![a](http://x/y)",
        "`![a](http://x/y)",
        "![a][r]\n\n[r]: http://x/y",
        "\\(![a](http://x/y)\\)",
    ],
)
def test_no_image_is_left_in_what_is_read_as_markdown(text: str) -> None:
    assert all("![" not in harmless(piece.text) for piece in pieces(text) if not piece.code)


def test_code_is_kept_to_the_letter() -> None:
    code = 'let v = vec![1];\n\n  price = "$5"'
    assert [piece.text for piece in pieces(f"So:\n```rust\n{code}\n```") if piece.code] == [code]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("$5 and $6", "\\$5 and \\$6"),
        ("$x^2$ holds", "$x^2$ holds"),
        ("\\[a\\]", "\n$$\na\n$$\n"),
        ("\\$3", "\\$3"),
        ("`$HOME` and $PATH", "`$HOME` and \\$PATH"),
    ],
)
def test_dollars_are_formulas_only_where_some_are_meant(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_what_differs_is_marked_and_cannot_mark_anything_itself() -> None:
    assert marked("**no** ]", "yes") == f":orange-background[**{plain('**no** ]')}**]"


def test_old_accounts_leave_the_session() -> None:
    turns = bounded([Turn("assistant", str(at), account=ACCOUNT) for at in range(MOST_ACCOUNTS + 3)])
    assert [turn.account is None for turn in turns] == [True] * 3 + [False] * MOST_ACCOUNTS


def test_a_conversation_ends_somewhere() -> None:
    assert not Talk((Turn("user", "a"),)).full
    assert Talk((Turn("user", "a"),) * MOST_TURNS).full


def test_a_vote_for_the_rival_puts_it_first_and_leaves_the_sides() -> None:
    turn = Turn("assistant", "mine", author="mix", rival=Turn("assistant", "other", author="b"), blind=True, swapped=True)
    after = voted(turn, "rival")
    assert (after.content, after.vote, [side.content for side in sides(after)]) == ("other", "rival", ["other", "mine"])
    assert voted(after, "mixture") == after


def test_an_export_holds_the_account_and_the_answer_beside_it() -> None:
    talk = Talk((Turn("user", "q"), Turn("assistant", "a", "id", account=ACCOUNT, rival=Turn("assistant", "b", author="x"))), title="T")
    row = json.loads(as_json(talk))["messages"][1]
    assert (row["id"], row["account"]["aggregator"], row["beside"]["content"]) == ("id", "vote", "b")
    assert "*Asked: a (0.50); combined by vote" in as_markdown(talk)


def test_a_session_keeps_so_many_conversations() -> None:
    shelf = SessionShelf()
    for at in range(MOST_TALKS + 5):
        last = shelf.keep(Talk((Turn("user", f"question {at}"),), title=str(at)))
    assert len(shelf.headings()) == MOST_TALKS
    shelf.delete(last.id or "")
    assert not shelf.headings(f"question {MOST_TALKS + 4}")


def test_presets_that_are_always_there_cannot_be_replaced() -> None:
    assert saved({}, next(iter(PRESETS)), Settings(k=6)) == {}
    many: dict[str, Settings] = {}
    for at in range(MOST_PRESETS + 5):
        many = saved(many, f"mine {at}", Settings(k=1))
    assert len(many) == MOST_PRESETS


@pytest.mark.parametrize("content", [b"\xff", b"", b"{", b"3", b'{"k": 1}'])
def test_what_is_no_batch_is_refused_with_its_line(content: bytes) -> None:
    with pytest.raises(LinesError):
        requests_of(content)


def test_an_error_without_a_place_of_its_own_is_told_too() -> None:
    assert trouble_of(ServerError("oh", 500)).title == "No answer"
    assert trouble_of(ConnectionFailedError("gone")).again


def test_the_pools_tables_have_a_row_for_each_expert(mixture: str) -> None:
    with Counterpoint(mixture, model="mix") as client:
        client.chat("capital")
        pool = client.pool()
    assert [row["Expert"] for row in experts_table(pool)] == ["atlas", "globe", "rumour"]
    assert slots_table(pool) == []
    sample = pool.samples[-1] if pool.samples else None
    if sample is not None:
        assert newer((sample,), (sample, replace(sample, at=sample.at + 1))) == (sample, replace(sample, at=sample.at + 1))


def test_a_question_that_is_stopped_ends_at_once_and_keeps_its_words(mixture: str) -> None:
    question = Question(lambda pause: AsyncCounterpoint(mixture, model="mix", sleep=pause), [{"role": "user", "content": "slow"}], "atlas")
    question.start()
    while "word3" not in question.progress.text:
        assert not question.progress.ended
        time.sleep(0.02)
    question.stop()
    assert question.wait(10)
    assert question.progress.stopped
    assert "word399" not in question.progress.text
    assert question.progress.error is None


def test_a_question_to_nobody_ends_in_an_error() -> None:
    question = Question(lambda pause: AsyncCounterpoint("http://127.0.0.1:9", retries=0, sleep=pause), [{"role": "user", "content": "a"}])
    assert question.start().wait(30)
    assert isinstance(question.progress.error, ConnectionFailedError)


def test_the_page_asks_the_endpoint_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERPOINT_URL", "http://127.0.0.1:1234")
    assert address() == "http://127.0.0.1:1234"


class Kept:
    """What the endpoint keeps, as far as a shelf asks it."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {}
        self.conversations = self
        self.broken = False

    def create(self, messages: list[Any], title: str | None) -> Any:
        self.rows[id := f"c{len(self.rows)}"] = [*messages]
        return SimpleNamespace(id=id)

    def get(self, id: str) -> Any:
        if id not in self.rows:
            raise BadRequestError("no such conversation", 404)
        return SimpleNamespace(id=id, title="t", messages=tuple(self.rows[id]))

    def update(self, id: str, messages: list[Any] | None = None, append: list[Any] | None = None) -> None:
        self.get(id)
        self.rows[id] = [*messages] if messages is not None else self.rows[id] + (append or [])
        if self.broken:
            raise ConnectionFailedError("the answer was lost")


def said(kept: Kept, id: str | None) -> list[str]:
    return [row.content for row in kept.rows[id or ""]]


def talk(*texts: str, id: str | None = None) -> Talk:
    return Talk(tuple(Turn("user" if at % 2 == 0 else "assistant", text) for at, text in enumerate(texts)), id)


def shelf_of(kept: Kept) -> Any:
    return EndpointShelf(kept)  # type: ignore[arg-type]


def test_what_another_window_added_is_not_written_over() -> None:
    kept = Kept()
    mine, other = shelf_of(kept), shelf_of(kept)
    first = mine.keep(talk("a", "b"))
    opened = other.open(first.id)
    other.keep(talk("a", "b", "theirs", "yes", id=opened.id))
    board = Board(first)
    board.put(talk("edited", id=first.id), SimpleNamespace(shelf=lambda: mine))  # type: ignore[arg-type]
    assert board.talk.id != first.id
    assert board.note
    assert said(kept, first.id) == ["a", "b", "theirs", "yes"]
    assert said(kept, board.talk.id) == ["edited"]
    board.leave("mix", SimpleNamespace(shelf=lambda: mine))  # type: ignore[arg-type]
    assert not board.note


@pytest.mark.parametrize("texts", [("a", "b", "c"), ("other",)])
def test_a_conversation_that_was_deleted_elsewhere_goes_on_as_another(texts: tuple[str, ...]) -> None:
    kept = Kept()
    mine = shelf_of(kept)
    first = mine.keep(talk("a", "b"))
    del kept.rows[first.id]
    again = mine.keep(talk(*texts, id=first.id))
    assert said(kept, again.id) == [*texts]


@pytest.mark.parametrize("then", [("a", "b", "c", "d"), ("other",)])
def test_what_may_have_been_kept_already_is_not_kept_twice(then: tuple[str, ...]) -> None:
    kept = Kept()
    mine = shelf_of(kept)
    first = mine.keep(talk("a", "b"))
    kept.broken = True
    with pytest.raises(ConnectionFailedError):
        mine.keep(talk("a", "b", "c", id=first.id))
    kept.broken = False
    assert mine.keep(talk(*then, id=first.id)).id == first.id
    assert said(kept, first.id) == [*then]


def test_a_conversation_that_is_deleted_is_kept_nowhere_though_an_answer_comes() -> None:
    kept = Kept()
    board = Board()
    question = Question(lambda pause: AsyncCounterpoint("http://127.0.0.1:9", sleep=pause), [{"role": "user", "content": "a"}])
    board.ask((Turn("user", "a"),), [question], SimpleNamespace(shelf=lambda: shelf_of(kept)))  # type: ignore[arg-type]
    board.clear()
    assert (board.talk, board.under_way, len(kept.rows)) == (Talk(), [], 1)
    assert question.wait(10)
    assert question.progress.stopped


def test_a_board_that_nobody_holds_ends_its_questions() -> None:
    board = Board()
    question = Question(lambda pause: AsyncCounterpoint("http://127.0.0.1:9", retries=9, sleep=pause), [{"role": "user", "content": "a"}])
    board.ask((Turn("user", "a"),), [question], SimpleNamespace(shelf=SessionShelf))  # type: ignore[arg-type]
    del board
    gc.collect()
    assert question.wait(10)
    assert question.progress.stopped


def test_an_answer_that_had_come_is_not_marked_as_stopped(mixture: str) -> None:
    question = Question(lambda pause: AsyncCounterpoint(mixture, model="mix", sleep=pause), [{"role": "user", "content": "capital"}])
    assert question.start().wait(30)
    question.stop()
    assert not question.progress.stopped


def test_a_fault_of_the_page_is_told_as_one() -> None:
    def broken(_: object) -> AsyncCounterpoint:
        raise OSError("no more files")

    question = Question(broken, [{"role": "user", "content": "a"}])
    assert question.start().wait(10)
    assert "OSError: no more files" in str(question.progress.error)


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ("overloaded", "The endpoint is full: try again in a while"),
        ("unavailable", "The endpoint cannot answer now"),
        ("deadline_exceeded", "The answer took too long"),
        (None, "No expert could answer"),
    ],
)
def test_an_error_in_a_stream_is_told_by_its_code(code: str | None, title: str) -> None:
    with pytest.raises(ServerError) as caught:
        chunk_of("data: " + json.dumps({"error": {"message": "no", "code": code}}))
    assert trouble_of(caught.value).title == title


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["`" * 60_000, "`a ``b " * 20_000, "\\[" * 40_000, "\\(" * 40_000, "$$" + "$ a" * 20_000, "$a" * 40_000])
def test_a_text_that_only_begins_things_is_shown_at_once(text: str) -> None:
    assert harmless(text)
    assert marked(text, text[::-1]) is None or len(text.split()) <= MOST_WORDS


def test_code_between_single_backticks_ends_with_its_paragraph() -> None:
    assert harmless("a ` b $5\n\nc ` $6") == "a ` b \\$5\n\nc ` \\$6"
