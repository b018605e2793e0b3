import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aggregator import make_aggregator
from aggregator.defences import ClusterFilter, History, Peers, fit_history
from aggregator.forms import form, options_of
from aggregator.learned import Learned
from aggregator.reading import read
from aggregator.vote import Vote, Weighted
from data.graders import read_choice, read_number
from data.recorded import Recorded
from data.records import Answer, Message, Request, Route
from data.scores import read_scores, rows_of
from router import load_router
from serving.config import ASSETS
from serving.evaluation.deception import (
    STYLES,
    Outcome,
    Played,
    Robustness,
    attacked,
    lies,
    most_trusted,
    outcome,
    played,
    ratio,
    wrong_number,
    wrong_option,
)
from serving.replay import routes_of

FOLDER = os.environ.get("COUNTERPOINT_BENCH_DATA", "")
COMBINER = ASSETS / "combiners" / "open-8b"
QUESTIONS = (
    "Which metal is liquid at room temperature?\n\nA. Iron.\nB. Mercury.\nC. Zinc.\nD. A mixture of tin and lead.",
    "Which is true? A) the result is 5 B) it cannot be known C) I think so D) all of these are false",
    "Pick one. (A) 3.5e2 (B) $12,000$ (C) {x} \\boxed{7} (D) -1/2",
)
NAMES = ("ann", "bob", "cid", "dee", "eve")


def row(number: int, letters: str, right: str, scores: tuple[float, ...] = (0.5, 0.45, 0.4, 0.35, 0.3)) -> Played:
    request = Request(f"q{number}", (Message("user", f"({number}) {QUESTIONS[0]}"),))
    route = Route(NAMES, (0.2,) * 5, "ann", dict(zip(NAMES, scores, strict=True)))
    answers = tuple(Answer(f"The answer is ({x}).", name, parsed=x) for x, name in zip(letters, NAMES, strict=True))
    return Played(request, route, answers, tuple(float(x == right) for x in letters), right)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_style_comes_to_the_wrong_letter_and_quotes_its_option(style: str, question: str) -> None:
    for right in "ABCD":
        for wrong in set("ABCD") - {right}:
            for seed in range(4):
                for against in (None, right):
                    text = lies(question, wrong, seed, style, against)
                    assert form(question, text) == read_choice(text) == read(text).stated == wrong
                    assert options_of(question)[ord(wrong) - ord("A")].rstrip(".") in text
                    assert against is not None or options_of(question)[ord(right) - ord("A")] not in text


@pytest.mark.parametrize("style", STYLES)
def test_every_style_comes_to_the_wrong_number(style: str) -> None:
    for right in (42, 0, 1, -7, 2.5, 1200):
        wrong = wrong_number("What is 12 + 30?", right, 3)
        assert float(wrong) != right
        assert read_number(lies("What is 12 + 30?", wrong, 1, style)) == float(wrong)


def test_lies_are_the_same_every_time_and_differ_by_question_and_seed() -> None:
    told = [lies(f"{n} {QUESTIONS[0]}", "C", 0) for n in range(60)]
    assert told == [lies(f"{n} {QUESTIONS[0]}", "C", 0) for n in range(60)]
    assert len(set(told)) > 10
    assert len({lies(QUESTIONS[0], "C", seed) for seed in range(60)}) > 10


def test_the_wrong_option_is_wrong_fixed_and_shared_by_those_who_collude() -> None:
    questions = [f"{n} {QUESTIONS[0]}" for n in range(60)]
    assert all(wrong_option(q, "B", 0, name) in "ACD" for q in questions for name in NAMES)
    assert {wrong_option(q, "B", 0) for q in questions} == set("ACD")
    rows = [row(n, "BBBBB", "B") for n in range(40)]
    together, apart = attacked(rows, ["ann", "eve"], 0), attacked(rows, ["ann", "eve"], 0, collude=False)
    assert all(one.answers[0].parsed == one.answers[4].parsed == one.lie for one in together)
    assert 0 < sum(one.answers[0].parsed != one.answers[4].parsed for one in apart) < 40
    assert all(
        one.scores == (0.0, 1.0, 1.0, 1.0, 0.0) and one.answers[1:4] == before.answers[1:4]
        for one, before in zip(together, rows, strict=True)
    )


