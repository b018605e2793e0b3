import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.encoders.style import FEATURES, StyleEncoder, count_style

TEXTS = [
    "What is 6 * 7?\nA. 42\nB. 13",
    "Write a function.\n    return 1",
    "\u8bf7\u95ee\u4e00\u4e0b\uff1f",
    "Summarise this text:",
    "$x^2$ and \\alpha",
    "",
]
anything = st.text(st.characters(exclude_categories=()), max_size=80)  # half characters among them


def counted(text: str) -> dict[str, float]:
    return dict(zip(FEATURES, count_style(text).tolist(), strict=True))


def test_every_feature_has_its_own_name_and_number() -> None:
    assert len(set(FEATURES)) == len(FEATURES) == len(count_style("")) > 20


def test_what_is_counted_by_hand() -> None:
    got = counted('Is "A1" = $22$?\nA. yes.\nC) no__')
    amounts = {
        "characters": 31, "words": 8, "lines": 2, "longest_word": 5, "numbers": 2, "longest_number": 2,
        "sentences": 2, "questions": 1, "quotes": 2, "dollars": 2, "backslashes": 0,
    }  # fmt: skip
    assert {name: got[name] for name in amounts} == pytest.approx({name: math.log1p(amount) for name, amount in amounts.items()})
    shares = {"digits": 3, "capitals": 4, "punctuation": 5, "code": 4, "maths": 3, "not_ascii": 0, "cjk": 0}
    assert {name: got[name] for name in shares} == pytest.approx({name: share / 31 for name, share in shares.items()})
    marks = {"has_options": 1, "blanks": 1, "ends_in_question": 0, "ends_in_colon": 0, "starts_capital": 1, "indented": 0}
    assert {name: got[name] for name in marks} == marks
    assert got["options"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("text", "feature", "wanted"),
    [
        ("Really?  \n", "ends_in_question", 1.0),
        ("\u771f\u7684\u5417\uff1f", "ends_in_question", 1.0),
        ("as follows:", "ends_in_colon", 1.0),
        ("\u5982\u4e0b\uff1a", "ends_in_colon", 1.0),
        ("def f():\n    pass", "indented", 1.0),
        ("(A) one\n(B) two\n(B) again", "options", 0.2),
        ("A man. B", "options", 0.0),
        ("\u6570\u5b66a!", "cjk", 0.5),
        ("\u00e9\u00e8ab", "not_ascii", 0.5),
        ("\u00c9cole", "starts_capital", 1.0),
        ("\ud83d", "not_ascii", 1.0),
        ("\U0001f600", "characters", math.log(2)),
    ],
)
def test_a_feature_of_a_text(text: str, feature: str, wanted: float) -> None:
    assert counted(text)[feature] == pytest.approx(wanted)


@given(st.lists(anything, min_size=1, max_size=4), st.lists(anything, max_size=4))
def test_any_text_gives_finite_numbers_of_length_at_most_three_that_depend_on_it_alone(train: list[str], texts: list[str]) -> None:
    encode = StyleEncoder().fit(train)
    vectors = encode(texts)
    assert vectors.shape == (len(texts), len(FEATURES))
    assert vectors.dtype == np.float32
    assert (np.linalg.norm(vectors, axis=1) <= 3 + 1e-5).all()
    for at, text in enumerate(texts):
        np.testing.assert_array_equal(encode([text])[0], vectors[at])


def test_training_texts_have_mean_zero_and_a_mean_square_of_one_or_what_is_cut_off() -> None:
    texts = [f"{'Why ' * (at % 3)}{'x' * at} {at}?" for at in range(40)]
    vectors = StyleEncoder().fit(texts)(texts)
    varies = vectors.std(axis=0) > 0
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=0.02)
    assert 0.8 * varies.mean() < (vectors**2).sum(axis=1).mean() <= varies.mean() + 1e-6


def test_what_is_far_from_the_training_texts_is_cut_at_three_deviations() -> None:
    encode = StyleEncoder().fit(["one word", "two words"])
    vector = encode(["a text with a thousand signs " * 40])[0]
    assert vector.max() == pytest.approx(3 / math.sqrt(len(FEATURES)))  # all features together, at one deviation each, have length one


def test_the_last_words_of_100_000_characters_count() -> None:
    encode = StyleEncoder().fit(TEXTS)
    a, b = encode(["word " * 20_000 + "end.", "word " * 20_000 + "end?"])
    assert not np.array_equal(a, b)


def test_what_was_learned_comes_back() -> None:
    first, second = StyleEncoder().fit(TEXTS), StyleEncoder()
    second.restore(*first.state())
    np.testing.assert_array_equal(first(TEXTS), second(TEXTS))


def test_fitting_again_forgets_what_was_fitted_before() -> None:
    twice, once = StyleEncoder().fit(["other texts", "?"]).fit(TEXTS), StyleEncoder().fit(TEXTS)
    np.testing.assert_array_equal(twice(TEXTS), once(TEXTS))
