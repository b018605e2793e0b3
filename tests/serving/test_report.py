import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.records import CounterpointError
from serving.evaluation.report import write_comparison, write_report
from serving.evaluation.report.amounts import gap_of
from serving.evaluation.report.blocks import Block, Figure, Section, Table, Text, figures_in
from serving.evaluation.report.board import Board
from serving.evaluation.report.contribution import contribution, usage
from serving.evaluation.report.figures import figures
from serving.evaluation.report.head import head
from serving.evaluation.report.honest import honest
from serving.evaluation.report.length import length_bias
from serving.evaluation.report.parts import first_choice, parts
from serving.evaluation.report.replaying import NoReplayError, majority, replayed
from serving.evaluation.report.weighted import suite_mean
from serving.evaluation.report.work import work
from serving.evaluation.report.worst import lost, worst
from serving.evaluation.rundata import OUTCOMES, QUESTIONS, RunData
from serving.runs import RunError

HOSTILE = '</td><script>alert(1)</script><img src="http://x.example/a.png" onerror=go()> ![p](http://x.example/b.png) | `c`\x00\u202e'
PREDICTED = {"ann": 0.9, "ben": 0.6, "cat": 0.5, "dan": 0.1}
SAYS = {  # question -> what ann, ben, cat and dan say; the right answer is always "A"
    "1": "AABB",
    "2": "BAAB",
    "3": "BBAA",
    "4": "AAAB",
    "5": "CAAA",
    "6": "ABBB",
    "7": "AABB",
    "8": "BAAA",
}
ALONE = {"ann": 4, "ben": 6, "cat": 5, "dan": 3}
"""Right answers of eight."""


def outcome(
    system: str, id: str, right: float, said: str, calls: int, asked: list[str], aggregator: str, predicted: Any = PREDICTED
) -> list[Any]:
    shares = [round(predicted.get(name, 1.0) / sum(predicted.get(one, 1.0) for one in asked), 6) for name in asked]
    told = json.dumps(asked), json.dumps(shares), asked[0], json.dumps(predicted), "[]", aggregator
    return [system, id, right, said, said, calls, 30 * calls, 10 * calls, 0.001 * calls, 0.5, False, *told]


@pytest.fixture
def data() -> RunData:
    """Eight questions, four experts, of whom the best three by one prediction are asked and vote."""
    query = "What holds of number {}? A) this B) that C) neither"
    questions = [
        [id, "sums" if int(id) < 5 else "words", "even" if int(id) % 2 == 0 else "odd", query.format(id), "A", "choice"] for id in SAYS
    ]
    cells = [
        {
            "query_id": id, "query": query.format(id), "expert": expert,
            "score": float(said == "A"), "split": "test",
            "category": "even" if int(id) % 2 == 0 else "odd", "answer": "A", "prediction": said, "response": said,
            "prompt_tokens": 30, "completion_tokens": 10,
            "cost": 0.001, "latency_s": 0.25,
        }
        for id, row in SAYS.items()
        for expert, said in zip(PREDICTED, row, strict=True)
    ]  # fmt: skip
    outcomes = []
    for id, row in SAYS.items():
        said = max("ABC", key=lambda one, row=row: (row[:3].count(one), -row[:3].find(one)))
        outcomes.append(outcome("mixture", id, float(said == "A"), said, 3, ["ann", "ben", "cat"], "vote"))
        outcomes.append(outcome("best-single sampled", id, float(row[1] == "A"), row[1], 3, ["ben"], "vote", {}))
    about = {
        "config": {"name": "demo", "router": {"path": "x", "policy": {"k": 3}}, "aggregator": {"kind": "vote"}},
        "command": "counterpoint eval run",
        "versions": {"python": "3.11"},
        "git": {"commit": "abc", "dirty": True},
        "seed": 0,
        "benchmarks": [{"name": name, "version": "1", "source": "here", "questions": 4, "dropped": 2} for name in ("sums", "words")],
        "weights": {"sums": 3.0, "words": 1.0},
    }
    made = {"wall_s": 12.5, "loads": 4, "wakes": 0, "swap_s": 3.0, "busy_s": 8.0, "gpus": 0, "gpu_seconds": 0.0, "tokens_per_s": 100.0}
    tables = pd.DataFrame(questions, columns=QUESTIONS), pd.DataFrame(cells), pd.DataFrame(outcomes, columns=OUTCOMES)
    return RunData("first", 1_700_000_000.0, about, tuple(PREDICTED), *tables, made)


