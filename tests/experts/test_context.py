from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Message, Sampling
from experts.base import ExpertSpec
from experts.chat import prompt_ids
from experts.context import _tokenizer, fits

LOUD = "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('no assistants') }}{% endif %}{{ m.content }}{% endfor %}"


def far(context: int, answer: int = 10, **settings: object) -> ExpertSpec:
    return ExpertSpec("far", "m", "openai", max_model_len=context, max_tokens=answer, **settings)  # type: ignore[arg-type]


def turn(text: str) -> list[Message]:
    return [Message("user", text)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tokenizer of a model whose every letter is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder: Path = tmp_path_factory.mktemp("model")
    pieces = ["[UNK]", *"abcdefghijklmnopqrstuvwxyz :."]
    tokenizer = Tokenizer(models.WordLevel({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)  # type: ignore[no-untyped-call]
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    return str(folder)


def near(checkpoint: str, context: int, answer: int = 10, **settings: object) -> ExpertSpec:
    return ExpertSpec("near", checkpoint, "transformers", max_model_len=context, max_tokens=answer, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("letters", "wanted"), [(20, True), (270, True), (271, False), (10_000, False)])
def test_a_remote_experts_tokens_are_estimated_at_three_bytes_each(letters: int, wanted: bool) -> None:
    assert fits(far(100), turn("x" * letters), Sampling()) is wanted


def test_the_answer_takes_its_part_of_the_context() -> None:
    text = turn("x" * 150)
    assert fits(far(100), text, Sampling())
    assert fits(far(100), text, Sampling(max_tokens=50))
    assert not fits(far(100), text, Sampling(max_tokens=51))
    assert not fits(far(100), turn("x"), Sampling(max_tokens=101)), "an answer that is longer than the context"
    assert not fits(far(100, answer=90), text, Sampling()), "the expert's own limit counts where the caller gives none"


def test_the_whole_conversation_and_the_system_message_count() -> None:
    turns = [Message("user", "x" * 90), Message("assistant", "y" * 90), Message("user", "z" * 90)]
    assert fits(far(100), turns, Sampling())
    assert not fits(far(100, system="Be brief."), turns, Sampling())
    assert fits(far(100, system="Be brief."), [Message("system", ""), *turns], Sampling()), "a conversation's own takes its place"


def test_bytes_count_and_not_letters() -> None:
    assert fits(far(100), turn("a" * 200), Sampling())
    assert not fits(far(100), turn("数" * 200), Sampling())
    assert fits(far(10_000), turn("\ud800" * 10), Sampling()), "half a character is no reason to fail"


@pytest.mark.parametrize("answer", [10, 40])
def test_a_local_experts_tokens_are_counted_to_the_last_one(checkpoint: str, answer: int) -> None:
    spec = near(checkpoint, 100, answer)
    tokens = len(prompt_ids(spec, _tokenizer(checkpoint, None, False), turn(""), answer))
    room = 100 - answer - tokens
    assert fits(spec, turn("a" * room), Sampling())
    assert not fits(spec, turn("a" * (room + 1)), Sampling())


def test_what_surely_fits_is_not_counted() -> None:
    assert fits(near("/no/such/model", 4096), turn("hello"), Sampling())


def test_a_model_that_is_not_there_is_its_engines_to_tell() -> None:
    assert fits(near("/no/such/model", 100), turn("x" * 5000), Sampling())


def test_a_template_that_refuses_a_conversation_is_its_engines_to_tell(checkpoint: str) -> None:
    spec = near(checkpoint, 100, chat_template=LOUD)
    assert fits(spec, [Message("user", "a" * 500), Message("assistant", "b")], Sampling())
    assert not fits(spec, turn("a" * 500), Sampling())


@given(st.text(max_size=80), st.integers(60, 200))
def test_more_context_never_holds_less(text: str, context: int) -> None:
    if fits(far(context), turn(text), Sampling()):
        assert fits(far(context + 1), turn(text), Sampling())
        assert fits(far(context), turn(text[: len(text) // 2]), Sampling())
