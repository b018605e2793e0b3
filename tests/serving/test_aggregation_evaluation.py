import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aggregator import make_aggregator
from aggregator.fuse import INSTRUCTION
from data.records import Answer, Call, CounterpointError, Message, Sampling
from data.skills import Task
from experts import ExpertSpec
from experts.pool import ExpertPool
from router import KNNRouter
from serving.config import MixtureConfig, expert_specs
from serving.evaluation.aggregation import Outcome, PoolOnce, gaps, measure_kinds, measure_replayed, outcomes_of, systems_of
from serving.evaluation.ranking import CHANCE, drawn, rank_experts
from serving.journal import Journal
from serving.replay import replay

SUMS = [(2, 3), (4, 5), (10, 1), (20, 22), (7, 7), (30, 3)]
TASKS = [Task(f"sum-{a + b}", f"What is {a} + {b}?", str(a + b), "number", "small" if a < 10 else "large", "tune") for a, b in SUMS]


def table_of(said: Mapping[str, int], tasks: Sequence[Task] = TASKS) -> pd.DataFrame:
    """What experts said, each off the right sum by as much as it always is."""
    rows = []
    for task in tasks:
        for expert, off in said.items():
            number = int(task.answer) + off
            rows.append(
                {
                    "query_id": task.query_id,
                    "query": task.query,
                    "category": task.category,
                    "keywords": "addition; carrying" if task.category == "large" else "addition",
                    "expert": expert,
                    "score": float(off == 0),
                    "response": f"It is {number}.",
                    "prediction": str(number),
                    "prompt_tokens": 10,
                    "completion_tokens": 3,
                }
            )
    return pd.DataFrame(rows)


TABLE = table_of({"ann": 0, "bob": 0, "cid": 1, "dee": 1, "eve": 2})


class Watched(ExpertPool):
    """A pool that keeps its calls."""

    def __init__(self, specs: Sequence[ExpertSpec]) -> None:
        super().__init__(specs)
        self.calls: list[Call] = []

    async def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        return await super().answer(call)


def scripted(name: str, off: int | None, **rule: Any) -> ExpertSpec:
    """An expert that is off the right sum by a number."""
    says = [{"match": re.escape(task.query), "say": str(int(task.answer) + (off or 0))} | rule for task in TASKS]
    return ExpertSpec(name, "-", "scripted", options={"script": says})


async def ranked(output: Path, *specs: ExpertSpec, table: pd.DataFrame = TABLE, **how: Any) -> tuple[Any, list[Call]]:
    async with Watched(specs) as pool:
        return await rank_experts(pool, TASKS, table, [spec.name for spec in specs], output, **how), pool.calls


# draws


def test_one_right_and_two_different_wrong_answers_are_drawn() -> None:
    for draw in drawn(TASKS, TABLE):
        want = int(draw.task.answer)
        assert sorted(int(answer.parsed or "") for answer in draw.given) == [want, want + 1, want + 2]
        assert draw.given[draw.place - 1].parsed == draw.task.answer
        assert draw.alone == {"ann": 1.0, "bob": 1.0, "cid": 0.0, "dee": 0.0, "eve": 0.0}


def test_the_order_is_shuffled_by_the_seed_and_the_question_alone() -> None:
    places = {draw.task.query_id: draw.place for draw in drawn(TASKS, TABLE)}
    assert len({*places.values()}) > 1
    assert {draw.task.query_id: draw.place for draw in drawn(TASKS[::-2], TABLE)}.items() <= places.items()
    orders = {tuple(draw.given for draw in drawn(TASKS, TABLE, seed)) for seed in range(5)}
    assert len(orders) == 5


def test_answers_of_the_same_form_count_once() -> None:
    with pytest.raises(CounterpointError, match="none of the 6 questions has a right answer and two different wrong ones"):
        drawn(TASKS, table_of({"ann": 0, "cid": 1, "dee": 1}))


def test_questions_without_a_right_answer_are_left_out() -> None:
    table = pd.concat([table_of({"a": 0, "b": 1, "c": 2}, TASKS[:2]), table_of({"a": 3, "b": 1, "c": 2}, TASKS[2:])])
    assert [draw.task for draw in drawn(TASKS, table)] == TASKS[:2]


