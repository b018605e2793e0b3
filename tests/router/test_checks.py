from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router import KINDS, EmbeddingRouter, KNNRouter, RouterError, load_router
from router.checks import (
    CHECKS,
    Make,
    check_a_saved_router_comes_back_exactly,
    check_scores_are_probabilities,
    check_scores_do_not_depend_on_the_batch,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_router_is_as_every_router_must_be(check: Callable[[Make, Path], None], kind: str, tmp_path: Path) -> None:
    check(KINDS[kind], tmp_path)


class Odd(KNNRouter):
    kind = "odd"


def test_an_artefact_of_an_unknown_kind_names_the_known_ones(score_table: pd.DataFrame, tmp_path: Path) -> None:
    Odd().fit(score_table).save(tmp_path)
    with pytest.raises(RouterError, match="is of kind 'odd'; known are random, best-single"):
        load_router(tmp_path)


class Overshoots(KNNRouter):
    def scores(self, texts: Sequence[str]) -> np.ndarray:
        return super().scores(texts) + 1


class Drifts(KNNRouter):
    calls = 0

    def _score(self, vector: np.ndarray) -> np.ndarray:
        self.calls += 1
        return super()._score(vector) * (1 - 1e-9 * self.calls)


class Forgets(KNNRouter):
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        meta, arrays = super()._state()
        return meta | {"prior": 5.0}, arrays


@pytest.mark.parametrize(
    ("kind", "check", "sentence"),
    [
        (Overshoots, check_scores_are_probabilities, "not from 0 to 1"),
        (Drifts, check_scores_do_not_depend_on_the_batch, "change when others are scored with it"),
        (Forgets, check_a_saved_router_comes_back_exactly, "a Forgets came back as a KNNRouter"),
    ],
)
def test_a_check_finds_what_it_looks_for(
    kind: type[EmbeddingRouter], check: Callable[[Make, Path], None], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check(kind, tmp_path)
