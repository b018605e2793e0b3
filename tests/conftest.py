import os

# before numpy and torch start: more threads than free cores spin, and take many times as long
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pandas as pd
import pytest

QUESTIONS = {
    "add": ("What is two plus three?", "sums"),
    "sum": ("Find the sum of four and five.", "sums"),
    "spell": ("How do you spell cat?", "words"),
    "rhyme": ("Which word rhymes with house?", "words"),
}
SCORES = {"math": (1.0, 1.0, 0.0, 0.0), "language": (0.0, 0.25, 1.0, 1.0), "general": (1.0, 0.5, 0.5, 1.0)}


@pytest.fixture
def score_table() -> pd.DataFrame:
    """Four questions, two of sums and two of words, and three experts: one for each kind, and one for both."""
    return pd.DataFrame(
        [
            {"query_id": name, "query": text, "expert": expert, "score": scores[at], "category": category, "split": "train"}
            for at, (name, (text, category)) in enumerate(QUESTIONS.items())
            for expert, scores in SCORES.items()
        ]
    )