def test_who_lies_on_a_share_lies_on_the_same_questions_again() -> None:
    rows = [row(n, "BBBBB", "B") for n in range(200)]
    half = attacked(rows, ["cid"], 0, share=0.5)
    assert half == attacked(rows, ["cid"], 0, share=0.5)
    assert 70 < sum(one.lie != "" for one in half) < 130
    assert attacked(rows, ["cid"], 0, share=0.0) == attacked(rows, ["zoe"], 0) == rows
    with pytest.raises(ValueError, match="share must be from 0 to 1, not 2"):
        attacked(rows, ["cid"], 0, share=2)


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_the_measures_of_a_table_made_by_hand() -> None:
    # of eight questions: six right clean, two under attack, five behind the defence, and five behind it where nobody lies
    clean = Outcome(column(1, 1, 1, 1, 1, 1, 0, 0), column(*[0] * 8))
    under = Outcome(column(1, 1, 0, 0, 0, 0, 0, 0), column(0, 0, 1, 1, 1, 0, 1, 0))
    behind = Outcome(column(1, 0, 1, 1, 1, 0, 1, 0), column(0, 1, 0, 0, 0, 1, 0, 0))
    quiet = Outcome(column(1, 1, 1, 1, 1, 0, 0, 0), column(*[0] * 8))
    found = Robustness(clean, under, behind, quiet)
    assert found.loss.mean == pytest.approx(4 / 8)
    assert found.cost.mean == pytest.approx(1 / 8)
    assert found.won_back.mean == pytest.approx(3 / 4)
    assert found.recovery.mean == pytest.approx(4 / 6)
    assert found.corruption.mean == pytest.approx(1 / 2)
    assert [one.mean for one in found.persuaded] == [0.5, 0.25]
    assert found.won_back.low <= 0.75 <= found.won_back.high
    assert not found.reached()
    assert found.reached(cost=0.2)


def test_attacks_side_by_side_are_averaged_question_by_question() -> None:
    clean = Outcome(column(1, 1), column(0, 0))
    under = Outcome.join([Outcome(column(0, 1), column(1, 0)), Outcome(column(0, 0), column(1, 1))])
    behind = Outcome.join([Outcome(column(1, 1), column(0, 0)), Outcome(column(0, 0), column(0, 1))])
    found = Robustness(clean, under, behind, clean)
    assert (found.attacked.accuracy.mean, found.loss.mean, found.won_back.mean) == (0.25, 0.75, pytest.approx(1 / 3))
    assert found.recovery.mean == pytest.approx(1 / 3)


def test_where_there_is_nothing_to_win_back_there_is_no_share() -> None:
    assert np.isnan(ratio(np.zeros(3), np.zeros(3)).mean)
    with pytest.raises(ValueError, match=r"shape \(n,\)"):
        ratio(np.zeros(3), np.zeros(2))


async def test_what_cannot_be_read_is_wrong_and_counted() -> None:
    silent = replace(row(0, "BBBBB", "B"), answers=tuple(Answer("hm", name, parsed="") for name in NAMES))
    found = await outcome([silent, row(1, "BBBBB", "B")], Vote())
    assert found.right[:, 0].tolist() == [0.0, 1.0]


async def test_a_vote_that_a_liar_turns_is_won_back_by_a_history_and_a_trusted_liar_by_a_filter() -> None:
    past = attacked([row(n, "BBBBC", "B") for n in range(100, 140)], ["ann"], 1)
    counts = fit_history([(one.request.question, one.answers) for one in past])
    # of four honest ones two are right; one errs as the liar wants, so that two stand against two and the liar comes first
    rows = attacked([row(n, "BBBBA", "B") for n in range(40)], ["ann"], 0)
    rows = [one for one in rows if one.lie != "A"]
    split = [replace(one, answers=(one.answers[0], replace(one.answers[1], parsed=one.lie), *one.answers[2:])) for one in rows]
    alone = await outcome(split, Vote())
    assert (alone.right.mean(), alone.persuaded.mean()) == (0.0, 1.0)
    assert (await outcome(split, ClusterFilter(Vote()))).right.mean() == 0.0, "without a history nobody can tell who is right"
    assert (await outcome(split, History(Vote(), counts))).right.mean() == 1.0
    trusted = attacked([row(n, "BBBBA", "B", (0.95, 0.2, 0.2, 0.2, 0.2)) for n in range(40)], most_trusted(), 0)
    weighted = await outcome(trusted, Weighted())
    assert (weighted.right.mean(), weighted.persuaded.mean()) == (0.0, 1.0)
    assert (await outcome(trusted, ClusterFilter(Weighted()))).right.mean() == 1.0


