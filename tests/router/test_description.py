from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router import LinearRouter, RouterError, load_router
from router.description import DescriptionRouter

EncoderOf = Callable[[Mapping[str, Sequence[float]]], str]
TableOf = Callable[..., pd.DataFrame]

TEXTS = ["a", "a d", "b", "b d"]
SCORES = {"x": [0.75, 0.75, 0.25, 0.5], "y": [0.5, 0.25, 0.5, 0.5]}


def test_the_cosine_with_a_description_is_added_by_the_scale(axes: str, table_of: TableOf) -> None:
    table, said = table_of(TEXTS, SCORES), {"x": "a", "y": "c"}
    router = DescriptionRouter(descriptions=said, scale=0.25, encoder=axes).fit(table)
    # the cosines of x with the four questions are 1, 0.71, 0 and 0, those of y are 0; what a question is above that counts
    mean = (1 + np.sqrt(0.5)) / 4
    wanted = LinearRouter(encoder=axes).fit(table).scores(["a", "c"]) + 0.25 * np.array([[1 - mean, 0], [-mean, 1]])
    np.testing.assert_allclose(router.scores(["a", "c"]), wanted, atol=1e-6)


def test_without_a_scale_descriptions_say_nothing(axes: str, table_of: TableOf) -> None:
    table = table_of(TEXTS, SCORES)
    router = DescriptionRouter(descriptions={"x": "c"}, scale=0.0, encoder=axes).fit(table)
    np.testing.assert_allclose(router.scores(["a", "c"]), LinearRouter(encoder=axes).fit(table).scores(["a", "c"]))


def test_an_expert_without_a_description_is_described_by_its_name(axes: str, table_of: TableOf) -> None:
    table = table_of(TEXTS, {"a-b": SCORES["x"], "c": SCORES["y"]})
    named = DescriptionRouter(scale=1.0, encoder=axes).fit(table)
    told = DescriptionRouter(descriptions={"a-b": "a b", "c": "c"}, scale=1.0, encoder=axes).fit(table)
    np.testing.assert_array_equal(named.scores(["a", "c"]), told.scores(["a", "c"]))


def test_an_expert_that_is_new_gets_the_domain_that_its_description_names_and_no_other(encoder_of: EncoderOf, table_of: TableOf) -> None:
    encoder = encoder_of(dict(zip(("sums", "words", "law", "chat"), np.eye(4).tolist(), strict=True)))
    # nobody has answered a question of law; the new expert has only chatted, as well as all
    texts = ["sums", "sums", "words", "words", "chat", "chat"]
    scores = {"x": [1, 1, 0, 0, 0.5, 0.5], "y": [0, 0, 1, 1, 0.5, 0.5], "new": [None, None, None, None, 0.5, 0.5]}
    said = {"x": "chat", "y": "chat", "new": "law"}
    table = table_of(texts, scores)

    def first(scale: float) -> list[str]:
        router = DescriptionRouter(descriptions=said, scale=scale, encoder=encoder).fit(table)
        return [router.experts_[at] for at in router.scores(["sums", "words", "law"]).argmax(axis=1)]

    assert first(0.3) == ["x", "y", "new"]
    assert first(0.0)[:2] == ["x", "y"]
    router = DescriptionRouter(descriptions=said | {"new": "chat"}, scale=0.3, encoder=encoder).fit(table)
    assert np.ptp(router.scores(["law"])) < 0.01  # it is the description that brings it there


def world(encoder_of: EncoderOf, table_of: TableOf) -> tuple[str, pd.DataFrame, list[str]]:
    """Eight domains with three questions each, and an expert for each that is right on its own only."""
    names = [f"d{at}" for at in range(8)]
    texts = [name for name in names for _ in range(3)]
    scores = {f"expert {name}": [float(text == name) for text in texts] for name in names}
    return encoder_of(dict(zip(names, np.eye(8).tolist(), strict=True))), table_of(texts, scores), names


def test_the_scale_is_learned_from_what_descriptions_add_to_held_out_questions(encoder_of: EncoderOf, table_of: TableOf) -> None:
    encoder, table, names = world(encoder_of, table_of)
    true = {f"expert {name}": name for name in names}
    turned = {f"expert {name}": other for name, other in zip(names, names[1:] + names[:1], strict=True)}
    assert DescriptionRouter(descriptions=true, encoder=encoder).fit(table).scale_ > 0.1
    assert DescriptionRouter(descriptions=turned, encoder=encoder).fit(table).scale_ == 0
    alike = dict.fromkeys(true, "d0")
    assert DescriptionRouter(descriptions=alike, encoder=encoder).fit(table).scale_ == 0


def test_few_questions_teach_no_scale(axes: str, table_of: TableOf) -> None:
    assert DescriptionRouter(descriptions={"x": "a"}, encoder=axes).fit(table_of(TEXTS, SCORES)).scale_ == 0


def test_the_first_encoder_reads_the_descriptions(axes: str, table_of: TableOf) -> None:
    table = table_of(TEXTS, SCORES)
    router = DescriptionRouter(descriptions={"x": "c"}, scale=1.0, encoder=f"{axes}+style").fit(table)
    assert router.described_.shape == (2, 4)
    assert router.reasons("c") == ("nearest description: x (1.00, scale 1.00)",)


def test_an_expert_that_is_missing_in_a_fold_hinders_nothing(axes: str, table_of: TableOf) -> None:
    table = table_of(["a", "b"] * 20, {"x": [1.0, 0.0] * 20, "y": [0.5, *[None] * 39], "z": [0.0, 1.0] * 20})
    router = DescriptionRouter(descriptions={"y": "c", "z": "b"}, encoder=axes).fit(table)
    assert np.isfinite(router.scores(["a", "c"])).all()


def test_a_description_of_nobody_is_named(axes: str, table_of: TableOf) -> None:
    with pytest.raises(RouterError, match="there is a description of 'w', which the score table does not have; it has x, y"):
        DescriptionRouter(descriptions={"x": "a", "w": "b"}, encoder=axes).fit(table_of(TEXTS, SCORES))


def test_a_scale_below_0_is_shown(axes: str, table_of: TableOf) -> None:
    with pytest.raises(RouterError, match=r"the description router wants a scale from 0, not -0\.5"):
        DescriptionRouter(scale=-0.5, encoder=axes).fit(table_of(TEXTS, SCORES))


def test_descriptions_come_back_with_the_artefact(axes: str, table_of: TableOf, tmp_path: Path) -> None:
    said = {"x": "a c \u6570\u5b66", "y": "c"}
    router = DescriptionRouter(descriptions=said, scale=0.5, encoder=axes).fit(table_of(TEXTS, SCORES))
    router.save(tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, DescriptionRouter)
    assert loaded.settings() == {"descriptions": said, "scale": 0.5, "encoder": axes}
    np.testing.assert_array_equal(loaded.scores(["a", "c"]), router.scores(["a", "c"]))
    assert loaded.reasons("a") == router.reasons("a")
