"""Our letters against those that MMLU-Pro's own evaluation recorded, for the same recorded responses."""

import os
from pathlib import Path

import pandas as pd
import pytest

from data.graders import prediction

FOLDER = os.environ.get("COUNTERPOINT_BENCH_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="COUNTERPOINT_BENCH_DATA names no folder with mmlu_pro_small.parquet")

FALLBACKS = ("Meta-Llama-3.1-8B-Instruct", "mathstral-7B")
"""Where nothing was found, a later version of the evaluation recorded another letter, for these two."""


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rows = pd.read_parquet(Path(str(FOLDER)) / "mmlu_pro_small.parquet", columns=["expert", "split", "response", "prediction"])
    for grader in ("option", "mmlu-pro"):
        rows[grader] = [prediction(grader, text) for text in rows["response"].fillna("")]
    return rows


@pytest.mark.parametrize("splits", [("train", "tune"), ("test",)], ids="+".join)
@pytest.mark.parametrize("grader", ["option", "mmlu-pro"])
def test_the_letters_are_those_that_were_recorded(table: pd.DataFrame, splits: tuple[str, ...], grader: str) -> None:
    for expert, rows in table[table["split"].isin(splits)].groupby("expert"):
        both = rows[rows[grader].notna() & rows["prediction"].notna()]
        assert len(both) > 0.7 * len(rows), expert
        assert (both[grader] == both["prediction"]).mean() >= 0.995, expert


@pytest.mark.parametrize("splits", [("train", "tune"), ("test",)], ids="+".join)
def test_the_strict_reading_answers_as_often_as_was_recorded(table: pd.DataFrame, splits: tuple[str, ...]) -> None:
    for expert, rows in table[table["split"].isin(splits)].groupby("expert"):
        if expert not in FALLBACKS:
            assert rows["mmlu-pro"].notna().mean() == pytest.approx(rows["prediction"].notna().mean(), abs=0.01), expert


@pytest.mark.parametrize("splits", [("train", "tune"), ("test",)], ids="+".join)
def test_the_plain_reading_answers_a_little_more_often(table: pd.DataFrame, splits: tuple[str, ...]) -> None:
    """ "Final Answer: **C**" is an answer to people, and was none to the evaluation of the time: Qwen1.5 wrote so often."""
    for expert, rows in table[table["split"].isin(splits)].groupby("expert"):
        if expert not in FALLBACKS:
            more = rows["option"].notna().mean() - rows["prediction"].notna().mean()
            assert -0.002 <= more <= (0.05 if expert == "Qwen1.5-7B-Chat" else 0.01), expert