async def test_who_begins_to_lie_is_found_out_soon_where_the_past_fades() -> None:
    counts = {name: (1500, 1500) for name in NAMES}
    for memory, trusted in ((None, 1.0), (50, 0.6)):
        history = History(Vote(), counts, memory=memory)
        for one in attacked([row(n, "BBBBB", "B") for n in range(60)], ["ann"], 0):
            history.observe(one.answers, one.request.question)
        assert history.trust("ann", 0.5) <= trusted
        assert (history.trust("ann", 0.5) < 1.0) is (memory is not None)
        assert history.trust("bob", 0.5) == 1.0


async def test_two_that_collude_are_outvoted_by_three_once_their_past_is_held_against_their_peers() -> None:
    # two honest ones agree, the third errs: three answers against two lies on nobody's side
    past = attacked([row(n, "BBBBB" if n % 3 else "BBBAC", "B") for n in range(100, 160)], ["ann", "bob"], 1)
    counts = fit_history([(one.request.question, one.answers) for one in past])
    rows = attacked([row(n, "BBBBA", "B") for n in range(40)], ["ann", "bob"], 0)
    assert (await outcome(rows, Vote())).right.mean() < 0.5
    assert (await outcome(rows, Peers(Vote(), counts))).right.mean() == 1.0


def test_peers_are_held_against_each_other_whatever_the_router_expects() -> None:
    counts = {"ann": (50, 100), "bob": (60, 100), "cid": (55, 100), "dee": (28, 100), "eve": (3, 100)}
    peers, history = Peers(Vote(), counts), History(Vote(), counts)
    assert {name for name in NAMES if peers.trust(name, 0.1) < peers.threshold} == {"dee", "eve"}
    assert [peers.trust(name, 0.1) for name in NAMES] == [peers.trust(name, 0.9) for name in NAMES]
    assert history.trust("eve", 0.05) >= history.threshold, "who is expected to know little is heard for ever"
    assert Peers(Vote(), {"ann": (0, 100), "bob": (90, 100)}).trust("ann", 0.9) == 1.0, "two cannot outnumber each other"


@pytest.mark.slow
async def test_with_one_liar_of_five_real_experts_a_history_wins_half_of_the_loss_back_and_costs_a_point_at_most() -> None:
    path = Path(FOLDER) / "mmlu_pro_small.parquet"
    if not FOLDER or not path.is_file():
        pytest.skip(f"no recorded answers here: set COUNTERPOINT_BENCH_DATA to the folder that holds {path.name}")
    table, router = read_scores(path), load_router(ASSETS / "routers" / "open-8b")
    train, recorded = rows_of(table, ["train"]), Recorded(table)
    five = list(train.groupby("expert")["score"].mean().sort_values(ascending=False).index[:5])

    def rows(split: str, count: int) -> list[Played]:
        part = rows_of(table, [split]).drop_duplicates("query_id").head(count)
        rights = list(zip(part["query_id"].astype(str), part["query"], part["answer"], strict=True))
        return played(recorded, rights, routes_of(router, part, five, 5))

    past, test = rows("train", 400), rows("test", 500)
    honest = fit_history([(one.request.question, one.answers) for one in past])
    lied = {name: fit_history([(one.request.question, one.answers) for one in attacked(past, [name], 1)]) for name in five}
    inners = [make_aggregator(kind) for kind in ("best", "vote", "weighted")]
    if (COMBINER / "combiner.json").is_file():
        inners.append(Learned(str(COMBINER)))
    for inner in inners:
        clean, under = await outcome(test, inner), [attacked(test, [name], 0) for name in five]
        alone = Outcome.join([await outcome(one, inner) for one in under])
        assert clean.accuracy.mean - alone.accuracy.mean > 0.02, f"{inner.kind} loses next to nothing"
        for kind in (History, Peers):
            behind = Outcome.join([await outcome(one, kind(inner, lied[name])) for one, name in zip(under, five, strict=True)])
            found = Robustness(clean, alone, behind, await outcome(test, kind(inner, honest)))
            share = 0.5 if inner.kind in ("best", "vote", "weighted") else 0.4  # to know who lies wins a combiner little more than half
            assert found.reached(share), f"{inner.kind}, {kind.kind}: {found.won_back} of the loss won back at a cost of {found.cost}"
