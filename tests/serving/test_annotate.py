import asyncio
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Answer, Call, CounterpointError
from data.scores import check_scores
from experts import ExpertSpec
from experts.pool import ExpertPool
from router.skill import keywords_of
from serving.annotate import LONGEST, annotate, keywords_of_reply


class Recording(ExpertPool):
    """A pool that keeps what it was asked."""

    def __init__(self, spec: ExpertSpec) -> None:
        super().__init__([spec])
        self.calls: list[Call] = []

    async def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        return await super().answer(call)


def asked(script: list[dict[str, object]], table: pd.DataFrame, rounds: int = 5) -> tuple[pd.DataFrame, list[Call], list[tuple[int, int]]]:
    """The annotated table, the calls that were made, and what was told of progress."""
    told: list[tuple[int, int]] = []

    pool = Recording(ExpertSpec("namer", "-", "scripted", options={"script": script}))

    async def work() -> pd.DataFrame:
        async with pool:
            return await annotate(pool, "namer", table, rounds, lambda done, total: told.append((done, total)))

    return asyncio.run(work()), pool.calls, told


SCRIPT: list[dict[str, object]] = [
    {"match": "two plus three", "say": "Keywords: arithmetic, numbers"},
    {"match": "sum of four", "fail": "told to fail"},
    {"match": "spell", "say": "I cannot name any skills."},
    {"match": "rhymes", "say": "Well then.\nKeywords: Rhyme."},
]


def by_question(table: pd.DataFrame) -> dict[str, str]:
    assert (table.groupby("query_id")["keywords"].nunique() == 1).all(), "the rows of one question say the same"
    return dict(zip(table["query_id"], table["keywords"], strict=True))


def test_every_question_gets_the_keywords_that_the_expert_named(score_table: pd.DataFrame) -> None:
    table, calls, told = asked(SCRIPT, score_table)
    assert by_question(table) == {"add": "arithmetic;numbers", "sum": "", "spell": "", "rhyme": "rhyme"}
    pd.testing.assert_frame_equal(table.drop(columns="keywords"), score_table)
    assert len(calls) == 4 * 5, "a question is asked once a round, whatever experts answered it"
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_each_round_draws_anew_and_the_same_again_next_time(score_table: pd.DataFrame) -> None:
    _, calls, _ = asked(SCRIPT, score_table, rounds=3)
    of_one = [call.sampling for call in calls if call.id.startswith("add/")]
    assert {(sampling.temperature, sampling.max_tokens) for sampling in of_one} == {(0.7, 64)}
    assert [sampling.seed for sampling in of_one] == [0, 1, 2]
    assert len({call.id for call in calls}) == len(calls)


def test_what_is_named_once_only_is_dropped(score_table: pd.DataFrame) -> None:
    says = {0: "algebra, sums, luck", 1: "sums, algebra", 2: "SUMS, geometry", 3: "", 4: "algebra and sums of very many things"}

    class Drawing(ExpertPool):
        async def answer(self, call: Call) -> Answer:
            text = f"Keywords: {says[call.sampling.seed or 0]}"
            return replace(await super().answer(call), text=text)

    async def work(rounds: int) -> pd.DataFrame:
        async with Drawing([ExpertSpec("namer", "-", "scripted")]) as pool:
            return await annotate(pool, "namer", score_table, rounds)

    assert by_question(asyncio.run(work(5)))["add"] == "sums;algebra", "most often named first"
    assert by_question(asyncio.run(work(2)))["add"] == "algebra;sums"
    assert by_question(asyncio.run(work(1)))["add"] == "algebra;sums;luck", "of one round everything is kept"


def test_old_keywords_are_replaced(score_table: pd.DataFrame) -> None:
    table, _, _ = asked(SCRIPT, score_table.assign(keywords="old"))
    assert "old" not in set(table["keywords"])


def test_the_skill_router_reads_what_was_written(score_table: pd.DataFrame) -> None:
    table, _, _ = asked(SCRIPT, score_table)
    queries = check_scores(table).drop_duplicates("query_id").reset_index(drop=True)
    assert keywords_of(queries, 5)[0] == ["arithmetic", "numbers"]


def test_an_expert_that_answers_nothing_at_all_is_told(score_table: pd.DataFrame) -> None:
    with pytest.raises(CounterpointError) as caught:
        asked([{"match": ".", "fail": "no key"}], score_table, rounds=2)
    assert str(caught.value) == "'namer' answered none of 8 calls: no key"


def test_the_question_stands_in_the_prompt_and_asks_for_one_line(score_table: pd.DataFrame) -> None:
    _, calls, _ = asked(SCRIPT, score_table, rounds=1)
    prompt = calls[0].messages[0].content
    assert prompt.endswith("Question: What is two plus three?")
    assert "Don't answer the question." in prompt


def test_braces_in_a_question_stay_as_they_are() -> None:
    row = {"query_id": "1", "query": "What is {question} in {0}?", "expert": "a", "score": 1.0}
    _, calls, _ = asked([{"match": r"\{question\} in \{0\}", "say": "Keywords: code"}], pd.DataFrame([row]), rounds=1)
    assert calls[0].messages[0].content.endswith("What is {question} in {0}?")


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("Keywords: algebra", ["algebra"]),
        ("**Keywords:** Algebra, *Number Theory*", ["algebra", "number theory"]),
        ("Sure!\nKeywords: a, b, a, A.\nThe answer is 4.", ["a", "b"]),
        ("Keywords: , ;, -", [";"]),
        ("algebra, sums", []),
        ("Keywords:", []),
        ("", []),
        (f"Keywords: {'x' * LONGEST}, {'y' * (LONGEST + 1)}", ["x" * LONGEST]),
    ],
)
def test_a_reply_is_read(reply: str, wanted: list[str]) -> None:
    assert keywords_of_reply(reply) == wanted


@given(st.text())
def test_no_reply_breaks_the_reader(reply: str) -> None:
    for text in (reply, f"Keywords:{reply}"):
        words = keywords_of_reply(text)
        assert all(0 < len(word) <= LONGEST and "," not in word and "\n" not in word for word in words)
        assert len(set(words)) == len(words)


def test_the_table_can_be_written_and_read_again(score_table: pd.DataFrame, tmp_path: Path) -> None:
    from data.scores import read_scores, write_scores

    table, _, _ = asked(SCRIPT, score_table)
    write_scores(table, tmp_path / "table.jsonl")
    again = read_scores(tmp_path / "table.jsonl")
    assert again["keywords"].tolist() == table["keywords"].tolist()