def test_empty_answers_and_those_that_come_to_nothing_are_never_given() -> None:
    table = TABLE.copy()
    table.loc[table["expert"] == "eve", "prediction"] = ""
    with pytest.raises(CounterpointError, match="none of the 6"):
        drawn(TASKS, table)


# ranking


async def test_each_candidate_writes_from_the_drawn_answers(tmp_path: Path) -> None:
    _, calls = await ranked(tmp_path / "rows.jsonl", scripted("good", 0), scripted("bad", 1))
    assert len(calls) == 2 * len(TASKS)
    draws = {draw.task.query_id: draw for draw in drawn(TASKS, TABLE)}
    for call in calls:
        draw = draws[call.id.partition("/")[0]]
        quoted = "\n".join(f'<answer number="{at}">{answer.text}</answer>' for at, answer in enumerate(draw.given, start=1))
        assert call.messages[0].content == f"{draw.task.query}\n\n{INSTRUCTION}\n{quoted}"
        assert call.batch


async def test_candidates_are_ranked_with_ties_and_copies(tmp_path: Path) -> None:
    ranking, _ = await ranked(tmp_path / "rows.jsonl", scripted("bad", 1), scripted("good", 0), scripted("own", 9), scripted("too", 0))
    assert [one.expert for one in ranking.candidates] == ["good", "too", "bad", "own"]
    assert ranking.tied == ["good", "too"]
    told = ranking.json()
    assert told["n"] == len(TASKS)
    assert told["chance"] == CHANCE
    rows = {row["expert"]: row for row in told["experts"]}
    assert [rows[name]["accuracy"] for name in ("good", "bad", "own")] == [1, 0, 0]
    assert [rows[name]["copies"] for name in ("good", "bad", "own")] == [1, 1, 0]
    assert rows["own"]["copies_first"] is None
    assert rows["bad"]["behind"] == [1, 1, 1]
    assert told["by_category"]["large"]["good"] == 1
    assert {name: scores["bad"] for name, scores in told["by_skill"].items()} == {"addition": 0, "carrying": 0}


async def test_a_candidates_own_answers_stand_beside(tmp_path: Path) -> None:
    ranking, _ = await ranked(tmp_path / "rows.jsonl", scripted("ann", 0), scripted("eve", 0), scripted("new", 0))
    alone = {one.expert: one.alone.mean() for one in ranking.candidates}
    assert (alone["ann"], alone["eve"]) == (1, 0)
    assert np.isnan(alone["new"])


async def test_answers_are_graded_by_their_tasks_grader(tmp_path: Path) -> None:
    wordy = ExpertSpec(
        "wordy", "-", "scripted", options={"script": [{"match": "2 \\+ 3", "say": "The answer is 5."}, {"match": ".", "say": "?"}]}
    )
    ranking, _ = await ranked(tmp_path / "rows.jsonl", wordy)
    assert ranking.candidates[0].right.tolist() == [1, 0, 0, 0, 0, 0]


async def test_a_ranking_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    whole, _ = await ranked(output, scripted("good", 0), scripted("bad", 1))
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:7]) + lines[7][:40])
    again, calls = await ranked(output, scripted("good", 0), scripted("bad", 1))
    assert len(calls) == 5
    assert again.json() == whole.json()
    assert len(output.read_text().splitlines()) == 12


async def test_rows_of_other_answers_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    await ranked(output, scripted("good", 0))
    with pytest.raises(CounterpointError, match=r"rows\.jsonl holds 'good' on 'sum-\d+' from another run"):
        await ranked(output, scripted("good", 0), seed=1)
    with pytest.raises(CounterpointError, match="from another run"):
        await ranked(output, scripted("good", 1))


