import asyncio
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import AggregatorError, Vote, make_aggregator
from aggregator.artefact import COMBINER
from aggregator.base import Ask
from aggregator.checks import Writer, question
from aggregator.pooling import PROMPTS, Opinions, Pooled, PoolWeights, fit_pool, opinion, opinions_of, pooled
from data.artefact import write_artefact
from data.records import Answer, Message, Request, Route, Usage
from data.scores import check_scores

LETTERS = "ABCD"
CHOICE = "Which is true? A) one B) two C) three D) four"
NOISY = ["noisy1", "noisy2", "noisy3", "noisy4"]


def planted(n: int, experts: dict[str, float], seed: int = 0) -> pd.DataFrame:
    """Experts whose logits lean to the right letter by so much, beside noise of their own; a negative lean is away from it."""
    rng = np.random.default_rng(seed)
    rows = []
    for at in range(n):
        right = int(rng.integers(4))
        for expert, lean in experts.items():
            logits = rng.normal(size=4) + lean * (np.arange(4) == right)
            told = logits - np.logaddexp.reduce(logits)
            rows.append(
                {
                    "query_id": f"q{at}",
                    "query": f"{CHOICE} ({at})",
                    "expert": f"{expert}@letter",
                    "score": float(told.argmax() == right),
                    "answer": LETTERS[right],
                    "prediction": LETTERS[int(told.argmax())],
                    "logprobs": json.dumps(dict(zip(LETTERS, told.tolist(), strict=True))),
                }
            )
    return check_scores(pd.DataFrame(rows))


def accuracy(known: Opinions, weights: np.ndarray) -> float:
    return float((pooled(known.told, weights, known.offset).argmax(axis=1) == known.truth).mean())


def of_votes(table: pd.DataFrame) -> float:
    route = Route(("a",), (1.0,), "a", {})
    right = []
    for _, rows in table.groupby("query_id", sort=False):
        answers = [Answer(letter, expert) for letter, expert in zip(rows["prediction"], rows["expert"], strict=True)]
        final = asyncio.run(Vote().aggregate(question(CHOICE), answers, route, Writer()))
        right.append(final.text == rows["answer"].iloc[0])
    return float(np.mean(right))


def test_the_clean_expert_among_noisy_ones_gets_the_largest_weight_and_the_pool_beats_equal_weights_and_the_vote() -> None:
    experts = dict.fromkeys(NOISY, 0.0) | {"clean": 3.0}
    learned = fit_pool(planted(200, experts))
    assert max(learned.weights, key=lambda name: learned.weights[name]) == "clean@letter"
    test = planted(400, experts, seed=1)
    names, known = opinions_of(test)
    ours = accuracy(known, np.array([learned.weights[name] for name in names]))
    equal, vote = accuracy(known, np.full(5, 1 / 5)), of_votes(test)
    assert ours > max(equal, vote) + 0.05
    assert ours > 0.9


def test_an_expert_that_is_always_wrong_gets_a_negative_weight_and_is_of_use() -> None:
    experts = {"fair": 1.0, "anti": -3.0}
    learned = fit_pool(planted(300, experts))
    assert learned.weights["anti@letter"] < 0 < learned.weights["fair@letter"]
    names, known = opinions_of(planted(400, experts, seed=1))
    assert accuracy(known, np.array([learned.weights[name] for name in names])) > accuracy(known, np.array([1.0, 0.0]))


@given(st.integers(0, 1000), st.floats(0, 2))
def test_the_gradient_is_that_of_the_loss(seed: int, strength: float) -> None:
    _, known = opinions_of(planted(12, {"a": 1.0, "b": 0.0, "c": -1.0}, seed))
    known.told[3, 1] = 0.0  # a missing cell
    weights = np.random.default_rng(seed).normal(size=3)
    _, slope = known.loss(weights, strength, 0.3)
    for at, step in enumerate(np.eye(3) * 1e-5):
        rise = (known.loss(weights + step, strength, 0.3)[0] - known.loss(weights - step, strength, 0.3)[0]) / 2e-5
        assert slope[at] == pytest.approx(rise, abs=1e-6)