def tables_in(blocks: list[Block]) -> list[Table]:
    found: list[Table] = []
    for block in blocks:
        found += tables_in([*block.blocks]) if isinstance(block, Section) else [block] if isinstance(block, Table) else []
    return found


def texts_in(blocks: list[Block]) -> str:
    told = [
        texts_in([*block.blocks]) if isinstance(block, Section) else block.text for block in blocks if isinstance(block, Section | Text)
    ]
    return "\n".join(told)


def cells_of(table: Table) -> dict[str, dict[str, str]]:
    """Cells by the words of their row, its last where there are several, and their column."""

    def text(value: object) -> str:
        return value if isinstance(value, str) else value.text  # type: ignore[attr-defined,no-any-return]

    return {text(row[table.left - 1]): dict(zip(table.columns, map(text, row), strict=True)) for row in table.rows}


def test_the_head_says_what_was_run_on_what(data: RunData) -> None:
    facts, benchmarks = tables_in(head(Board.of(data)))
    told = {str(row[0]): str(row[1]) for row in facts.rows}
    assert (told["run"], told["date"], told["seeds"]) == ("first", "2023-11-14 22:13 UTC", "0")
    assert told["code"] == "git abc, with changes that are not committed"
    assert told["machine"] == "not recorded"
    assert [row[3:] for row in benchmarks.rows] == [("4", "2", "3"), ("4", "2", "1")]


def test_the_table_of_systems_holds_what_is_counted_by_hand(data: RunData) -> None:
    found = cells_of(tables_in(honest(Board.of(data)))[0])
    # by hand: the majority of ann, ben and cat is right on 1, 2, 4, 5, 7 and 8; an expert is right on every question
    assert {name: row["score, %"] for name, row in found.items()} == {
        "random": f"{100 * 18 / 32:.1f}", "best-single (ben)": "75.0", "best-single sampled": "75.0", "category-oracle": "75.0",
        "oracle": "100.0", "expert:ann": "50.0", "expert:ben": "75.0", "expert:cat": "62.5", "expert:dan": "37.5", "mixture": "75.0",
    }  # fmt: skip
    assert (found["mixture"]["calls"], found["mixture"]["tokens"], found["mixture"]["US dollars"]) == ("3.00", "120", "0.003")
    assert (found["expert:dan"]["calls"], found["expert:dan"]["tokens"], found["expert:dan"]["US dollars"]) == ("1.00", "40", "0.001")
    assert found["mixture"]["- best single"].startswith("tie +0.0")
    assert found["best-single sampled"]["- best single sampled"] == "itself"
    assert found["oracle"]["- best single"].endswith("]")
    assert found["oracle"]["- best single"].removeprefix("tie ").startswith("+25.0")


def test_benchmarks_stand_apart_and_their_mean_is_weighted(data: RunData) -> None:
    sums, words, mean = tables_in(honest(Board.of(data)))[1:]
    # ann is right on 1 and 4 of the sums and on 6 and 7 of the words; dan on 3 of the sums, on 5 and 8 of the words
    assert (cells_of(sums)["expert:dan"]["score, %"], cells_of(words)["expert:dan"]["score, %"]) == ("25.0", "50.0")
    assert cells_of(mean)["expert:dan"]["score, %"] == f"{100 * (3 * 0.25 + 0.5) / 4:.1f}"


def test_a_weighted_mean_needs_every_benchmark_that_counts() -> None:
    names = np.array(["a", "b"], dtype=object)
    assert suite_mean(np.array([1.0, np.nan]), names, {"a": 1.0, "b": 1.0}) is None
    only = suite_mean(np.array([1.0, np.nan]), names, {"a": 1.0, "b": 0.0})
    assert only is not None
    assert (only.mean, only.low, only.high) == (1.0, 1.0, 1.0)


