import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file, save_file

from data.encoders import Encoder, get_encoder
from data.encoders.static import SHIPPED, StaticEncoder, distil, pack, unpack

TEXTS = ["two plus two", "What is the capital of France?", "x", "\u6570\u5b66 \U0001f600", "word " * 700]
BLANK = ["", "   ", "\n\t"]
Refusal = Callable[[Callable[[], object]], str]

rows = st.tuples(st.integers(1, 5), st.integers(1, 4).map(lambda half: 2 * half))
numbers = st.floats(-1e6, 1e6, width=32)


@pytest.fixture(scope="module")
def encode() -> Encoder:
    return get_encoder()


def test_vectors_have_length_one(encode: Encoder) -> None:
    vectors = encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_text_without_words_is_nowhere(encode: Encoder) -> None:
    assert not encode(BLANK).any()


@given(st.lists(st.text(max_size=60), max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_vector_is_the_same_to_the_last_bit_beside_other_texts_and_in_another_order(texts: list[str]) -> None:
    encode = get_encoder()
    together, turned = encode([*texts, *TEXTS]), encode([*TEXTS, *texts[::-1]])
    assert np.isfinite(together).all()
    for at, text in enumerate(texts):
        alone = encode([text])[0]
        np.testing.assert_array_equal(alone, together[at])
        np.testing.assert_array_equal(alone, turned[::-1][at])


def test_what_was_read_before_changes_nothing() -> None:
    fresh = StaticEncoder(SHIPPED, "fresh")
    np.testing.assert_array_equal(fresh(TEXTS[:1]), get_encoder()(TEXTS[:1]))


def test_what_a_caller_does_with_a_vector_changes_no_later_one(encode: Encoder) -> None:
    first = encode(["two plus two"])
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(encode(["two plus two"]), kept)


def test_no_texts_give_no_vectors(encode: Encoder) -> None:
    assert encode([]).shape == (0, 256)


def test_a_text_of_100_000_characters_is_read_to_its_last_word(encode: Encoder) -> None:
    begin = "the lamp stands on the table " * 3500
    a, b = encode([begin + "add seven and five", begin + "the capital of Peru"])
    assert len(begin) > 100_000
    assert not np.array_equal(a, b)


def test_a_text_is_the_sum_of_its_words_whatever_their_order(encode: Encoder) -> None:
    a, b = encode(["cat dog house", "house cat dog"])
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_half_characters_are_read_as_question_marks(encode: Encoder) -> None:
    np.testing.assert_array_equal(encode(["a \ud83d b", "\udfff"]), encode(["a ? b", "?"]))


def test_chinese_is_read_by_its_characters(encode: Encoder) -> None:
    a, b, c = encode(["\u4e00\u4e8c\u4e09", "\u4e09\u4e00\u4e8c", "\u5927\u6c34"])
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert not np.allclose(a, c, atol=0.1)


def test_what_means_the_same_is_nearer_than_what_does_not(encode: Encoder) -> None:
    a, b, c = encode(["What is two plus three?", "Add two and three.", "Who wrote Hamlet?"])
    assert a @ b > a @ c + 0.2


def test_an_encoder_is_loaded_once_a_process(encode: Encoder) -> None:
    assert get_encoder("static") is encode


def copy_of(folder: Path) -> Path:
    shutil.copytree(SHIPPED, folder)
    return folder


def test_the_folder_of_a_static_encoder_is_taken(tmp_path: Path, encode: Encoder) -> None:
    other = get_encoder(str(copy_of(tmp_path / "copy")))
    np.testing.assert_array_equal(other(TEXTS), encode(TEXTS))


def cut(folder: Path) -> None:
    whole = (folder / "static.safetensors").read_bytes()
    (folder / "static.safetensors").write_bytes(whole[: len(whole) // 2])


def empty(folder: Path) -> None:
    (folder / "static.safetensors").write_bytes(b"")


def lose_the_scale(folder: Path) -> None:
    save_file({"packed": np.zeros((3, 2), dtype=np.uint8)}, folder / "static.safetensors")


def lose_the_words(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def scribble(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0",', encoding="utf-8")


@pytest.mark.parametrize("damage", [cut, empty, lose_the_scale, lose_the_words, scribble], ids=lambda damage: damage.__name__)
def test_a_damaged_encoder_is_refused_with_its_folder(tmp_path: Path, damage: Callable[[Path], None], refusal: Refusal) -> None:
    folder = copy_of(tmp_path / "copy")
    damage(folder)
    assert refusal(lambda: get_encoder(str(folder))).startswith(f"the static encoder in {folder} cannot be loaded: ")


def test_words_without_vectors_are_noticed_when_the_encoder_is_loaded(tmp_path: Path, refusal: Refusal) -> None:
    folder = copy_of(tmp_path / "copy")
    few = {name: np.ascontiguousarray(array[:100]) for name, array in load_file(folder / "static.safetensors").items()}
    save_file(few, folder / "static.safetensors")
    refusal(lambda: get_encoder(str(folder)))


@given(arrays(np.float64, rows, elements=numbers))
def test_packing_moves_no_number_by_more_than_half_a_step(vectors: np.ndarray) -> None:
    packed, scale = pack(vectors)
    assert packed.dtype == np.uint8
    assert packed.shape == (vectors.shape[0], vectors.shape[1] // 2)
    step = np.maximum(np.abs(vectors).max(axis=1, keepdims=True) / 7, 1e-11)
    assert (np.abs(unpack(packed, scale) - vectors) <= step * (0.5 + 1e-6)).all()


@given(arrays(np.float64, rows, elements=numbers))
def test_packing_keeps_signs_and_what_was_packed_before(vectors: np.ndarray) -> None:
    packed, scale = pack(vectors)
    once = unpack(packed, scale)
    assert (once * vectors >= 0).all()
    again, _ = pack(once)
    rounded = np.abs(vectors).max(axis=1) > 1e-6  # below, the scale itself is nothing
    np.testing.assert_array_equal(again[rounded], packed[rounded])


def test_packing_by_hand() -> None:
    # the largest is seven steps: a step is 0.5; levels 7, -7, 2 (1.2 is 2.4 steps) and 0 become 14, 0, 9 and 7
    packed, scale = pack(np.array([[3.5, -3.5, 1.2, 0.1]]))
    assert scale.tolist() == [0.5]
    assert packed.tolist() == [[14 | 0 << 4, 9 | 7 << 4]]
    assert unpack(packed, scale).tolist() == [[3.5, -3.5, 1.0, 0.0]]


def test_a_model_is_distilled_into_an_encoder(tiny_model: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    distil(tiny_model, tmp_path / "encoder", dim=8, tick=lambda done, total: told.append((done, total)))
    assert told == [(61, 61)]
    encode = get_encoder(str(tmp_path / "encoder"))
    vectors = encode(["two plus two", "word", "\U0001f600", ""])
    assert vectors.shape == (4, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-6)


def test_distilling_keeps_the_principal_components_times_the_logarithm_of_the_rank(tiny_model: str, tmp_path: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sklearn.decomposition import PCA

    distil(tiny_model, tmp_path, dim=8)
    arrays = load_file(tmp_path / "static.safetensors")
    model: Any = SentenceTransformer(tiny_model, device="cpu")
    with torch.no_grad():
        ids = torch.tensor([[2, piece, 3] for piece in range(61)])
        states = model[0].auto_model(input_ids=ids).last_hidden_state.mean(dim=1).double().numpy()
    wanted = PCA(8, svd_solver="full").fit_transform(states) * np.log(1 + np.arange(61))[:, None]
    got = unpack(arrays["packed"], arrays["scale"])
    signs = np.sign((wanted * got).sum(axis=0))  # a component may point either way
    assert (np.abs(got * signs - wanted) <= arrays["scale"][:, None] * 0.5 + 1e-5).all()
    assert not got[0].any()  # the most frequent piece says nothing


def test_distilling_twice_gives_the_same_bytes(tiny_model: str, tmp_path: Path) -> None:
    for name in ("first", "again"):
        distil(tiny_model, tmp_path / name, dim=4)
    for file in sorted((tmp_path / "first").iterdir()):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


@pytest.mark.parametrize("dim", [0, -2, 7])
def test_a_dim_that_is_not_even_and_above_0_is_shown(dim: int, tmp_path: Path, refusal: Refusal) -> None:
    assert refusal(lambda: distil("nowhere", tmp_path, dim=dim)) == f"dim must be an even number from 2, not {dim}"


def test_a_dim_above_the_models_own_is_shown(tiny_model: str, tmp_path: Path, refusal: Refusal) -> None:
    assert refusal(lambda: distil(tiny_model, tmp_path / "out", dim=18)) == "dim must be at most 16, the model's own, not 18"
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_no_model_cannot_be_distilled(tmp_path: Path, refusal: Refusal) -> None:
    assert refusal(lambda: distil(str(tmp_path), tmp_path / "out")).startswith(f"the model '{tmp_path}' cannot be loaded: ")


def test_a_model_without_word_pieces_cannot_be_distilled(tiny_model_of_whole_words: str, tmp_path: Path, refusal: Refusal) -> None:
    message = refusal(lambda: distil(tiny_model_of_whole_words, tmp_path / "out"))
    assert message == f"the model '{tiny_model_of_whole_words}' has no word-piece vocabulary, so single pieces cannot be read"
