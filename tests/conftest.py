import os

# before numpy and torch start: more threads than free cores spin, and take many times as long
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from typing import Any

import pandas as pd
import pytest

QUESTIONS = {
    "add": ("What is two plus three?", "sums"),
    "sum": ("Find the sum of four and five.", "sums"),
    "spell": ("How do you spell cat?", "words"),
    "rhyme": ("Which word rhymes with house?", "words"),
}
SCORES = {"math": (1.0, 1.0, 0.0, 0.0), "language": (0.0, 0.25, 1.0, 1.0), "general": (1.0, 0.5, 0.5, 1.0)}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file to one worker, and all files of tests/live, which share a running mixture that takes gigabytes."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "tests/live" if file.startswith("tests/live/") else file

    return Scheduling(config, log)


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