async def test_a_ranking_that_is_cancelled_loses_nothing(tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await ranked(output, scripted("good", 0), scripted("slow", 0, delay_s=30))
    assert {json.loads(line)["expert"] for line in output.read_text().splitlines()} == {"good"}
    _, calls = await ranked(output, scripted("good", 0))
    assert calls == []


async def test_a_failing_candidate_is_named_and_the_others_kept(tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    failing = ExpertSpec("failing", "-", "scripted", options={"script": [{"match": ".", "fail": "told to"}]})
    with pytest.raises(CounterpointError, match="6 of 12 answers failed, first failing: told to"):
        await ranked(output, scripted("good", 0), failing)
    assert len(output.read_text().splitlines()) == 6


async def test_a_candidate_outside_the_pool_is_named(tmp_path: Path) -> None:
    async with ExpertPool([scripted("good", 0)]) as pool:
        with pytest.raises(CounterpointError, match="no expert is called 'other'; the pool has good"):
            await rank_experts(pool, TASKS, TABLE, ["other"], tmp_path / "rows.jsonl")


# kinds


def config_of(**rules: dict[str, Any]) -> MixtureConfig:
    """A mixture of three: two give the right sums, one is off; all say what they are told when they fuse."""
    experts = []
    for name, off in (("ann", 0), ("bob", 0), ("cid", 1)):
        fused = {"match": re.escape(INSTRUCTION), "say": "0"} | rules.get(name, {})
        experts.append(
            {"name": name, "model": "-", "engine": "scripted", "options": {"script": [fused, *scripted(name, off).options["script"]]}}
        )
    return MixtureConfig.model_validate({"version": 1, "experts": experts})


class Counted(PoolOnce):
    """A pool that counts what reaches its experts."""

    fresh = 0

    async def _fresh(self, call: Call) -> Answer:
        self.fresh += 1
        return await super()._fresh(call)


async def test_kinds_share_the_experts_plain_answers(tmp_path: Path) -> None:
    config = config_of()
    kinds = [("best", {"kind": "best"}), ("vote", {"kind": "vote"}), ("weighted", {"kind": "weighted"}), ("fuse", {"kind": "fuse"})]
    async with Counted(expert_specs(config)) as pool:
        assert isinstance(pool, Counted)
        rows = await measure_kinds(config, TASKS, kinds, tmp_path / "rows.jsonl", pool=pool)
        assert pool.fresh == len(TASKS) * (3 + 1)
    systems = {system.name: system for system in systems_of(rows)}
    assert {name: system.right.mean() for name, system in systems.items()} == {"best": 1, "vote": 1, "weighted": 1, "fuse": 0}
    assert {name: system.calls.mean() for name, system in systems.items()} == {"best": 3, "vote": 3, "weighted": 3, "fuse": 4}
    assert (systems["vote"].tokens == systems["best"].tokens).all()
    assert (systems["fuse"].tokens > systems["vote"].tokens).all()
    assert rows[0] == Outcome("sum-5", "What is 2 + 3?", "small", "best", 1.0, 3, 15, 3, pytest.approx(1 / 3))


async def test_samples_without_a_seed_are_drawn_each_time() -> None:
    config = config_of()
    async with Counted(expert_specs(config)) as pool:
        assert isinstance(pool, Counted)
        for how in 2 * [Sampling(temperature=0.7), Sampling(temperature=0.7, seed=1), Sampling()]:
            await pool.answer(Call("1", "ann", (Message("user", "Hi"),), how))
        assert pool.fresh == 4


async def test_kinds_go_on_after_a_torn_line(tmp_path: Path) -> None:
    config, output = config_of(), tmp_path / "rows.jsonl"
    kinds = [("vote", {"kind": "vote"}), ("self", {"kind": "self", "samples": 2})]
    ticks: list[int] = []
    whole = await measure_kinds(config, TASKS, kinds, output)
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:-2]) + lines[-2][:30])
    again = await measure_kinds(config, TASKS, kinds, output, lambda stage, done, total: ticks.append(done))
    assert again == whole
    assert ticks == [10, 11, 12]
    assert await measure_kinds(config, TASKS, kinds, output) == whole
    with Journal(output) as journal:
        assert sorted(map(str, outcomes_of(journal.rows))) == sorted(map(str, whole))


async def test_a_kind_whose_settings_changed_is_refused(tmp_path: Path) -> None:
    config, output = config_of(), tmp_path / "rows.jsonl"
    await measure_kinds(config, TASKS, [("self", {"kind": "self", "samples": 2})], output)
    with pytest.raises(CounterpointError, match=r"holds 'self' on .* from another run"):
        await measure_kinds(config, TASKS, [("self", {"kind": "self", "samples": 3})], output)
    await measure_kinds(config, TASKS, [("self of 3", {"kind": "self", "samples": 3})], output)


