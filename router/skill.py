"""The skill router: which skills does a question need, and who has shown them?"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from data.encoders import DEFAULT, get_encoder
from router.artefact import RouterError
from router.base import EmbeddingRouter
from router.linear import ridge

Weighting = Literal["mean", "code", "paper"]


class SkillRouter(EmbeddingRouter):
    """Tag a question with skill keywords, and score each expert by its record on them.

    The keywords of the training questions come from the table's column `keywords` (separated by `;`, as `router annotate`
    writes it with the help of an LLM), else from `category`, else from each question's rarest telling words. A tagger on the
    question's features learns to foretell them; an LLM's own keywords can be given to `scores_of_keywords`.

    Args:
        weighting: How keywords add up. `mean`: each expert's mean on each keyword, drawn to its overall mean, by the keyword's
            weight. `code`: as the authors' program, the sum of +1 for right and -1 for wrong over the keywords' questions,
            times the expert's share of the squared overall strength, positive ones only. `paper`: a softmax of sum times share.
        tags: Keywords that a question gets at most.
        least: Training questions that a keyword must have; rarer ones are forgotten.
        prior: Weight of an expert's overall mean in each keyword's, in questions.
        encoder: Names of text encoders, joined by `+`.

    Source:
        Chen et al. 2025, Symbolic Mixture-of-Experts, arXiv:2503.05641; the tagger and `mean` are ours.

    Example:
        >>> rows = [{"query_id": q, "query": q, "keywords": k, "expert": e, "score": float(e in k)}
        ...         for q, k in [("two plus two", "sums"), ("six plus one", "sums"), ("spell cat", "words"), ("spell dog", "words")]
        ...         for e in ("sums", "words")]
        >>> SkillRouter(least=1).fit(pd.DataFrame(rows)).reasons("nine plus nine")[0][:10]
        '0.58 sums:'
    """

    kind = "skill"

    def __init__(
        self, *, weighting: Weighting = "mean", tags: int = 5, least: int = 3, prior: float = 20.0, encoder: str = DEFAULT
    ) -> None:
        super().__init__(encoder=encoder)
        self.weighting = weighting
        self.tags = tags
        self.least = least
        self.prior = prior

    def _fit(self, vectors: np.ndarray, scores: np.ndarray, queries: pd.DataFrame) -> None:
        if self.weighting not in ("mean", "code", "paper") or self.tags < 1 or self.least < 1 or self.prior < 0:
            settings = f"weighting={self.weighting!r}, tags={self.tags}, least={self.least}, prior={self.prior}"
            raise RouterError(
                f"the skill router wants weighting mean, code or paper, tags and least from 1 and prior from 0, not {settings}"
            )
        tagged = keywords_of(queries, self.tags)
        counts = Counter(word for words in tagged for word in words)
        most = max(counts.values(), default=0)
        self.keywords_ = sorted(word for word, count in counts.items() if count >= min(self.least, most)) or ["question"]
        column = {word: at for at, word in enumerate(self.keywords_)}
        has = np.zeros((len(tagged), len(column)))
        for row, words in enumerate(tagged):
            has[row, [column[word] for word in words if word in column]] = 1
        known, won = ~np.isnan(scores), np.nan_to_num(scores)
        self.mean_ = np.nanmean(scores, axis=0)
        self.right_, self.seen_ = has.T @ won, has.T @ known
        coef, intercept = ridge(vectors.astype(np.float64), has, [10.0])
        self.coef_, self.intercept_ = coef[0], intercept[0]

    def _tags(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest keywords and their weights, which sum to 1."""
        likely: np.ndarray = np.clip(self.coef_ @ vector + self.intercept_, 0, None)
        order = np.argsort(-likely, kind="stable")[: self.tags]
        order = order[likely[order] > 0.1 * likely[order[0]]] if likely[order[0]] > 0 else order[:0]
        return order, likely[order] / max(float(likely[order].sum()), 1e-12)

    def _score(self, vector: np.ndarray) -> np.ndarray:
        return self._weigh(*self._tags(vector))

    def _weigh(self, keywords: np.ndarray, weight: np.ndarray) -> np.ndarray:
        if not len(keywords):
            return np.asarray(self.mean_)
        if self.weighting == "mean":
            seen = self.seen_[keywords] + self.prior
            quality = (self.right_[keywords] + self.prior * self.mean_) / np.maximum(seen, 1e-12)
            return np.asarray(weight @ np.where(seen > 0, quality, self.mean_))
        record = 2 * self.right_ - self.seen_  # +1 for each right answer, -1 for each wrong one
        return recruiting(record[keywords].sum(axis=0), record.sum(axis=0), self.weighting)

    def scores_of_keywords(self, keywords: Sequence[str]) -> np.ndarray:
        """Score the experts for keywords that somebody else found, each as the nearest one known, shape (n_experts,).

        Args:
            keywords: Such as an LLM names for a question.
        """
        self._check_fitted()
        if not keywords:
            return self.calibration_(self.mean_)
        encode = get_encoder()
        nearest = (encode(self.keywords_) @ encode([word.lower() for word in keywords]).T).argmax(axis=0)
        return self.calibration_(self._weigh(nearest, np.full(len(nearest), 1 / len(nearest))))

    def _reasons(self, vector: np.ndarray, experts: Sequence[str]) -> tuple[str, ...]:
        """Name the keywords and who is best on each."""
        lines = []
        for at, weight in zip(*self._tags(vector), strict=True):
            quality = self.right_[at] / np.maximum(self.seen_[at], 1)
            best = int(quality.argmax())
            lines.append(
                f"{weight:.2f} {self.keywords_[at]}: best is {experts[best]}, right on {quality[best]:.2f} of {self.seen_[at][best]:.0f}"
            )
        return tuple(lines)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {"coef": self.coef_, "intercept": self.intercept_, "right": self.right_, "seen": self.seen_, "mean": self.mean_}
        return {"keywords": self.keywords_}, arrays

    def _restore(self, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.keywords_ = list(meta["keywords"])
        self.coef_, self.intercept_, self.mean_ = arrays["coef"], arrays["intercept"], arrays["mean"]
        self.right_, self.seen_ = arrays["right"], arrays["seen"]


def keywords_of(queries: pd.DataFrame, most: int) -> list[list[str]]:
    """Keywords of each question: the column `keywords`, else `category`, else the rarest telling words."""
    if "keywords" in queries and any(isinstance(cell, str) and _split(cell) for cell in queries["keywords"]):
        return [_split(cell)[:most] if isinstance(cell, str) else [] for cell in queries["keywords"]]
    if "category" in queries and queries["category"].notna().any():
        return [[cell] if isinstance(cell, str) and cell else [] for cell in queries["category"]]
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = list(queries["query"])
    common = {"min_df": 2, "max_df": 0.2} if len(texts) >= 20 else {}
    vectorizer = TfidfVectorizer(max_features=1000, **common)
    try:
        counts = vectorizer.fit_transform([*texts, "nothing"])[:-1]
    except ValueError:  # no word tells questions apart
        return [[] for _ in texts]
    words = vectorizer.get_feature_names_out()
    found = []
    for at in range(counts.shape[0]):
        row = counts[at]
        found.append([str(words[row.indices[i]]) for i in np.argsort(-row.data, kind="stable")[:most]])
    return found


def _split(cell: str) -> list[str]:
    return list(dict.fromkeys(word.strip().lower() for word in cell.split(";") if word.strip()))


def recruiting(local: np.ndarray, overall: np.ndarray, weighting: Weighting) -> np.ndarray:
    """Turn an expert's record on the keywords, and its record as a whole, into its share of the recruiting.

    Args:
        local: Sum of +1 and -1 over the keywords' questions, shape (n_experts,).
        overall: The same over all keywords.
        weighting: `code` or `paper`.

    Source:
        Symbolic-MoE as published (`code`: no softmax, squares of the overall strength) and as described (`paper`).

    Example:
        >>> recruiting(np.array([3.0, -1.0, 2.0]), np.array([1.0, 3.0, 3.0]), "code").round(3).tolist()
        [0.143, 0.0, 0.857]
    """
    strength = overall - overall.min() + 1 if overall.min() < 0 else overall
    if weighting == "paper":
        logits = local * strength / max(float(strength.sum()), 1e-12) / 0.5
        odds = np.exp(logits - logits.max())
        return np.asarray(odds / odds.sum())
    share = strength**2 / max(float((strength**2).sum()), 1e-12)
    suited = np.where(local > 0, local, 0) if (local > 0).any() else local - local.min() + 1
    product = suited * share
    return np.asarray(product / product.sum() if product.sum() > 0 else np.full(len(product), 1 / len(product)))


def recruit(text: str, share: Mapping[str, float], k: int, seed: int = 0) -> list[str]:
    """Draw k experts by their shares, with replacement: one that is drawn twice gives two samples.

    The draw depends on the text and the seed only.

    Example:
        >>> recruit("two plus two", {"a": 0.0, "b": 1.0}, 3)
        ['b', 'b', 'b']
    """
    names = list(share)
    p = np.array([share[name] for name in names])
    p = p / p.sum() if p.sum() > 0 else np.full(len(p), 1 / len(p))
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8]
    rng = np.random.default_rng([seed, int.from_bytes(digest, "big")])
    return [names[at] for at in rng.choice(len(names), size=k, p=p)]


def trim(drawn: Sequence[Sequence[str]], least: float = 0.05, seed: int = 0) -> list[list[str]]:
    """Replace experts that a whole batch hardly needs by draws among the others, in proportion to their counts.

    For one owner's batch job only: a question's experts then depend on the rest of the batch.

    Args:
        drawn: The experts of each question.
        least: Share of all draws that an expert must have.
        seed: Seed of the draws.

    Example:
        >>> trim([["a", "a", "b"]] + [["a", "a", "a"]] * 9)[0]
        ['a', 'a', 'a']
    """
    counts = Counter(name for names in drawn for name in names)
    kept = {name: count for name, count in counts.items() if count >= least * counts.total()}
    if not kept or len(kept) == len(counts):
        return [list(names) for names in drawn]
    rng = np.random.default_rng(seed)
    names = list(kept)
    p = np.array([kept[name] for name in names], dtype=float) / sum(kept.values())
    return [[name if name in kept else names[rng.choice(len(names), p=p)] for name in row] for row in drawn]