def test_each_part_says_what_it_adds(data: RunData) -> None:
    board = Board.of(data)
    mixture = board.mixtures[0]
    assert np.nanmean(first_choice(board, mixture)) == ALONE["ann"] / 8
    found = {words: row["points"] for words, row in cells_of(tables_in(parts(board))[0]).items()}
    assert "-25.0" in found["first choice - best single"]
    assert "-50.0" in found["first choice - oracle of the pool (regret, negative)"]
    assert "+25.0" in found["oracle of the pool - best single: what routing could gain"]
    assert "+25.0" in found["mixture - its own first choice"]
    assert found["mixture - plain majority of the same answers"] == "tie +0.0 [+0.0, +0.0]"
    assert "-25.0" in found["mixture - oracle of those asked: right answers not taken"]


def test_the_router_is_shown_with_its_calibration(data: RunData) -> None:
    router = cells_of(tables_in(parts(Board.of(data)))[1])
    # |0.9 - 4/8|, |0.6 - 6/8|, |0.5 - 5/8|, |0.1 - 3/8|, each a bin of its own
    assert router["calibration error of predicted probabilities (ECE, 15 bins), %"]["is"] == f"{100 * (0.4 + 0.15 + 0.125 + 0.275) / 4:.1f}"


def test_a_mixture_is_played_again_without_each_expert(data: RunData) -> None:
    board = Board.of(data)
    again = replayed(board, board.mixtures[0])
    assert (again.same, again.by_policy) == (1.0, True)
    # by hand, the majority of the three others, of equals the first: without ann of ben, cat, dan; without cat of ann, ben, dan
    assert again.without["ann"].tolist() == [0, 1, 1, 1, 1, 0, 0, 1]
    assert again.without["cat"].tolist() == [1, 0, 0, 1, 1, 0, 1, 1]
    assert again.without["dan"].tolist() == again.whole.tolist()
    gap = gap_of(again.whole, again.without["cat"], 0)
    assert gap is not None
    assert gap.mean == pytest.approx(1 / 8)
    assert cells_of(tables_in(contribution(board))[0])["cat"]["worth to the mixture"].startswith("tie +12.5")


def test_without_its_policy_the_next_best_takes_the_place(data: RunData) -> None:
    board = Board.of(replace(data, about={**data.about, "config": {"aggregator": {"kind": "vote"}}}))
    again = replayed(board, board.mixtures[0])
    assert not again.by_policy
    assert again.without["ann"].tolist() == [0, 1, 1, 1, 1, 0, 0, 1]


def test_what_cannot_be_played_again_says_why(data: RunData) -> None:
    asking = {**data.about["config"], "aggregator": {"kind": "fuse", "expert": "ann"}}
    board = Board.of(replace(data, about={**data.about, "config": asking}, outcomes=data.outcomes.assign(aggregator="fuse")))
    with pytest.raises(NoReplayError, match="the aggregator fuse asks an LLM"):
        replayed(board, board.mixtures[0])
    assert "not measured: the aggregator fuse asks an LLM" in texts_in(contribution(board))
    other = Board.of(replace(data, outcomes=data.outcomes.assign(score=1 - data.outcomes["score"])))
    with pytest.raises(NoReplayError, match="scores as in the run on 0% of the questions"):
        replayed(other, other.mixtures[0])
    silent = Board.of(replace(data, cells=data.cells.drop(columns=["response", "prediction"])))
    with pytest.raises(NoReplayError, match="holds no answers"):
        majority(silent, silent.mixtures[0])


def test_experts_that_are_never_asked_are_named(data: RunData) -> None:
    board = Board.of(data)
    used = usage(board, board.mixtures[0])
    assert used == {"ann": (8, 8, 4), "ben": (8, 0, 8), "cat": (8, 0, 5), "dan": (0, 0, 0)}
    assert "Never asked: dan." in texts_in(contribution(board))


