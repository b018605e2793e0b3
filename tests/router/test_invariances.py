"""What must not matter to any kind of router: who shares a batch, and how the experts are called or listed."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import KINDS, BaseRouter, EmbeddingRouter, load_router
from router.checks import EXPERTS, TEXTS, table
from router.stack import StackRouter

BY_NAME = {"description"}
"""Kinds to which the name of an expert says something."""

BY_PLACE = {"random", "mlp", "mf"}
"""Kinds that draw numbers for each expert in its turn, so that another order draws others."""

anything = st.text(st.characters(exclude_categories=()), max_size=40)  # half characters among them


def made(kind: str) -> BaseRouter:
    """A router on few features, so that it is fitted at once."""
    return KINDS[kind](encoder="style") if issubclass(KINDS[kind], EmbeddingRouter) else KINDS[kind]()


@cache
def fitted(kind: str) -> BaseRouter:
    return made(kind).fit(table())


@cache
def fitted_as_it_comes(kind: str) -> BaseRouter:
    return KINDS[kind]().fit(table())


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(anything, max_size=3))
@settings(max_examples=8, deadline=None)
def test_a_texts_scores_are_the_same_to_the_last_bit_whoever_shares_its_batch(kind: str, texts: list[str]) -> None:
    router = fitted_as_it_comes(kind)
    together = router.scores([*TEXTS, *texts, *TEXTS])
    assert ((together >= 0) & (together <= 1)).all()
    for at, text in enumerate(texts, start=len(TEXTS)):
        np.testing.assert_array_equal(router.scores([text])[0], together[at])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in BY_NAME])
@pytest.mark.parametrize("names", [("x", "y", "z"), ("z", "y", "x"), ("\u6570\u5b66", "both", "A 2.0/b+c; \U0001f600")])
def test_the_names_of_experts_change_no_number(kind: str, names: tuple[str, ...]) -> None:
    rows = table()
    renamed = rows.assign(expert=rows["expert"].map(dict(zip(EXPERTS, names, strict=True))))
    router = made(kind).fit(renamed)
    assert tuple(router.experts_) == names
    np.testing.assert_array_equal(router.scores(TEXTS), fitted(kind).scores(TEXTS))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in BY_PLACE])
@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)])
def test_the_order_of_experts_changes_the_order_of_columns_only(kind: str, order: tuple[int, ...]) -> None:
    rows = table()
    turned = pd.concat([rows[rows["query_id"] == name].iloc[list(order)] for name in rows["query_id"].unique()], ignore_index=True)
    router, same = made(kind), made(kind)
    if kind == "stack":  # its members are those that do not go by place
        router, same = (StackRouter(members=("category", "linear", "cluster"), encoder="style") for _ in range(2))
    assert tuple(router.fit(turned).experts_) == tuple(EXPERTS[at] for at in order)
    np.testing.assert_allclose(router.scores(TEXTS), same.fit(rows).scores(TEXTS)[:, order], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_router_scores_a_larger_table_to_the_last_bit(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    forms = ("What is {} plus one?", "Spell {}.", "Translate {} into\n    French:")
    texts = [forms[at % 3].format("x" * (at % 17) + str(at)) for at in range(45)]
    rows = [
        {"query_id": str(at), "query": text, "category": f"kind {at % 3}", "expert": f"expert {name}", "score": float(rng.random() < 0.6)}
        for at, text in enumerate(texts)
        for name in range(5)
    ]
    router = made(kind).fit(pd.DataFrame(rows))
    router.save(tmp_path)
    np.testing.assert_array_equal(load_router(tmp_path).scores(texts), router.scores(texts))


@pytest.mark.parametrize("kind", KINDS)
def test_columns_that_no_router_reads_change_no_number(kind: str) -> None:
    more = table().assign(response="some text", cost=0.1, prompt_tokens=7, split="train", notes="x")
    np.testing.assert_array_equal(made(kind).fit(more).scores(TEXTS), fitted(kind).scores(TEXTS))
