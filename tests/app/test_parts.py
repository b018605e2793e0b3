import doctest
import importlib
import json
import time
from dataclasses import replace

import pytest

from app.export import as_json, as_markdown
from app.figures import experts_table, newer, slots_table
from app.harmless import harmless, pieces, plain
from app.history import MOST_TALKS, SessionShelf
from app.lines import LinesError, requests_of
from app.marking import marked
from app.session import address
from app.settings import MOST_PRESETS, PRESETS, Settings, saved
from app.trouble import trouble_of
from app.turns import MOST_ACCOUNTS, MOST_TURNS, Talk, Turn, bounded, sides, voted
from app.underway import Question
from counterpoint import AsyncCounterpoint, ConnectionFailedError, Counterpoint, ExpertAnswer, Explanation, Route, ServerError

PARTS = ["export", "harmless", "history", "lines", "marking", "settings", "trouble", "turns", "underway", "wording"]
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