async def test_a_question_that_nobody_answers_is_told_and_the_others_kept(tmp_path: Path) -> None:
    silent = {"match": "2 \\+ 3", "fail": "told to"}
    config, output = config_of(ann=silent, bob=silent, cid=silent), tmp_path / "rows.jsonl"
    with pytest.raises(CounterpointError, match="1 of 6 answers failed, first vote, sum-5"):
        await measure_kinds(config, TASKS, [("vote", {"kind": "vote"})], output)
    assert len(output.read_text().splitlines()) == 5


async def test_a_failed_expert_marks_the_row(tmp_path: Path) -> None:
    rows = await measure_kinds(
        config_of(ann={"match": "2 \\+ 3", "fail": "told to"}), TASKS, [("vote", {"kind": "vote"})], tmp_path / "rows.jsonl"
    )
    assert [row.degraded for row in rows] == [True, False, False, False, False, False]


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ([("a", {"kind": "vote"}), ("a", {"kind": "best"})], "two kinds are called 'a'"),
        ([("a", {"kind": "guess"})], "a: no aggregator is called 'guess'"),
        ([("a", {"kind": "fuse", "expert": "zoe"})], "a: aggregator: no expert is called 'zoe'"),
        ([("a", {"kind": "self", "samples": 0})], "samples must be at least 1"),
    ],
)
async def test_kinds_that_do_not_fit_are_told_before_anybody_is_asked(kinds: list[Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(CounterpointError, match=told):
        await measure_kinds(config_of(), TASKS, kinds, tmp_path / "rows.jsonl")


# replayed, and compared


async def test_recorded_answers_give_the_same_rows_as_a_replay() -> None:
    router = KNNRouter(k=3).fit(TABLE)
    rows = await measure_replayed(TABLE, router, [("vote", make_aggregator("vote")), ("first", make_aggregator("best"))], 3)
    _, (vote,) = await replay(TABLE, router, 3, [make_aggregator("vote")])
    made = systems_of(rows)
    assert [system.name for system in made] == ["vote", "first"]
    np.testing.assert_array_equal(made[0].right, vote.right)
    np.testing.assert_array_equal(made[0].calls, vote.calls)
    np.testing.assert_array_equal(made[0].tokens, vote.tokens)
    assert rows[0].category == "small"
    assert rows[0].best_score == max(router.scores([TASKS[0].query])[0])


async def test_recorded_answers_cannot_replay_an_llm() -> None:
    with pytest.raises(CounterpointError, match="fuse"):
        await measure_replayed(TABLE, KNNRouter(k=3).fit(TABLE), [("fuse", make_aggregator("fuse"))], 3)


def outcome(query_id: str, kind: str, right: float, tokens: int = 10) -> Outcome:
    return Outcome(query_id, "?", "", kind, right, 3, tokens, 2, 0.5)


def test_systems_are_compared_at_the_questions_that_all_have_answered() -> None:
    rows = [*(outcome(str(n), "vote", 0.0) for n in range(5)), *(outcome(str(n), "fuse", 1.0, 40) for n in (4, 3, 2))]
    vote, fuse = systems_of(rows)
    assert (vote.right.tolist(), fuse.right.tolist()) == ([0, 0, 0], [1, 1, 1])
    assert (vote.tokens.tolist(), fuse.tokens.tolist()) == ([12] * 3, [42] * 3)
    assert vote.costs is None
    gap = gaps([vote, fuse], "vote")["fuse"]
    assert (gap.mean, gap.tie) == (1, False)
    assert [system.name for system in systems_of(rows, ["vote"])] == ["vote"]
    assert len(systems_of(rows, ["vote"])[0].right) == 5


def test_rows_that_are_no_outcomes_are_named() -> None:
    with pytest.raises(CounterpointError, match="it has no kind"):
        outcomes_of([{"query_id": "1", "query": "?", "category": ""}])


def test_kinds_without_rows_or_without_common_questions_are_named() -> None:
    with pytest.raises(CounterpointError, match="no rows of the kind 'self'; there are vote"):
        systems_of([outcome("1", "vote", 1.0)], ["self"])
    with pytest.raises(CounterpointError, match="no question was answered by all of vote, fuse"):
        systems_of([outcome("1", "vote", 1.0), outcome("2", "fuse", 1.0)])
    with pytest.raises(CounterpointError, match="nothing was measured that is called 'self'; there are vote"):
        gaps(systems_of([outcome("1", "vote", 1.0)]), "self")