def test_the_worst_questions_tell_who_lost_them(data: RunData) -> None:
    outcomes = data.outcomes.copy()
    mine = (outcomes["system"] == "mixture") & outcomes["question_id"].isin(["4", "5"])
    outcomes.loc[mine, ["score", "text"]] = [0.0, "B"]
    fifth = mine & (outcomes["question_id"] == "5")
    outcomes.loc[fifth, ["experts", "weights", "primary"]] = ['["ann"]', "[1.0]", "ann"]  # who says C, while all others are right
    board = Board.of(replace(data, outcomes=outcomes))
    assert lost(board, board.mixtures[0]) == [3, 4]
    said, fourth, last = worst(board)
    assert isinstance(said, Text)
    assert "wrong on 2 questions" in said.text
    assert isinstance(fourth, Section)
    assert isinstance(last, Section)
    assert fourth.title == "1. 4 (sums, even): lost by the aggregator"
    assert last.title == "2. 5 (words, odd): lost by the router"
    answers = cells_of(tables_in([last])[0])
    assert answers["C"]["asked with"] == "weight 1.00"
    assert answers["A"]["asked with"] == "not asked"
    assert answers["C"]["predicted right"] == "90%"


def test_a_mixture_without_such_questions_says_so(data: RunData) -> None:
    assert texts_in(worst(Board.of(data))) == "mixture was wrong on no question that most experts had right."


def test_length_counts_where_some_answers_were_taken(data: RunData) -> None:
    long = data.cells.assign(response=[text + " because" * 9 if text == "A" else text for text in data.cells["response"]])
    outcomes = data.outcomes.assign(text=[text + " because" * 9 if text == "A" else text for text in data.outcomes["text"]])
    board = Board.of(replace(data, cells=long, outcomes=outcomes))
    bias = length_bias(board, board.mixtures[0])
    assert bias is not None
    assert (bias.questions, bias.left_out) == (7, 1)  # on question 4 all three who were asked say A
    assert bias.right is not None
    assert bias.chosen is not None
    assert bias.right.mean == pytest.approx(1.0)
    assert bias.chosen.mean < 1.0  # on 3 and 6 the short, wrong answers are taken


def test_work_is_summed_over_all_questions(data: RunData) -> None:
    systems, machine = tables_in(work(Board.of(data)))
    found = cells_of(systems)["mixture"]
    assert [found[name] for name in ("calls", "tokens read", "tokens written", "US dollars")] == ["24", "720", "240", "0.024"]
    assert cells_of(machine)["GPU-seconds"]["is"] == "0.0"
    assert "calls that were made (the others were kept from before): not measured" in texts_in(work(Board.of(data)))


def test_every_figure_has_axes_with_names_and_a_caption(data: RunData) -> None:
    drawn = figures_in(figures(Board.of(data)))
    axes = {
        "front": ["US dollars a question", "score, % (95% interval)"],
        "categories": ["expert, then the systems of the mixture", "category (questions)"],
        "reliability": ["predicted probability of being right, %", "score, %", "answers"],
        "lengths": ["length of the answer, characters (mean of the group)", "score, % (95% interval)"],
        "use": ["share of questions, %", "expert"],
    }
    assert [figure.name for figure in drawn] == list(axes)
    for figure in drawn:
        assert all(f">{label}</text>" in figure.svg for label in axes[figure.name]), figure.name
        assert len(figure.caption) > 40
    assert "ECE) 23.8%" in drawn[2].caption
    assert [int(text) for text in re.findall(r">(\d+)</text>", drawn[1].svg)][:5] == [
        50,
        75,
        75,
        25,
        75,
    ]  # even: ann, ben, cat, dan, mixture


def test_nothing_is_shown_that_was_not_measured(data: RunData, tmp_path: Path) -> None:
    bare = replace(data, cells=data.cells.iloc[:0], outcomes=data.outcomes.iloc[:0], work={}, about={})
    write_report(bare, tmp_path)
    told = (tmp_path / "report.md").read_text()
    assert "Baselines and single experts: not measured: no expert was asked alone." in told
    assert "the run has no system of the mixture" in told
    assert "nan" not in told
    assert not list((tmp_path / "figures").iterdir())


def test_an_expert_without_answers_is_left_out_and_named(data: RunData, tmp_path: Path) -> None:
    part = replace(data, cells=data.cells[data.cells["expert"] != "dan"])
    write_report(part, tmp_path)
    told = (tmp_path / "report.md").read_text()
    assert "Alone: dan: not measured: the run holds no answers of theirs." in told
    assert "expert:dan" not in told