def test_one_question_leaves_the_weights_equal() -> None:
    learned = fit_pool(planted(1, {"a": 3.0, "b": 0.0}))
    assert list(learned.weights.values()) == pytest.approx([0.5, 0.5], abs=0.1)


def test_experts_that_are_too_sure_get_small_weights_and_equal_ones_where_none_is_better() -> None:
    table = planted(100, dict.fromkeys("abc", 0.0))
    loud = [json.dumps({name: 8 * value for name, value in json.loads(told).items()}) for told in table["logprobs"]]
    learned = fit_pool(table.assign(logprobs=loud))
    assert max(map(abs, learned.weights.values())) < 0.1
    _, known = opinions_of(planted(100, dict.fromkeys("abc", 1.0)))
    assert known.size() == pytest.approx(1 / 3, abs=1e-4)
    _, known = opinions_of(planted(100, dict.fromkeys("abc", 0.2)))
    losses = [known.loss(np.full(3, known.size() * change))[0] for change in (0.9, 1, 1.1)]
    assert losses[1] == min(losses)


def test_missing_cells_and_rows_of_other_kinds_are_left_alone() -> None:
    table = planted(80, {"a": 2.0, "b": 0.0})
    whole = fit_pool(table[table["expert"] == "a@letter"])
    other = table.iloc[:1].assign(query_id="open", query="What is 2 + 2?", answer="4", expert="a", logprobs=np.nan, prediction="4")
    plain = table.iloc[:1].assign(expert="a", logprobs=np.nan)
    part = fit_pool(pd.concat([table[(table["expert"] == "a@letter") | (table["query_id"] == "q0")], other, plain]))
    assert part.weights.keys() == {"a@letter", "b@letter"}
    assert part.weights["a@letter"] == pytest.approx(whole.weights["a@letter"], rel=0.5)


def test_questions_may_have_different_numbers_of_options_and_engines_may_tell_nothing() -> None:
    row = {"query_id": "1", "query": "Which? A) x B) y", "expert": "a@letter", "score": 1.0, "answer": "B", "prediction": "B"}
    told = {
        "query_id": "2",
        "query": "Which? A) x B) y C) z",
        "expert": "a@letter",
        "score": 1.0,
        "answer": "C",
        "logprobs": '{"C": -0.1, "B": -3}',
    }
    names, known = opinions_of(pd.DataFrame([row | {"logprobs": "{}"}, told]))
    assert names == ["a@letter"]
    shares = pooled(known.told, np.ones(1), known.offset)
    assert shares[0, :3] == pytest.approx([0.1, 0.9, 0])
    assert shares[1, 0] == pytest.approx(shares[1, 1])  # what is not told stands at the least that is
    assert shares[1, 3:].sum() == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"logprobs": None}, "the score table has no column 'logprobs': make one by `counterpoint profile --options`"),
        ({"answer": "none"}, "the score table tells nothing of options"),
        ({"expert": "a@secret"}, "the text of the prompt 'secret' is not known"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_told(change: dict[str, object], sentence: str) -> None:
    table = planted(3, {"a": 1.0}).assign(**{name: value for name, value in change.items() if value is not None})
    table = table.drop(columns=[name for name, value in change.items() if value is None])
    with pytest.raises(AggregatorError, match=sentence):
        fit_pool(table)


def test_the_texts_of_prompts_come_from_the_table() -> None:
    table = planted(10, {"a": 1.0})
    assert fit_pool(table).prompts == PROMPTS
    assert fit_pool(table.assign(prompt="One letter, please.")).prompts == {"letter": "One letter, please."}
    assert fit_pool(table.assign(expert="a")).prompts == {"": ""}


def test_an_artefact_brings_the_weights_back(tmp_path: Path) -> None:
    learned = fit_pool(planted(30, {"a": 1.0, "b": -1.0}))
    learned.save(tmp_path / "pool")
    made = make_aggregator("pool", path=str(tmp_path / "pool"))
    assert isinstance(made, Pooled)
    assert made.learned == learned


def test_what_is_no_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AggregatorError, match=f"no combiner in {tmp_path}"):
        Pooled(str(tmp_path))
    write_artefact(tmp_path, ({"kind": "stack"}, {}), COMBINER)
    with pytest.raises(AggregatorError, match="is of kind 'stack', not 'pool'"):
        Pooled(str(tmp_path))
    write_artefact(tmp_path, ({"kind": "pool"}, {}), COMBINER)
    with pytest.raises(AggregatorError, match="is damaged: KeyError: 'pairs'"):
        Pooled(str(tmp_path))


