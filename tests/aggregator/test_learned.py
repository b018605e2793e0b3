import json
import pickle
import runpy
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from aggregator import AggregatorError, Vote
from aggregator.artefact import COMBINER
from aggregator.base import Nobody, with_reserve
from aggregator.evidence import Asked
from aggregator.learned import Example, Fitted, Learned, Ranked
from aggregator.options import LOOKS
from data.artefact import write_artefact
from data.records import Answer, Message, Request, Route
from data.statistics import paired

graded: Callable[..., list[Example]] = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["graded"]
EXPERTS = ("ann", "bob", "cid", "dee")
ASK = Nobody("learned")
KINDS = pytest.mark.parametrize("kind", [Learned, Ranked], ids=lambda kind: kind.kind)


@pytest.fixture
def load(combiners: dict[str, Path]) -> Callable[..., Fitted]:
    return lambda kind, **settings: kind(str(combiners[kind.kind]), **settings)


async def decide(aggregator: object, asked: Asked, answers: list[Answer] | None = None, scores: dict[str, float] | None = None) -> Answer:
    answers = list(asked.answers) if answers is None else answers
    experts = tuple(answer.expert for answer in answers)
    route = Route(experts, tuple(1 / len(experts) for _ in experts), experts[0], asked.scores if scores is None else scores)
    return await aggregator.aggregate(Request("r", (Message("user", asked.question),)), answers, route, ASK)  # type: ignore[attr-defined]


def score(example: Example, answer: Answer) -> float:
    return dict(zip((one.expert for one in example.asked.answers), example.right, strict=True))[answer.expert]


@KINDS
async def test_it_beats_the_majority_on_questions_that_it_has_not_seen(kind: type[Fitted], load: Callable[..., Fitted]) -> None:
    held, combiner = graded(250, seed=1), load(kind)
    ours = np.array([score(example, await decide(combiner, example.asked)) for example in held])
    votes = np.array([score(example, await decide(Vote(), example.asked)) for example in held])
    gain = paired(ours, votes)
    assert gain.mean > 0.05, gain
    assert gain.low > 0, gain


@KINDS
async def test_what_it_learned_of_right_and_wrong_is_what_counts(kind: type[Fitted], tmp_path: Path) -> None:
    lessons = graded(200)
    swapped = [Example(example.asked, tuple(1 - right for right in example.right)) for example in lessons]
    kind.fit(swapped, bag=1).save(tmp_path)
    contrary, held = kind(str(tmp_path)), graded(100, seed=1)
    ours = np.mean([score(example, await decide(contrary, example.asked)) for example in held])
    votes = np.mean([score(example, await decide(Vote(), example.asked)) for example in held])
    assert ours < votes - 0.2


@KINDS
@pytest.mark.parametrize("absent", EXPERTS)
async def test_it_stays_better_than_chance_where_an_expert_is_absent(kind: type[Fitted], absent: str, load: Callable[..., Fitted]) -> None:
    combiner, ours, votes = load(kind), [], []
    for example in graded(150, seed=2):
        answers = [answer for answer in example.asked.answers if answer.expert != absent]
        scores = {name: value for name, value in example.asked.scores.items() if name != absent}
        ours.append(score(example, await decide(combiner, example.asked, answers, scores)))
        votes.append(score(example, await decide(Vote(), example.asked, answers, scores)))
    assert np.mean(ours) > np.mean(votes)


@KINDS
async def test_an_expert_that_it_does_not_know_is_heard_by_what_it_says(kind: type[Fitted], load: Callable[..., Fitted]) -> None:
    combiner, ours = load(kind), []
    for example in graded(150, seed=3):
        first, *others = example.asked.answers
        scores = {"zoe": 0.8} | {name: value for name, value in example.asked.scores.items() if name != "ann"}
        answer = await decide(combiner, example.asked, [replace(first, expert="zoe"), *others], scores)
        ours.append(score(example, replace(answer, expert="ann") if answer.expert == "zoe" else answer))
        lost = await decide(combiner, example.asked, [replace(first, expert="zoe"), *others], {})  # the router knows nobody
        assert lost.error is None
    assert np.mean(ours) > 0.75


