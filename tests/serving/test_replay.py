import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aggregator import AggregatorError, Best, Vote, make_aggregator
from aggregator.base import Ask
from aggregator.evidence import Asked
from aggregator.learned import Example, Learned, Ranked
from data.records import Answer, CounterpointError, Request, Route
from router import BestSingleRouter
from serving.replay import replay

Run = Callable[..., tuple[int, str, str]]
EXPERTS = ("a", "b", "c", "d")
CHANCES = dict(zip(EXPERTS, (0.8, 0.6, 0.4, 0.2), strict=True))


def table_of(n: int = 30) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for number in range(n):
        for expert, chance in CHANCES.items():
            good = bool(rng.random() < chance)
            said = f"{number} and 2 make {number + 2}. The answer is {number + 2}." if good else f"{number + int(rng.integers(3, 9))}"
            row = {"query_id": f"q{number:02}", "query": f"What is {number} + 2?", "expert": expert, "score": float(good)}
            rows.append(row | {"response": said, "prompt_tokens": 10, "completion_tokens": 1, "split": "test"})
    return pd.DataFrame(rows)


class OneMore(Vote):
    """Asks one more, one by one, until so many have answered."""

    def __init__(self, until: int) -> None:
        self.until, self.seen = until, list[int]()

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        self.seen.append(len(answers))
        assert tuple(answer.expert for answer in answers) == route.experts
        return await super().aggregate(request, answers, route, ask)

    def more(self, request: Request, answers: Sequence[Answer], route: Route, final: Answer) -> int:
        return int(len(answers) < self.until)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, a router, and combiners of both kinds."""
    folder, table = tmp_path_factory.mktemp("replay"), table_of()
    table.to_parquet(folder / "scores.parquet")
    BestSingleRouter().fit(table).save(folder / "router")
    examples = []
    for _, rows in table.groupby("query_id"):
        answers = [Answer(text, expert) for text, expert in zip(rows["response"], rows["expert"], strict=True)]
        examples.append(Example(Asked.of(rows["query"].iloc[0], answers, CHANCES), tuple(rows["score"])))
    for kind in (Learned, Ranked):
        kind.fit(examples, bag=1).save(folder / kind.kind)
    return folder


@pytest.fixture
def call(folder: Path, run: Run) -> Run:
    return lambda *rest: run("replay", "--scores", folder / "scores.parquet", "--router", folder / "router", *rest)


async def test_more_experts_are_asked_one_by_one_and_counted() -> None:
    table, asking = table_of(6), OneMore(3)
    _, (system,) = await replay(table, BestSingleRouter().fit(table), 1, [asking], most=4)
    assert asking.seen == [1, 2, 3] * 6
    assert system.calls.tolist() == [3.0] * 6
    assert system.tokens.tolist() == [33.0] * 6
    _, (capped,) = await replay(table, BestSingleRouter().fit(table), 1, [OneMore(9)], most=2)
    assert capped.calls.tolist() == [2.0] * 6
    _, (alone,) = await replay(table, BestSingleRouter().fit(table), 1, [OneMore(9)])
    assert alone.calls.tolist() == [1.0] * 6


async def test_the_first_choice_scores_as_the_best_expert_alone() -> None:
    table = table_of()
    top, (best, all_) = await replay(table, BestSingleRouter().fit(table), 4, [Best(), make_aggregator("vote")])
    mean = table.groupby("expert")["score"].mean().max()
    assert top.right.mean() == best.right.mean() == pytest.approx(mean)
    assert (top.name, best.name, all_.name) == ("router-top-1", "best-k4", "vote-k4")


async def test_a_kind_that_asks_experts_itself_cannot_be_replayed() -> None:
    table = table_of(5)
    with pytest.raises(AggregatorError, match="asks"):
        await replay(table, BestSingleRouter().fit(table), 2, [make_aggregator("fuse")])
    with pytest.raises(CounterpointError, match="none in common"):
        await replay(table.assign(expert="z" + table["expert"]), BestSingleRouter().fit(table), 2, [Vote()])


def test_a_price_spends_fewer_calls_and_at_1_none(call: Run, folder: Path) -> None:
    means = []
    for price in ("0", "0.05", "1"):
        how = ("--aggregator", "learned", "--combiner", folder / "learned", "--price", price)
        code, out, err = call("--k", 1, "--most", 4, *how, "--json")
        assert code == 0, err
        means.append(json.loads(out)["mean_calls"])
    assert means == sorted(means, reverse=True)
    assert 1 < means[0] <= 4
    assert means[-1] == 1


def test_several_aggregators_are_replayed_side_by_side_and_each_once(call: Run, folder: Path) -> None:
    kinds = [part for kind in ("vote", "learned", "vote") for part in ("--aggregator", kind)]
    code, out, err = call("--k", 3, *kinds, "--combiner", folder / "learned", "--json")
    assert code == 0, err
    report = json.loads(out)
    names = [system["name"] for system in report["systems"]]
    assert [name for name in names if name.endswith("-k3")] == ["vote-k3", "learned-k3"]
    by_name = {system["name"]: system for system in report["systems"]}
    assert by_name["learned-k3"]["accuracy"] >= by_name["vote-k3"]["accuracy"]
    assert report["mean_calls"] == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--aggregator", "vote", "--combiner", "learned"), "--combiner and --price are for learned, rank, auto and pool, not"),
        (("--aggregator", "bandit", "--combiner", "learned"), "not for bandit"),
        (("--aggregator", "vote", "--price", "0.1"), "not for vote"),
        (("--aggregator", "learned"), "the aggregator 'learned' needs a fitted combiner"),
        (("--aggregator", "rank", "--combiner", "learned"), "is a 'learned', not a 'rank'"),
        (("--aggregator", "learned", "--combiner", "nowhere"), "make one by `counterpoint combiner fit`"),
        (("--aggregator", "dice"), "no aggregator is called 'dice'"),
        (("--exclude", "a", "--exclude", "b", "--exclude", "c", "--exclude", "d"), "d"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(arguments: tuple[str, ...], sentence: str, call: Run, folder: Path) -> None:
    code, _, err = call(*(folder / part if part in ("learned", "nowhere") and at > 2 else part for at, part in enumerate(arguments)))
    assert (code, len(err.strip().splitlines())) == (2, 1), err
    assert sentence in err


def test_a_kind_that_asks_an_llm_is_refused(call: Run) -> None:
    code, _, err = call("--aggregator", "fuse")
    assert code == 2
    assert err.strip().splitlines()[-1] == "counterpoint: the aggregator 'fuse' asks an LLM, so given answers cannot replay it"