class Telling(Writer):
    """An `Ask` whose experts tell log-probabilities, or a text only, or fail."""

    def __init__(self, told: dict[str, dict[str, float] | str | None]) -> None:
        super().__init__()
        self.told = told
        self.how: list[dict[str, object]] = []

    async def __call__(self, expert: str, messages: list[Message], *, final: bool = False, **sampling: object) -> Answer:  # type: ignore[override]
        self.calls.append((expert, tuple(messages)))
        self.how.append(sampling)
        await asyncio.sleep(0)
        told = self.told[expert]
        if told is None:
            return Answer.failed(expert, f"{expert} is out of memory")
        text, logprobs = ("x", tuple(told.items())) if isinstance(told, dict) else (told, ())
        return Answer(text, expert, Usage(3, 1, 0.0, 1), logprobs=logprobs if sampling.get("choices") else ())


def route_of(*experts: str) -> Route:
    scores = dict.fromkeys(("ann", "bob", "cid", "dee"), 0.5)
    return Route(experts, tuple(1 / len(experts) for _ in experts), experts[0], scores)


async def decide(aggregator: Pooled, ask: Ask, *experts: str, text: str = "Which? A) x B) y") -> Answer:
    return await aggregator.aggregate(Request("r", (Message("user", text),)), (), route_of(*experts), ask)


def lean(a: float) -> dict[str, float]:
    return {"A": float(np.log(a)), "B": float(np.log(1 - a))}


async def test_every_expert_is_asked_for_one_letter_under_the_prompt() -> None:
    ask = Telling({"ann": lean(0.9), "bob": lean(0.4)})
    answer = await decide(Pooled(), ask, "ann", "bob")
    assert ask.how == [{"max_tokens": 1, "temperature": 0.0, "stop": (), "choices": ("A", "B")}] * 2
    assert [messages[-1].content for _, messages in ask.calls] == [f"Which? A) x B) y\n\n{PROMPTS['letter']}"] * 2
    assert (answer.text, answer.expert, answer.degraded, answer.usage) == ("A", "ann", False, Usage(6, 2, 0.0, 2))
    odds = (0.9 * 0.4 / (0.1 * 0.6)) ** 0.5  # equal weights of a half: the geometric mean
    assert dict(answer.support) == pytest.approx({"A": odds / (1 + odds), "B": 1 / (1 + odds)})


async def test_learned_weights_say_who_is_asked_under_which_prompts() -> None:
    prompts = {"letter": "One letter.", "plain": "Be right.", "": ""}
    weights = {"ann@letter": 1.0, "ann@plain": 0.5, "bob": -2.0}
    ask = Telling({"ann": lean(0.6), "bob": lean(0.8), "cid": lean(0.1), "dee": None})
    answer = await decide(Pooled.of(PoolWeights(weights, prompts)), ask, "ann", "bob", "cid")
    assert [(name, messages[-1].content.partition("\n\n")[2]) for name, messages in ask.calls] == [
        ("ann", "One letter."),
        ("ann", "Be right."),
        ("bob", ""),
    ]
    assert (answer.text, answer.expert) == ("B", "ann")  # 1.5 log(0.6 / 0.4) - 2 log(0.8 / 0.2) < 0
    elsewhere = Telling(ask.told)
    assert (await decide(Pooled.of(PoolWeights({"bob@letter": 1.0}, prompts)), elsewhere, "ann", "cid")).text == "A"
    assert [name for name, _ in elsewhere.calls] == ["bob"]
    for limits in ({"exclude": ("bob",)}, {"experts": ("ann", "cid")}):
        limited = Telling({"ann": "A", "cid": "A"})
        request = Request("r", (Message("user", "Which? A) x B) y"),), **limits)  # type: ignore[arg-type]
        only_bob = Pooled.of(PoolWeights({"bob@letter": 1.0}, prompts))
        assert (await only_bob.aggregate(request, (), route_of("ann", "cid"), limited)).text == "A"
        assert [name for name, _ in limited.calls] == ["ann", "cid"]
    nowhere = Telling({"ann": "4", "cid": "4"})
    assert (await decide(Pooled.of(PoolWeights({"eve@letter": 1.0}, prompts)), nowhere, "ann", "cid")).text == "4"
    assert "choices" not in nowhere.how[0]


