"""The static encoder: one stored vector per word piece, averaged; a thousand times less work than a transformer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.encoders.base import clean, remembering, unit
from data.encoders.sentence import model_folder
from data.records import CounterpointError

SHIPPED = Path(__file__).parent / "static_minilm"
"""The encoder that ships: distilled from all-MiniLM-L6-v2 by `counterpoint encoder distil`."""

_LEVELS = 7  # 4 bits: -7 to 7


class StaticEncoder:
    """Encode a text as the mean of its word pieces' vectors; any length is read whole.

    Args:
        folder: Holds `static.safetensors` and `tokenizer.json`.
        name: What it is called in artefacts.

    Raises:
        CounterpointError: The files are absent or damaged.

    Source:
        Model2Vec, https://github.com/MinishLab/model2vec (the idea: vectors of single tokens, principal components, rank weights);
        the packing into four bits is ours.
    """

    def __init__(self, folder: Path, name: str) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self.name = name
        try:
            self.digest = hashlib.sha256((folder / "static.safetensors").read_bytes()).hexdigest()
            arrays = load_file(folder / "static.safetensors")
            self._vectors = unpack(arrays["packed"], arrays["scale"])
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            if self._tokenizer.get_vocab_size() > len(self._vectors):
                raise ValueError(f"{len(self._vectors)} vectors for {self._tokenizer.get_vocab_size()} word pieces")
        except Exception as error:  # safetensors and tokenizers raise their own, and plain Exception
            reason = str(error).partition("\n")[0]
            raise CounterpointError(f"the static encoder in {folder} cannot be loaded: {reason}") from error
        self._remembered = remembering(self._one)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts, shape (n, dim), float32."""
        return np.stack([self._remembered(text) for text in texts]) if texts else np.zeros((0, self.dim), dtype=np.float32)

    def _one(self, text: str) -> np.ndarray:
        ids = self._tokenizer.encode(clean(text), add_special_tokens=False).ids
        return unit(self._vectors[ids].sum(axis=0)) if ids else np.zeros(self.dim, dtype=np.float32)


def pack(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Store each row in four bits a number and one scale.

    Args:
        vectors: Shape (n, dim), dim even.

    Returns:
        Two numbers a byte, shape (n, dim / 2), and the scales, shape (n,).

    Example:
        >>> unpack(*pack(np.array([[7.0, -3.0], [0.0, 0.0]]))).tolist()
        [[7.0, -3.0], [0.0, 0.0]]
    """
    scale = np.abs(vectors).max(axis=1) / _LEVELS
    levels = np.rint(vectors / np.maximum(scale, 1e-12)[:, None]).astype(np.int8) + _LEVELS
    pairs = levels.astype(np.uint8)
    return pairs[:, 0::2] | (pairs[:, 1::2] << 4), scale.astype(np.float32)


def unpack(packed: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Turn what `pack` stored into vectors, float32."""
    vectors = np.empty((len(packed), packed.shape[1] * 2), dtype=np.float32)
    vectors[:, 0::2] = packed & 15
    vectors[:, 1::2] = packed >> 4
    vectors -= _LEVELS
    vectors *= scale[:, None]
    return vectors


def distil(model: str, folder: Path, dim: int = 256, tick: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Make a static encoder of a sentence-transformers model with a word-piece vocabulary.

    Each piece is read alone by the model; its vector is projected on the first principal components and weighted by the
    logarithm of its rank, which stands in for its rarity: such vocabularies are in the order of frequency.

    Args:
        model: `all-MiniLM-L6-v2`, or a folder.
        folder: Where the encoder goes.
        dim: Length of its vectors, even.
        tick: Told of pieces done and their total.

    Raises:
        CounterpointError: The model cannot be read, or has no word-piece vocabulary.
    """
    import torch
    from safetensors.numpy import save_file
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

    if dim < 2 or dim % 2:
        raise CounterpointError(f"dim must be an even number from 2, not {dim}")
    if model_folder(model) == model and not Path(model).is_dir() and "/" not in model:
        raise CounterpointError(f"no model is called {model!r}: wanted all-MiniLM-L6-v2, a folder, or owner/name on the hub")
    try:
        source: Any = SentenceTransformer(model_folder(model), device="cpu")
    except (OSError, ValueError) as error:
        raise CounterpointError(f"the model {model!r} cannot be loaded: {str(error).partition(chr(10))[0]}") from error
    tokenizer = source.tokenizer
    ends = [tokenizer.cls_token_id, tokenizer.sep_token_id]
    if None in ends or "WordPiece" not in tokenizer.backend_tokenizer.to_str():
        raise CounterpointError(f"the model {model!r} has no word-piece vocabulary, so single pieces cannot be read")
    pieces, rows = len(tokenizer), []
    with torch.no_grad():
        for start in range(0, pieces, 512):
            batch = torch.tensor([[ends[0], piece, ends[1]] for piece in range(start, min(start + 512, pieces))])
            states = source[0].auto_model(input_ids=batch, attention_mask=torch.ones_like(batch)).last_hidden_state
            rows.append(states.mean(dim=1).numpy())
            tick(min(start + 512, pieces), pieces)
    vectors = np.concatenate(rows).astype(np.float64)
    vectors -= vectors.mean(axis=0)
    _, _, components = np.linalg.svd(vectors, full_matrices=False)
    if dim > len(components):
        raise CounterpointError(f"dim must be at most {len(components)}, the model's own, not {dim}")
    signs = np.sign(components[np.arange(len(components)), np.abs(components).argmax(axis=1)])  # svd leaves them open
    projected = vectors @ (components * signs[:, None])[:dim].T
    packed, scale = pack(projected * np.log(1 + np.arange(pieces))[:, None])
    bare = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    bare.no_truncation()
    bare.no_padding()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"packed": packed, "scale": scale}, folder / "static.safetensors")
        (folder / "tokenizer.json").write_text(bare.to_str(), encoding="utf-8")
    except Exception as error:  # safetensors raises its own where the disk is full
        raise CounterpointError(f"cannot write the encoder to {folder}: {str(error).partition(chr(10))[0]}") from error
