import json

import numpy as np
import pytest

from data.encoders.tfidf import TfidfEncoder

TRAIN = ["the sum of two numbers", "the sum of three numbers", "spell the word cat", "spell the word dog", "who wrote the play"]
TEXTS = ["the sum of nine", "spell bird", "", "!?", "\u6570\u5b66 \U0001f600", "\ud83d half", "word " * 700]


@pytest.fixture(scope="module")
def encode() -> TfidfEncoder:
    return TfidfEncoder().fit(TRAIN)


def test_texts_with_common_words_are_near(encode: TfidfEncoder) -> None:
    a, b, c = encode(["sum of two", "sum of three numbers", "spell dog"])
    assert a @ b > a @ c + 0.3


def test_vectors_have_length_one_or_none(encode: TfidfEncoder) -> None:
    vectors = encode(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 0, 0, 0, 1], atol=1e-6)


def test_a_vector_is_the_same_to_the_last_bit_beside_other_texts_and_in_another_order(encode: TfidfEncoder) -> None:
    together, turned = encode(TEXTS), encode(TEXTS[::-1])[::-1]
    for at, text in enumerate(TEXTS):
        alone = encode([text])[0]
        np.testing.assert_array_equal(alone, together[at])
        np.testing.assert_array_equal(alone, turned[at])


def test_no_texts_give_no_vectors(encode: TfidfEncoder) -> None:
    assert encode([]).shape == (0, encode(["x"]).shape[1])


def test_a_text_of_100_000_characters_is_read_to_its_last_word(encode: TfidfEncoder) -> None:
    a, b = encode(["sum " * 25_000 + "spell", "sum " * 25_000 + "play"])
    assert not np.array_equal(a, b)


def test_with_a_dimension_for_each_text_the_folding_keeps_the_cosines_of_the_training_texts() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit([*TRAIN, "empty"]).transform(TRAIN).toarray()
    vectors = TfidfEncoder().fit(TRAIN)(TRAIN)
    assert vectors.shape == (5, 4)  # one less than there are texts
    _, values, axes = np.linalg.svd(counts, full_matrices=False)
    folded = counts @ axes[:4].T
    folded /= np.linalg.norm(folded, axis=1, keepdims=True)
    assert values[4] > 0
    np.testing.assert_allclose(vectors @ vectors.T, folded @ folded.T, atol=5e-3)  # the folding is kept in half precision


def test_what_was_learned_comes_back_through_json(encode: TfidfEncoder) -> None:
    meta, arrays = encode.state()
    other = TfidfEncoder()
    other.restore(json.loads(json.dumps(meta)), arrays)
    np.testing.assert_array_equal(encode(TEXTS), other(TEXTS))
    again, own = other.state()
    assert again == meta
    assert all(np.array_equal(array, own[name]) for name, array in arrays.items())


def test_the_same_texts_give_the_same_encoder(encode: TfidfEncoder) -> None:
    np.testing.assert_array_equal(TfidfEncoder().fit(["other", *TRAIN]).fit(TRAIN)(TEXTS), encode(TEXTS))


@pytest.mark.parametrize(
    "texts",
    [
        [f"{chr(0x4E00 + at)}{chr(0x4E80 + at)}" for at in range(120)],  # 120 Chinese questions, each one word to the vectorizer
        [f"{at % 9} + {at // 14}" for at in range(120)],
        ["1 + 1", "2 + 2"],
        ["the same text"] * 5,
        ["one text"],
    ],
    ids=["chinese", "sums", "two sums", "equal", "one"],
)
def test_training_texts_without_common_words_can_be_fitted_on(texts: list[str]) -> None:
    assert np.isfinite(TfidfEncoder().fit(texts)(texts)).all()
