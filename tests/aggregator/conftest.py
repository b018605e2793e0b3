from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from aggregator import Aggregator, make_aggregator
from aggregator.auto import Auto, Choice, Measured, save_choice
from aggregator.evidence import Asked
from aggregator.learned import Example, Learned, Ranked
from data.records import Answer

EXPERTS = ("ann", "bob", "cid", "dee")


def graded(n: int, seed: int = 0) -> list[Example]:
    """Sums, answered by experts that are right with 80, 60, 40 and 20%; who reasons in many words is right more often."""
    rng, examples = np.random.default_rng(seed), []
    for number in range(n):
        one, other = (int(value) for value in rng.integers(1, 50, 2))
        answers, right = [], []
        for expert, chance in zip(EXPERTS, (0.8, 0.6, 0.4, 0.2), strict=True):
            good = bool(rng.random() < chance)
            result = one + other + (0 if good else int(rng.integers(1, 9)))
            argued = rng.random() < (0.9 if good else 0.1)
            answers.append(Answer(f"{one} and {other} make {result}. The answer is {result}." if argued else f"{result}", expert))
            right.append(float(good))
        asked = Asked.of(f"Question {number}: what is {one} + {other}?", answers, dict(zip(EXPERTS, (0.8, 0.6, 0.4, 0.2), strict=True)))
        examples.append(Example(asked, tuple(right)))
    return examples


@pytest.fixture(scope="session")
def combiners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small fitted combiners, by kind."""
    folder, examples = tmp_path_factory.mktemp("combiners"), graded(200)
    for kind in (Learned, Ranked):
        kind.fit(examples, bag=1).save(folder / kind.kind)
    rng = np.random.default_rng(0)
    right = {"vote": rng.integers(0, 2, 20).astype(float), "learned": rng.integers(0, 2, 20).astype(float)}
    measured = Measured([f"What is {at} + 1?" for at in range(20)], np.full(20, 0.5), right, dict.fromkeys(right, np.ones(20)))
    settings = {"vote": {"kind": "vote"}, "learned": {"kind": "learned", "path": str(folder / "learned")}}
    save_choice(Choice.fit(measured, 0.0), settings, folder / "auto")
    return {kind.kind: folder / kind.kind for kind in (Learned, Ranked, Auto)}


@pytest.fixture
def make(combiners: dict[str, Path]) -> Callable[[str], Callable[[], Aggregator]]:
    """Makes what makes an aggregator of a kind, with an artefact where it needs one."""

    def maker(kind: str) -> Callable[[], Aggregator]:
        return partial(make_aggregator, kind, **({"path": str(combiners[kind])} if kind in combiners else {}))

    return maker
