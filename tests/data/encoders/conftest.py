from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.records import CounterpointError

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, "?", *(f"##{letter}" for letter in LETTERS), "two", "plus", "word"]


def save_tiny_model(folder: Path, tokens: Any) -> str:
    """Save a BERT of two layers with random weights and a tokenizer as a sentence-transformers model."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokens.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, **{f"{name}_token": piece for name, piece in names.items()})
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 16,
    }
    BertModel(BertConfig(vocab_size=len(PIECES), **shape)).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    reader = Transformer(str(folder / "bert"), max_seq_length=16)
    SentenceTransformer(modules=[reader, Pooling(16)], device="cpu").save(str(folder / "model"))
    return str(folder / "model")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sentence-transformers model of 61 word pieces, 16 dimensions, and room for 14 pieces between its ends."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokens = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokens.normalizer = normalizers.BertNormalizer()
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), tokens)


@pytest.fixture(scope="session")
def tiny_model_of_whole_words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same with a vocabulary of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = Tokenizer(models.WordLevel({piece: at for at, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    return save_tiny_model(tmp_path_factory.mktemp("whole"), tokens)


@pytest.fixture
def refusal() -> Callable[[Callable[[], object]], str]:
    """What an act is refused with: one line for a person."""

    def of(act: Callable[[], object]) -> str:
        with pytest.raises(CounterpointError) as caught:
            act()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return of