async def test_a_failed_call_drops_out_and_the_other_weights_stay() -> None:
    weights = PoolWeights({"ann@letter": 1.0, "bob@letter": 2.0, "cid@letter": 0.5}, PROMPTS)
    answer = await decide(Pooled.of(weights), Telling({"ann": lean(0.6), "bob": None, "cid": lean(0.3)}), "ann", "bob", "cid")
    odds = (0.6 / 0.4) * (0.3 / 0.7) ** 0.5
    assert dict(answer.support)["A"] == pytest.approx(odds / (1 + odds))
    assert answer.degraded


async def test_where_all_fail_each_is_named_once() -> None:
    weights = PoolWeights({"ann@a": 1.0, "ann@b": 1.0, "bob@a": 1.0}, {"a": "A.", "b": "B."})
    answer = await decide(Pooled.of(weights), Telling({"ann": None, "bob": None}), "ann", "bob")
    assert answer.error == "no expert answered: ann: ann is out of memory; bob: bob is out of memory"


async def test_an_engine_that_tells_nothing_counts_with_its_letter() -> None:
    answer = await decide(Pooled(), Telling({"ann": "B", "bob": "I think"}), "ann", "bob")
    assert (answer.text, answer.expert) == ("B", "ann")
    assert opinion("AB", Answer("B", "ann")) == pytest.approx(np.log([0.1, 0.9]))
    assert opinion("AB", Answer("E", "ann")) is opinion("AB", Answer.failed("ann", "gone")) is None


async def test_where_nobody_begins_with_a_letter_or_there_are_none_the_question_is_asked_as_it_is() -> None:
    for text, calls in (("Which? A) x B) y", 4), ("What is 2 + 2?", 2)):
        ask = Telling({"ann": "It is four.", "bob": "It is four."})
        answer = await decide(Pooled(), ask, "ann", "bob", text=text)
        assert (answer.text, answer.usage.calls, len(ask.calls)) == ("It is four.", calls, calls)
        assert ask.how[-1] == {}
        assert ask.calls[-1][1][-1].content == text


async def test_given_answers_are_pooled_by_what_they_tell_and_weighed_otherwise() -> None:
    route, request = route_of("ann", "bob"), Request("r", (Message("user", "Which? A) x B) y"),))
    told = [Answer("x", "ann", logprobs=tuple(lean(0.7).items())), Answer("B", "bob", logprobs=tuple(lean(0.6).items()))]
    weights = Pooled.of(PoolWeights({"ann": 1.0, "bob": -3.0}, {"": ""}))
    assert (await Pooled().aggregate(request, told, route, Writer())).text == "A"
    assert (await weights.aggregate(request, told, route, Writer())).text == "B"
    votes = [Answer("It is B.", "ann"), Answer("B", "bob")]
    assert (await Pooled().aggregate(request, votes, route, Writer())).text == "It is B."
    strangers = Pooled.of(PoolWeights({"eve": 1.0}, {"": ""}))
    assert (await strangers.aggregate(request, told, route, Writer())).text == "x"  # a vote, which the primary decides


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4))
def test_equal_experts_under_equal_weights_are_one_expert(leans: list[float]) -> None:
    told = np.log([[[lean, 1 - lean]] * 3 for lean in leans])
    assert pooled(told, np.full(3, 1 / 3))[:, 0] == pytest.approx(leans)
