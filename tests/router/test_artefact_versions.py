import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from router import KNNRouter, LinearRouter, LivingRouter, RouterError, load_router

EXPERTS = ["math", "language", "both"]
TEXTS = ["a", "b", "a b", "a a b", "c", "d c b a", "", "none of these words"]
QUERIES = ["a sum", "a word", "both", "both again", "a riddle"]

VECTORS = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0.6, 0.8, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0]], dtype=np.float16)
NAN = np.nan
QUALITY = np.array([[1, 0, 1], [0, 1, NAN], [1, 1, 0.25], [0, 1, NAN], [NAN, 0, 0]], dtype=np.float32)
MEAN = np.array([0.5, 0.6, 0.41])

COEF = np.array([[2.0, -1.0, 0.5, 0.0], [-2.0, 1.5, 0.0, 3.0], [0.1, 0.2, 0.3, 0.4]])
INTERCEPT = np.array([0.25, -0.5, 8.0])


def write(folder: Path, kind: str, encoder: str, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    """Write an artefact as version 1 did."""
    weights = save(arrays)
    head = {"version": 1, "kind": kind, "encoder": encoder, "experts": EXPERTS, "state": state}
    head["sha256"] = hashlib.sha256(json.dumps(head, sort_keys=True).encode() + weights).hexdigest()
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "router.json").write_text(json.dumps(head, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return folder


def knn(folder: Path, encoder: str, k: int = 3, temperature: float = 0.1, prior: float = 0.5) -> Path:
    state = {"k": k, "temperature": temperature, "prior": prior, "queries": QUERIES, "categories": ["", "", "x", "x", ""]}
    return write(folder, "knn", encoder, state, {"vectors": VECTORS, "quality": QUALITY, "mean": MEAN})


def linear(folder: Path, encoder: str) -> Path:
    return write(folder, "linear", encoder, {"strength": 10.0}, {"coef": COEF, "intercept": INTERCEPT})


def knn_of_version_1(vector: np.ndarray, k: int, temperature: float, prior: float) -> np.ndarray:
    """The scores that version 1 gave."""
    similarity = VECTORS.astype(np.float32) @ vector
    nearest = np.argsort(-similarity, kind="stable")[:k]
    weight = np.exp((similarity[nearest] - similarity[nearest][0]) / temperature)[:, None]
    quality = QUALITY[nearest]
    known = ~np.isnan(quality)
    right = (weight * np.where(known, quality, 0)).sum(axis=0) + prior * MEAN
    total = (weight * known).sum(axis=0) + prior
    return np.asarray(np.where(total > 0, right / np.maximum(total, 1e-12), MEAN))


def of_words(text: str) -> np.ndarray:
    """The vector of a text whose words `a` to `d` stand at right angles."""
    counts = np.array([text.split().count(word) for word in "abcd"], dtype=float)
    return np.asarray(counts / max(np.linalg.norm(counts), 1e-12), dtype=np.float32)


@pytest.mark.parametrize("prior", [0.5, 0.0, 7.0])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (2, 0.1), (3, 0.5), (20, 0.1)])
def test_a_knn_router_of_version_1_scores_as_it_did(k: int, temperature: float, prior: float, axes: str, tmp_path: Path) -> None:
    router = load_router(knn(tmp_path, axes, k, temperature, prior))
    assert isinstance(router, KNNRouter)
    assert router.experts_ == EXPERTS
    wanted = [knn_of_version_1(of_words(text), k, temperature, prior) for text in TEXTS]
    np.testing.assert_allclose(router.scores(TEXTS), wanted, atol=1e-6)


def test_a_knn_router_of_version_1_scores_as_by_hand(axes: str, tmp_path: Path) -> None:
    router = load_router(knn(tmp_path, axes, k=2, temperature=0.5, prior=0.5))
    # nearest to "a" are itself, and of the equal third and fourth the third: cosine 1 and 0.6
    far = np.exp(-0.4 / 0.5)
    wanted = [(1 + far + 0.25) / (1.5 + far), (far + 0.3) / (1.5 + far), (1 + 0.25 * far + 0.205) / (1.5 + far)]
    np.testing.assert_allclose(router.scores(["a"])[0], wanted, atol=1e-3)  # 0.6 is not 0.6 in 16 bits


def test_a_knn_router_of_version_1_gives_the_same_reasons(axes: str, tmp_path: Path) -> None:
    router = load_router(knn(tmp_path, axes))
    assert router.reasons("a") == (
        "1.00 'a sum': right were math, both",
        "0.60 'both': right were math, language",
        "0.60 'both again': right were language",
    )


def test_a_linear_router_of_version_1_is_still_a_logistic_regression(axes: str, tmp_path: Path) -> None:
    router = load_router(linear(tmp_path, axes))
    assert isinstance(router, LinearRouter)
    wanted = [1 / (1 + np.exp(-(COEF @ of_words(text) + INTERCEPT))) for text in TEXTS]
    np.testing.assert_allclose(router.scores(TEXTS), wanted, atol=1e-6)
    np.testing.assert_allclose(router.scores(["b"])[0], 1 / (1 + np.exp([0.75, -1.0, -8.2])), atol=1e-6)


@pytest.mark.parametrize("make", [knn, linear])
def test_a_router_of_version_1_is_saved_as_version_2_and_scores_the_same_to_the_last_bit(make: Any, axes: str, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = load_router(make(tmp_path / "old", axes))
    old.save(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "router.json").read_text(encoding="utf-8"))["version"] == 2
    new = load_router(tmp_path / "new")
    assert new.scores(TEXTS).tobytes() == old.scores(TEXTS).tobytes()
    assert new.reasons("a b") == old.reasons("a b")


@pytest.mark.parametrize("make", [knn, linear])
def test_a_router_of_version_1_lives_on(make: Any, axes: str, tmp_path: Path) -> None:
    old = load_router(make(tmp_path, axes))
    living = LivingRouter(old).join_described("new", "riddles", {})
    assert living.scores(TEXTS)[:, :3].tobytes() == old.scores(TEXTS).tobytes()


def test_a_batch_changes_no_score_of_a_router_of_version_1(axes: str, tmp_path: Path) -> None:
    router = load_router(knn(tmp_path, axes))
    together = router.scores(TEXTS)
    for at, text in enumerate(TEXTS):
        assert router.scores([text])[0].tobytes() == together[at].tobytes()


def test_a_damaged_artefact_of_version_1_is_refused(axes: str, tmp_path: Path) -> None:
    text = (knn(tmp_path, axes) / "router.json").read_text(encoding="utf-8")
    (tmp_path / "router.json").write_text(text.replace('"prior": 0.5', '"prior": 5.0'), encoding="utf-8")
    with pytest.raises(RouterError, match="is damaged: its checksum is not the one"):
        load_router(tmp_path)
