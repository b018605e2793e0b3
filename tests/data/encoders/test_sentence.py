import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.encoders import MINILM, NAMES, Encoder, get_encoder

TEXTS = ["two plus two", "What is the capital of France?", "", "   ", "x", "\u6570\u5b66 \U0001f600", "word " * 700]
Refusal = Callable[[Callable[[], object]], str]


@pytest.fixture(scope="module")
def encode(tiny_model: str) -> Encoder:
    return get_encoder(tiny_model)


def test_minilm_reads_what_a_text_means() -> None:
    a, b, c = get_encoder(MINILM)(["What is two plus three?", "Add two and three.", "Who wrote Hamlet?"])
    assert a.shape == (384,)
    assert a @ b > a @ c + 0.2


def test_minilm_hears_the_end_of_a_text_of_3000_words() -> None:
    lamp = "the lamp stands on the table " * 500
    encode = get_encoder(MINILM)
    lamps, end = encode([lamp, lamp + "add seven and five"])
    asked = encode(["add seven and five"])[0]
    assert end @ asked > lamps @ asked


def test_vectors_have_length_one(encode: Encoder) -> None:
    vectors = encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_vector_is_the_same_to_the_last_bit_beside_other_texts_and_in_another_order(encode: Encoder) -> None:
    together, turned = encode(TEXTS), encode(TEXTS[::-1])
    for at, text in enumerate(TEXTS):
        alone = encode([text])[0]
        np.testing.assert_array_equal(alone, together[at])
        np.testing.assert_array_equal(alone, turned[::-1][at])


def test_what_a_caller_does_with_a_vector_changes_no_later_one(encode: Encoder) -> None:
    first = encode(["two plus two"])
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(encode(["two plus two"]), kept)


def test_no_texts_give_no_vectors(encode: Encoder) -> None:
    assert len(encode([])) == 0


def test_a_text_longer_than_the_model_reads_is_the_mean_of_its_parts_by_their_lengths(encode: Encoder) -> None:
    # 14 pieces fit; "two" and "plus" are a piece each, so the parts are 14 and 6 pieces long
    long, first, second = encode(["two " * 14 + "plus " * 6, "two " * 14, "plus " * 6])
    mean = (14 * first + 6 * second) / 20
    np.testing.assert_allclose(long, mean / np.linalg.norm(mean), atol=1e-6)


def test_a_text_of_100_000_characters_is_read_to_its_last_word(encode: Encoder) -> None:
    begin = "word " * 20_000
    a, b = encode([begin + "two", begin + "plus"])
    assert not np.array_equal(a, b)


def test_half_characters_are_read_as_question_marks(encode: Encoder) -> None:
    np.testing.assert_array_equal(encode(["two \ud83d plus"]), encode(["two ? plus"]))


def test_an_encoder_is_loaded_once_a_process(encode: Encoder, tiny_model: str) -> None:
    assert get_encoder(tiny_model) is encode


@pytest.mark.parametrize("name", ["nowhere", "no\0thing", "a/b/c"])
def test_an_absent_encoder_is_named_with_what_there_is(name: str, refusal: Refusal) -> None:
    message = refusal(lambda: get_encoder(name))
    assert repr(name) in message
    assert all(known in message for known in NAMES)


def test_a_name_longer_than_any_file_may_have_is_refused_too(refusal: Refusal) -> None:
    assert "no encoder" in refusal(lambda: get_encoder("x" * 5000))


@pytest.mark.parametrize("modules", [None, "no JSON"])
def test_a_folder_that_holds_no_encoder_is_named(tmp_path: Path, modules: str | None, refusal: Refusal) -> None:
    if modules is not None:
        (tmp_path / "modules.json").write_text(modules, encoding="utf-8")
    assert refusal(lambda: get_encoder(str(tmp_path))).startswith(f"the encoder '{tmp_path}' cannot be loaded")


def test_without_its_library_the_encoder_says_what_to_install(tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # as where it is not installed
    assert (
        refusal(lambda: get_encoder(str(tmp_path))) == f"the encoder '{tmp_path}' needs sentence_transformers: install counterpoint[local]"
    )