@KINDS
async def test_the_order_of_the_answers_changes_nothing_but_ties(kind: type[Fitted], load: Callable[..., Fitted]) -> None:
    combiner = load(kind)
    for example in graded(6, seed=4):
        first = await decide(combiner, example.asked)
        for order in permutations(example.asked.answers):
            answer = await decide(combiner, example.asked, list(order))
            assert [weight for _, weight in answer.support] == pytest.approx([weight for _, weight in first.support])
            if len(first.support) < 2 or first.support[0][1] - first.support[1][1] > 1e-9:
                assert answer.text.rstrip(".").split()[-1] == first.text.rstrip(".").split()[-1]


@KINDS
async def test_the_support_lies_in_0_to_1_and_in_order(kind: type[Fitted], load: Callable[..., Fitted]) -> None:
    combiner = load(kind)
    for example in graded(40, seed=5):
        answer = await decide(combiner, example.asked)
        weights = [weight for _, weight in answer.support]
        assert weights == sorted(weights, reverse=True)
        assert all(0 <= weight <= 1 for weight in weights)
        assert answer.text == answer.support[0][0]
        if kind is Ranked:
            assert sum(weights) == pytest.approx(1)


async def test_its_probabilities_are_about_as_often_right_as_they_say(load: Callable[..., Fitted]) -> None:
    held, combiner = graded(250, seed=6), load(Learned)
    answers = [await decide(combiner, example.asked) for example in held]
    said = np.mean([answer.support[0][1] for answer in answers])
    assert said == pytest.approx(np.mean([score(*pair) for pair in zip(held, answers, strict=True)]), abs=0.08)


@KINDS
async def test_other_requests_change_no_answer(kind: type[Fitted], load: Callable[..., Fitted]) -> None:
    held = graded(20, seed=7)
    alone = [await decide(load(kind), example.asked) for example in held]
    used = load(kind)
    assert [await decide(used, example.asked) for example in held[::-1]][::-1] == alone
    assert [await decide(used, example.asked) for example in held] == alone


