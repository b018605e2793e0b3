import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from data.encoders import _load, clean, get_encoder
from data.encoders.features import Features
from data.encoders.static import SHIPPED
from data.encoders.style import FEATURES, StyleEncoder
from data.encoders.tfidf import TfidfEncoder
from data.records import CounterpointError

TRAIN = ["the sum of two numbers", "the sum of three numbers?", "Spell the word cat", "spell the word dog", "who wrote the play"]
TEXTS = ["The sum of nine.", "spell bird", "", "\u6570\u5b66 \U0001f600", "\ud83d half", "word " * 700]
ALL = "static+style+tfidf"
Refusal = Callable[[Callable[[], object]], str]


@pytest.fixture(scope="module")
def features() -> Features:
    return Features(ALL).fit(TRAIN)


def test_the_parts_stand_side_by_side_in_the_order_of_the_name() -> None:
    parts = {"static": get_encoder("static"), "style": StyleEncoder().fit(TRAIN), "tfidf": TfidfEncoder().fit(TRAIN)}
    for name in (ALL, "tfidf+static", "style"):
        wanted = np.concatenate([parts[part](TEXTS) for part in name.split("+")], axis=1)
        np.testing.assert_array_equal(Features(name).fit(TRAIN)(TEXTS), wanted)


def test_the_shape_is_the_sum_of_the_parts(features: Features) -> None:
    vectors = features(TEXTS)
    dim = 256 + len(FEATURES) + 4  # five training texts fold into four dimensions
    assert vectors.shape == (len(TEXTS), dim)
    assert vectors.dtype == np.float32
    assert features([]).shape == (0, dim)


def test_a_vector_is_the_same_to_the_last_bit_beside_other_texts_and_in_another_order(features: Features) -> None:
    together, turned = features(TEXTS), features(TEXTS[::-1])[::-1]
    for at, text in enumerate(TEXTS):
        alone = features([text])[0]
        np.testing.assert_array_equal(alone, together[at])
        np.testing.assert_array_equal(alone, turned[at])


def test_progress_is_told_and_changes_no_bit(features: Features) -> None:
    texts = [f"{text} {at}" for at in range(25) for text in TEXTS]
    told: list[tuple[int, int]] = []
    vectors = features(texts, lambda done, total: told.append((done, total)))
    assert told == [(64, 150), (128, 150), (150, 150)]
    np.testing.assert_array_equal(vectors, features(texts))
    assert features([], lambda done, total: told.append((done, total))).shape == features([]).shape


def test_the_first_part_reads_alone_what_a_text_is_about(features: Features) -> None:
    np.testing.assert_array_equal(features.first(TEXTS), get_encoder("static")(TEXTS))


def test_before_they_are_fitted_there_is_no_first_part() -> None:
    with pytest.raises(RuntimeError, match="not fitted"):
        Features(ALL).first(TEXTS)


def test_encoders_that_learn_nothing_need_no_fit() -> None:
    np.testing.assert_array_equal(Features("static")(TEXTS), get_encoder("static")(TEXTS))


def test_what_the_parts_learned_comes_back_through_json(features: Features) -> None:
    meta, arrays = features.state()
    other = Features(ALL).restore(json.loads(json.dumps(meta)), arrays)
    np.testing.assert_array_equal(features(TEXTS), other(TEXTS))
    again, own = other.state()
    assert again == meta
    assert own.keys() == arrays.keys()
    assert all(np.array_equal(array, own[name]) for name, array in arrays.items())


def test_an_encoder_is_loaded_when_a_text_comes_and_not_before(tmp_path: Path, refusal: Refusal) -> None:
    restored = Features(f"{tmp_path}/gone").restore({}, {})
    assert f"'{tmp_path}/gone'" in refusal(lambda: restored(["a text"]))


def test_fitting_again_forgets_what_was_fitted_before(features: Features) -> None:
    np.testing.assert_array_equal(Features(ALL).fit(["other", "texts here"]).fit(TRAIN)(TEXTS), features(TEXTS))


@pytest.mark.parametrize("name", ["astrology", "static+astrology", "style+astrology+tfidf"])
def test_a_name_that_is_none_is_named(name: str, refusal: Refusal) -> None:
    message = refusal(lambda: Features(name).fit(TRAIN))
    assert message.startswith("no encoder is called 'astrology'; there are static, style, tfidf, ")


@pytest.mark.parametrize("name", ["", "static+", "static++style"])
def test_a_name_that_is_empty_is_refused_too(name: str, refusal: Refusal) -> None:
    refusal(lambda: Features(name).fit(TRAIN))


@pytest.mark.parametrize(("text", "wanted"), [("a\ud83d\ude00b", "a??b"), ("\udfff", "?"), ("", ""), ("\u6570", "\u6570")])
def test_only_half_characters_are_cleaned_away(text: str, wanted: str) -> None:
    assert clean(text) == wanted


def test_another_encoder_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(SHIPPED, folder)
    state = Features(str(folder)).fit(["a text"]).state()
    loaded = Features(str(folder)).restore(*state)
    assert loaded(["another"]).shape == (1, 256)
    arrays = load_file(folder / "static.safetensors")
    save_file({**arrays, "scale": arrays["scale"] * 2}, folder / "static.safetensors")
    _load.cache_clear()  # as in another process
    with pytest.raises(CounterpointError, match="is not the one that the router was fitted on"):
        Features(str(folder)).restore(*state)(["another"])
