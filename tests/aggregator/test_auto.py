from pathlib import Path

import numpy as np
import pytest

from aggregator import AggregatorError, Vote, make_aggregator
from aggregator.auto import Auto, Choice, Measured, save_choice
from aggregator.base import Nobody
from aggregator.checks import answers_of
from aggregator.learned import Learned
from data.records import Message, Request, Route

SUMS = [f"What is {at} plus {at + 3}?" for at in range(60)]
WORDS = [f"Which word rhymes with house number {at}?" for at in range(60)]


def measured(**tokens: float) -> Measured:
    """`sums` is right on sums only, `words` on words only, `even` on two thirds of both."""
    truth = np.array([1.0] * 60 + [0.0] * 60)
    even = np.array([1.0, 1.0, 0.0] * 40)
    right = {"even": even, "sums": truth, "words": 1 - truth}
    return Measured([*SUMS, *WORDS], np.full(120, 0.5), right, {name: np.full(120, tokens.get(name, 100.0)) for name in right})


def test_it_learns_which_aggregator_is_good_at_what() -> None:
    choice = Choice.fit(measured(), 0.0)
    assert choice.names[0] == "even"
    assert [choice(text, 0.5) for text in ("What is 7 plus 90?", "Which word rhymes with cat?")] == ["sums", "words"]


def test_what_gains_less_than_its_tokens_cost_is_not_chosen() -> None:
    choice = Choice.fit(measured(sums=1100.0), 0.5)  # a thousand tokens more, for a third more right answers
    assert [choice(text, 0.5) for text in ("What is 7 plus 90?", "Which word rhymes with cat?")] == ["even", "words"]
    assert choice("What is 7 plus 90?", 0.5, price=0.05) == "sums"


def test_where_nothing_foretells_gains_the_best_as_a_whole_is_chosen() -> None:
    rng = np.random.default_rng(0)
    right = {"a": (rng.random(120) < 0.4).astype(float), "b": (rng.random(120) < 0.8).astype(float)}
    choice = Choice.fit(Measured([*SUMS, *WORDS], np.full(120, 0.5), right, dict.fromkeys(right, np.ones(120))), 0.0)
    assert {choice(text, 0.5) for text in [*SUMS, *WORDS]} == {"b"}


@pytest.mark.parametrize("names", [("even",), ()])
def test_one_aggregator_is_no_choice(names: tuple[str, ...]) -> None:
    whole = measured()
    with pytest.raises(AggregatorError, match="ten questions and two aggregators, not 120 and"):
        Choice.fit(Measured(whole.questions, whole.best, {n: whole.right[n] for n in names}, whole.tokens), 0.0)


async def test_the_artefact_holds_what_it_chooses_among_and_moves_with_it(tmp_path: Path, combiners: dict[str, Path]) -> None:
    choice = Choice.fit(measured(), 0.0)
    settings = {"even": {"kind": "vote"}, "sums": {"kind": "learned", "path": str(combiners["learned"])}, "words": {"kind": "best"}}
    save_choice(choice, settings, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    auto = make_aggregator("auto", path=str(tmp_path / "there"))
    assert isinstance(auto, Auto)
    assert not auto.llm
    route = Route(("ann", "bob", "cid"), (0.4, 0.3, 0.3), "ann", {"ann": 0.5, "bob": 0.4, "cid": 0.4})
    for text, kind in ((SUMS[0], Learned), (WORDS[0], type(make_aggregator("best")))):
        request = Request("r", (Message("user", text),))
        assert isinstance(auto.suited(request, route), kind)
        given = answers_of("3", "4", "4")
        assert await auto.aggregate(request, given, route, Nobody("auto")) == await auto.suited(request, route).aggregate(
            request, given, route, Nobody("auto")
        )


def test_another_kinds_artefact_is_refused(combiners: dict[str, Path]) -> None:
    with pytest.raises(AggregatorError, match="is a 'learned', not a choice among aggregators"):
        make_aggregator("auto", path=str(combiners["learned"]))
    assert isinstance(make_aggregator("vote"), Vote)
