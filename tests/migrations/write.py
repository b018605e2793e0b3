"""Write one thing of each kind that carries a version, for the tests of later releases.

Run it with a release's own code, once, before the first change to what that release writes:

    python tests/migrations/write.py tests/migrations/0.1

`0.1/` was written by 0.1.0. `0.1/router-1` is in the version before, which no release's code writes any more; its JSON and arrays are
laid out here by hand. `0.1/expected.json` holds what that release read back.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save

from aggregator.pooling import PoolWeights
from data.encoders import get_encoder
from data.scores import write_scores
from router import KNNRouter, load_router
from serving.store import Store
from serving.tables import Batch, Spend

QUESTIONS = {
    "What is two plus three?": ("5", (1.0, 0.0)),
    "Find the sum of four and five.": ("9", (1.0, 0.5)),
    "How do you spell cat?": ("c-a-t", (0.0, 1.0)),
    "Which word rhymes with house?": ("mouse", (0.0, 1.0)),
}
EXPERTS = ("sums", "words")

CONFIG = """\
# A mixture that replays recorded answers.
version: 1
name: mix  # what clients ask for
experts:
  - {name: sums, model: scores.parquet, engine: replay}
  - {name: words, model: scores.parquet, engine: replay}  # spelling and rhymes

# Who is asked.
router:
  path: router-1
  policy: {kind: top-k, k: 2}
aggregator: {kind: pool, path: combiner}
# Keys and what they spent.
serving: {keys: true, store: "sqlite:///store.db"}
"""


def write(folder: Path) -> None:
    """Write all."""
    folder.mkdir(parents=True)
    (folder / "mixture.yaml").write_text(CONFIG, encoding="utf-8")
    table = scores()
    for ending in ("parquet", "jsonl", "csv"):
        write_scores(table, folder / f"scores.{ending}")
    KNNRouter(encoder="static", k=2).fit(table).save(folder / "router")
    write_router_1(folder / "router-1")
    PoolWeights({"sums@letter": 0.75, "words@letter": -0.25}, {"letter": "Answer by the letter."}, 0.1).save(folder / "combiner")
    write_store(folder / "store.db")
    expected = {
        "table": table.to_dict("records"),
        "router": load_router(folder / "router").scores(list(QUESTIONS)).tolist(),
        "router-1": load_router(folder / "router-1").scores(list(QUESTIONS)).tolist(),
        "combiner": dict(PoolWeights.load(folder / "combiner").weights),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def scores() -> pd.DataFrame:
    """Four questions, two experts, and what they answered."""
    rows: list[dict[str, Any]] = []
    for number, (query, (answer, graded)) in enumerate(QUESTIONS.items()):
        for expert, score in zip(EXPERTS, graded, strict=True):
            said = answer if score == 1 else 'I do not know, "NA" perhaps'
            row = {"query_id": f"q{number}", "query": query, "expert": expert, "score": score, "split": "train", "answer": answer}
            rows.append(row | {"response": said, "prompt_tokens": 10 + number, "completion_tokens": 3, "cost": 0.25})
    return pd.DataFrame(rows)


def write_router_1(folder: Path) -> None:
    """A knn router as version 1 of routers' artefacts kept it: vectors in 16 bits, settings among the state."""
    vectors = np.asarray(get_encoder("static")(list(QUESTIONS)), dtype=np.float16)
    quality = np.array([graded for _, graded in QUESTIONS.values()], dtype=np.float32)
    weights = save({"vectors": vectors, "quality": quality, "mean": quality.mean(axis=0).astype(float)})
    state = {"k": 2, "temperature": 0.1, "prior": 0.5, "queries": list(QUESTIONS), "categories": [""] * len(QUESTIONS)}
    head: dict[str, Any] = {"version": 1, "kind": "knn", "encoder": "static", "experts": list(EXPERTS), "state": state}
    head["sha256"] = hashlib.sha256(json.dumps(head, sort_keys=True).encode() + weights).hexdigest()
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "router.json").write_text(json.dumps(head, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_store(path: Path) -> None:
    """A store with a row in every table."""
    with Store(f"sqlite:///{path}") as store:
        store.add_key("k1", name="reports", salt=b"salt", digest=b"digest", budget_usd=5.0, allowed_experts=["sums"], created_at=1.0)
        store.settle("k1", Spend(0.25, 10, 5, 1), at=0)
        store.hold("k1", "h1", 0.5, at=2)
        store.add_feedback("k1", "r1", 0.5, "fair enough", at=1)
        store.add_trace("k1", "r1", {"question": "asked"}, text=True, at=2)
        store.add_file("k1", "f1", "in.jsonl", "batch", b"{}\n", created_at=3)
        store.save_batch("k1", Batch("b1", "/v1/chat/completions", "f1", "24h", "completed", 3, completed_at=4, metadata={"for": "me"}))
        store.save_conversation("k1", "c1", "Hello", [{"role": "user", "content": "Hello"}], at=4)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
