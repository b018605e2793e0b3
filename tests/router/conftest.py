from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from data.encoders.static import pack

EncoderOf = Callable[[Mapping[str, Sequence[float]]], str]
TableOf = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def encoder_of(tmp_path_factory: pytest.TempPathFactory) -> EncoderOf:
    """Makes a static encoder of a few words whose vectors are given, so that similarities are known; other words are nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    def make(words: Mapping[str, Sequence[float]]) -> str:
        folder: Path = tmp_path_factory.mktemp("encoder")
        dim = len(next(iter(words.values())))
        packed, scale = pack(np.array([[0.0] * dim, *words.values()]))
        save_file({"packed": packed, "scale": scale}, folder / "static.safetensors")
        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0} | {word: at for at, word in enumerate(words, start=1)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(folder / "tokenizer.json"))
        return str(folder)

    return make


@pytest.fixture(scope="session")
def axes(encoder_of: EncoderOf) -> str:
    """An encoder whose words `a` to `d` stand at right angles."""
    return encoder_of(dict(zip("abcd", np.eye(4).tolist(), strict=True)))


@pytest.fixture(scope="session")
def table_of() -> TableOf:
    """Makes a score table of texts and their scores, None where a cell is missing; more columns have one cell a text."""

    def make(texts: Sequence[str], scores: Mapping[str, Sequence[float | None]], **columns: Sequence[object]) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {"query_id": str(at), "query": text, "expert": expert, "score": score}
                | {name: cells[at] for name, cells in columns.items()}
                for at, text in enumerate(texts)
                for expert, cells_of_expert in scores.items()
                if (score := cells_of_expert[at]) is not None
            ]
        )

    return make
