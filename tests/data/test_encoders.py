from pathlib import Path

import numpy as np
import pytest

from data.encoders import MINILM, Encoder, get_encoder
from data.records import CounterpointError

TEXTS = ["two plus two", "What is the capital of France?", "", "   ", "x", "\u6570\u5b66 \U0001f600", "word " * 700]


@pytest.fixture(scope="module")
def encode() -> Encoder:
    return get_encoder()


def test_vectors_have_length_one(encode: Encoder) -> None:
    vectors = encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_vector_is_the_same_to_the_last_bit_beside_other_texts_and_in_another_order(encode: Encoder) -> None:
    together, turned = encode(TEXTS), encode(TEXTS[::-1])
    for at, text in enumerate(TEXTS):
        alone = encode([text])[0]
        np.testing.assert_array_equal(alone, together[at])
        np.testing.assert_array_equal(alone, turned[::-1][at])


def test_no_texts_give_no_vectors(encode: Encoder) -> None:
    assert len(encode([])) == 0


def test_the_end_of_a_text_of_3000_words_counts(encode: Encoder) -> None:
    lamp = "the lamp stands on the table " * 500
    lamps, end = encode([lamp, lamp + "add seven and five"])
    asked = encode(["add seven and five"])[0]
    assert end @ asked > lamps @ asked


@pytest.mark.slow
def test_a_very_long_text_is_encoded_in_bounded_time_and_still_to_its_end(encode: Encoder) -> None:
    begin = "the lamp stands on the table " * 4000
    a, b = encode([begin + "add seven and five", begin + "the capital of Peru"])
    assert not np.array_equal(a, b)


def test_what_means_the_same_is_nearer_than_what_does_not(encode: Encoder) -> None:
    a, b, c = encode(["What is two plus three?", "Add two and three.", "Who wrote Hamlet?"])
    assert a @ b > a @ c + 0.2


def test_an_encoder_is_loaded_once_a_process() -> None:
    assert get_encoder() is get_encoder(MINILM)


def test_an_absent_encoder_is_named_with_what_was_wanted() -> None:
    with pytest.raises(CounterpointError, match="no encoder at 'nowhere': wanted all-MiniLM-L6-v2 or the folder of"):
        get_encoder("nowhere")


@pytest.mark.parametrize("modules", [None, "no JSON"])
def test_a_folder_that_holds_no_encoder_is_named(tmp_path: Path, modules: str | None) -> None:
    if modules is not None:
        (tmp_path / "modules.json").write_text(modules, encoding="utf-8")
    with pytest.raises(CounterpointError, match=f"the encoder '{tmp_path}' cannot be loaded"):
        get_encoder(str(tmp_path))
