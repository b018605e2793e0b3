"""The TF-IDF encoder: which words a text has, rare ones counting more, folded into a short vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from data.encoders.base import remembering, unit

_WORDS, _DIM = 10_000, 128
_WORD = r"(?u)[a-zA-Z0-9\u00c0-\u024f]+|\w"
"""Words of Latin letters, and single characters of other scripts."""


class TfidfEncoder:
    """Encode by TF-IDF over words and pairs of words, folded by a singular value decomposition (latent semantic analysis).

    Source:
        Deerwester et al. 1990, Indexing by Latent Semantic Analysis; scikit-learn's TfidfVectorizer and TruncatedSVD.
    """

    name = "tfidf"

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn words, their rarity and the folding."""
        from sklearn.utils.extmath import randomized_svd

        some = [*texts, "empty empty"]  # a word that is there twice, so that there is always one
        try:
            vectorizer = self._vectorizer(None, min_df=2 if len(texts) >= 100 else 1)
            counts = vectorizer.fit_transform(some)[:-1]
        except ValueError:  # every word is a rare one
            vectorizer = self._vectorizer(None)
            counts = vectorizer.fit_transform(some)[:-1]
        _, _, components = randomized_svd(counts, max(1, min(_DIM, min(counts.shape) - 1)), random_state=0)
        self._take(sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__), vectorizer.idf_, components)
        return self

    @staticmethod
    def _vectorizer(vocabulary: dict[str, int] | None, min_df: int = 1) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        most = None if vocabulary is not None else _WORDS
        return TfidfVectorizer(
            token_pattern=_WORD, sublinear_tf=True, ngram_range=(1, 2), min_df=min_df, max_features=most, vocabulary=vocabulary
        )

    def _take(self, words: list[str], idf: np.ndarray, components: np.ndarray) -> None:
        self.words_, self.idf_ = words, np.asarray(idf, dtype=np.float32)
        self.components_ = np.asarray(components, dtype=np.float16)
        self._fitted = self._vectorizer({word: at for at, word in enumerate(words)})
        self._fitted.idf_ = self.idf_.astype(np.float64)
        self._folding = self.components_.astype(np.float32).T
        self._remembered = remembering(self._one)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts, shape (n, dim), float32."""
        dim = self._folding.shape[1]
        return np.stack([self._remembered(text) for text in texts]) if texts else np.zeros((0, dim), dtype=np.float32)

    def _one(self, text: str) -> np.ndarray:
        row = self._fitted.transform([text])
        return unit(row.data.astype(np.float32) @ self._folding[row.indices])

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The words, their rarity and the folding."""
        return {"words": self.words_}, {"idf": self.idf_, "components": self.components_}

    def restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take the words, their rarity and the folding."""
        self._take(list(meta["words"]), arrays["idf"], arrays["components"])