@KINDS
async def test_a_saved_combiner_is_the_same_to_the_last_bit(kind: type[Fitted], tmp_path: Path) -> None:
    made = kind.fit(graded(60), bag=2)
    made.save(tmp_path / "one")
    again = kind(str(tmp_path / "one"))
    again.save(tmp_path / "two")
    for name in ("combiner.json", "weights.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    for example in graded(30, seed=8):
        rows = made.evidence.rows(example.asked)[1]
        assert np.array_equal(again.evidence.rows(example.asked)[1], rows)
        assert again.chances(rows).tolist() == made.chances(rows).tolist()
        assert await decide(again, example.asked) == await decide(made, example.asked)
    assert np.array_equal(again.gains.gain, made.gains.gain)
    assert np.array_equal(again.gains.sure, made.gains.sure)


@KINDS
def test_the_same_lessons_and_seed_give_the_same_bytes_and_another_seed_others(kind: type[Fitted], tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        kind.fit(graded(40), bag=1, seed=seed).save(tmp_path / name)
    first, again, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "abc")
    assert first == again
    assert first != other


def refused(folder: Path, kind: type[Fitted] = Learned) -> str:
    with pytest.raises(AggregatorError) as caught:
        kind(str(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(combiners: dict[str, Path], tmp_path: Path) -> Path:
    for name in ("combiner.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((combiners["learned"] / name).read_bytes())
    return tmp_path


def test_an_absent_combiner_is_named_with_the_cure(tmp_path: Path) -> None:
    assert "make one by `counterpoint combiner fit`" in refused(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["combiner.json", "weights.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_damaged_or_cut_combiner_is_refused(folder: Path, name: str, share: float) -> None:
    whole = (folder / name).read_bytes()
    at = int(share * len(whole))
    (folder / name).write_bytes(whole[:at])
    refused(folder)
    (folder / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    refused(folder)


@pytest.mark.parametrize("text", ["[]", "null", "[" * 100_000, "\ufeff{}", "\x00"])
def test_json_that_is_no_combiner_is_refused(folder: Path, text: str) -> None:
    (folder / "combiner.json").write_text(text, encoding="utf-8")
    refused(folder)


@pytest.mark.parametrize("version", [0, COMBINER.newest + 1, None, "1"])
def test_another_version_is_shown(folder: Path, version: object) -> None:
    head = json.loads((folder / "combiner.json").read_text(encoding="utf-8"))
    (folder / "combiner.json").write_text(json.dumps(head | {"version": version}), encoding="utf-8")
    assert f"has version {version}" in refused(folder)


def test_a_combiner_of_another_kind_is_named(folder: Path) -> None:
    assert "is a 'learned', not a 'rank'" in refused(folder, Ranked)
    write_artefact(folder, ({"kind": "soup"}, {}), COMBINER)
    assert "is a 'soup', not a 'learned'" in refused(folder)


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("name", ["weights.safetensors", "combiner.json", "combiner.pkl", "weights.npy", "model.joblib"])
def test_a_pickle_is_never_unpickled(folder: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps(Payload(folder / "ran")))
    if name in ("weights.safetensors", "combiner.json"):
        refused(folder)
    else:
        Learned(str(folder))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("price", [-0.1, 1.1, float("nan")])
def test_a_price_out_of_range_is_refused(load: Callable[..., Fitted], price: float) -> None:
    with pytest.raises(AggregatorError, match="price must lie from 0 to 1"):
        load(Learned, price=price)


@pytest.mark.parametrize(("lessons", "sentence"), [(4, "at least 5 questions to learn from, not 4"), (0, "not 0")])
def test_too_few_lessons_are_refused(lessons: int, sentence: str) -> None:
    with pytest.raises(AggregatorError, match=sentence):
        Learned.fit(graded(lessons))


@KINDS
@pytest.mark.parametrize("change", ["all right", "all wrong", "all failed", "none asked"])
def test_lessons_that_teach_nothing_are_refused(kind: type[Fitted], change: str) -> None:
    lessons = []
    for example in graded(10):
        answers = [Answer.failed(name, "gone") for name in EXPERTS] if change == "all failed" else list(example.asked.answers)
        right = tuple(float(change == "all right") for _ in answers)
        if change == "none asked":
            answers, right = [], ()
        lessons.append(Example(Asked.of(example.asked.question, answers, example.asked.scores), right))
    with pytest.raises(AggregatorError, match="needs right and wrong answers to learn from"):
        kind.fit(lessons, bag=1)


def test_some_failed_answers_do_not_hinder_learning() -> None:
    lessons = graded(40)
    for at, example in enumerate(lessons[:15]):
        answers = [Answer.failed("ann", "gone"), *example.asked.answers[1:]] if at else [Answer.failed(name, "gone") for name in EXPERTS]
        lessons[at] = Example(Asked.of(example.asked.question, answers, example.asked.scores), (0.0, *example.right[1:]))
    assert Learned.fit(lessons, bag=1).gains.sure.shape[0] == 4


def test_without_the_look_of_options_no_number_of_an_exam_counts() -> None:
    made = Learned.fit(graded(30), bag=1, options=False)
    used = {made.evidence.names[at] for at in made.columns}
    assert set(made.evidence.names) - used == {f"option_{name}" for name in LOOKS} | {"position", "last_option"}


def test_fitting_tells_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    Learned.fit(graded(30), bag=2, tick=lambda done, total: told.append((done, total)))
    assert told == [(done, 7) for done in range(1, 8)]


async def test_more_is_asked_by_price_and_never_beyond_the_reserve(load: Callable[..., Fitted]) -> None:
    calls: dict[float, list[int]] = {}
    for price in (0.0, 0.03, 0.2, 1.0):
        combiner = load(Learned, price=price)
        for example in graded(40, seed=9):
            request = Request("r", (Message("user", example.asked.question),))
            route = Route(EXPERTS[:1], (1.0,), "ann", example.asked.scores, reserve=EXPERTS[1:])
            while True:
                final = await combiner.aggregate(request, example.asked.answers[: len(route.experts)], route, ASK)
                more = combiner.more(request, example.asked.answers[: len(route.experts)], route, final)
                assert 0 <= more <= len(route.reserve)
                if not more:
                    break
                route = with_reserve(route, more)
            calls.setdefault(price, []).append(len(route.experts))
    means = [float(np.mean(calls[price])) for price in sorted(calls)]
    assert means == sorted(means, reverse=True)
    assert means[0] > 1.2
    assert means[-1] == 1


def test_without_a_price_the_route_decides(load: Callable[..., Fitted]) -> None:
    route = Route(("ann",), (1.0,), "ann", {}, reserve=("bob", "cid"), agreement=0.6)
    unsure, sure = Answer("4", "ann", support=(("4", 0.5), ("5", 0.5))), Answer("4", "ann", support=(("4", 0.9), ("5", 0.1)))
    combiner, request = load(Learned), Request("r", (Message("user", "?"),))
    assert (combiner.more(request, [], route, unsure), combiner.more(request, [], route, sure)) == (2, 0)