def test_answers_are_text_and_nothing_else(data: RunData, tmp_path: Path) -> None:
    outcomes = data.outcomes.copy()
    outcomes.loc[(outcomes["system"] == "mixture") & (outcomes["question_id"] == "4"), ["score", "text"]] = [0.0, HOSTILE]
    cells = data.cells.copy()
    cells.loc[(cells["query_id"] == "4") & (cells["expert"] == "dan"), "response"] = HOSTILE
    questions = data.questions.assign(category="<i>$x$</i> & co", benchmark=data.questions["benchmark"] + "<script>")
    write_report(replace(data, questions=questions, cells=cells, outcomes=outcomes), tmp_path)
    page, text = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "<i>" not in page
    assert re.findall(r"<img|<iframe|<link|<object|<embed|<image|@import", page) == []
    assert [
        link for link in re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]*)""", re.sub(r"&\w+;|>[^<]*<", "><", page)) if link[0] != "#"
    ] == []
    assert [link for link in re.findall(r"url\(([^)]*)\)", page) if not link.startswith("#")] == []
    assert "http-equiv" in page
    assert not {"\x00", "\u202e"} & set(page + text)
    assert "<script" not in text
    assert "<img" not in text
    assert re.findall(r"(?<!\\)!\[|(?<!\\)\]\(http", text) == []
    for row in (line for line in text.splitlines() if "alert" in line and line.startswith("|")):
        assert len(re.findall(r"(?<!\\)\|", row)) == 6


def test_the_page_is_whole(data: RunData, tmp_path: Path) -> None:
    from html.parser import HTMLParser

    write_report(data, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    open_, ids = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            ids.extend(value for name, value in attributes if name == "id")
            if tag not in ("meta", "br"):
                open_.append(tag)

        def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            ids.extend(value for name, value in attributes if name == "id")

        def handle_endtag(self, tag: str) -> None:
            assert open_.pop() == tag

    Reader().feed(page)
    assert open_ == []
    assert len(ids) == len(set(ids))
    assert page.count("<svg") == 5
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"{name}.svg" for name in ("front", "categories", "reliability", "lengths", "use")
    }


def test_the_same_run_gives_the_same_report(data: RunData, tmp_path: Path) -> None:
    data.save(tmp_path / "run")
    write_report(data, tmp_path / "a")
    write_report(RunData.load(tmp_path / "run"), tmp_path / "b")
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


def test_a_run_that_makes_no_sense_is_refused(data: RunData, tmp_path: Path) -> None:
    with pytest.raises(CounterpointError, match="the run first has no questions"):
        write_report(replace(data, questions=data.questions.iloc[:0]), tmp_path)
    with pytest.raises(CounterpointError, match="question 1, column predicted: no JSON dict: 'oops'"):
        write_report(replace(data, outcomes=data.outcomes.assign(predicted="oops")), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CounterpointError, match="the report cannot be written"):
        write_report(data, tmp_path / "file")


def test_runs_are_compared_on_the_questions_that_both_asked_in_the_same_words(data: RunData) -> None:
    better = data.outcomes.assign(
        score=[1.0 if name == "mixture" else score for name, score in zip(data.outcomes["system"], data.outcomes["score"], strict=True)]
    )
    other = replace(data, name="second", outcomes=better, questions=data.questions.assign(query=["changed", *data.questions["query"][1:]]))
    text, body = write_comparison(other, data)
    assert (body["questions"], body["changed"], body["only_a"], body["only_b"]) == (7, 1, 0, 0)
    found = {row["system"]: row for row in body["systems"]}
    assert (found["mixture"]["a"], round(found["mixture"]["b"], 4), found["mixture"]["difference"]) == (1.0, 0.7143, 0.2857)
    assert found["expert:ann"]["tie"]
    assert {name: rows[0]["questions"] for name, rows in body["benchmarks"].items()} == {"sums": 3, "words": 4}
    assert "7 questions that both runs asked in the same words. 1 of the same id" in text
    assert json.loads(json.dumps(body)) == body


def test_runs_with_nothing_in_common_are_not_compared(data: RunData) -> None:
    other = replace(data, name="second", questions=data.questions.assign(answer="B"))
    with pytest.raises(RunError, match="the runs first and second have no question in common"):
        write_comparison(data, other)


def test_a_figure_is_part_of_what_holds_it() -> None:
    figure = Figure("x", "<svg/>", "seen")
    assert figures_in([Section("a", (Section("b", (figure,)),))]) == [figure]
