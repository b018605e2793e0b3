from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.records import CounterpointError
from experts.traces import bursts, draw_experts, draw_lengths, poisson, read_azure, read_lengths, scaled

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
ROWS = ("2023-11-16 18:15:46.5,374,44", "2023-11-16 18:15:48.0000000,396,109", "2023-11-16 18:15:50.5,879,55")


def written(folder: Path, *lines: str) -> Path:
    path = folder / "trace.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_times_count_from_the_first_call(tmp_path: Path) -> None:
    arrivals, tokens = read_azure(written(tmp_path, HEADER, *ROWS), 3)
    assert arrivals.tolist() == [0.0, 1.5, 4.0]
    assert tokens.tolist() == [44, 109, 55]


def test_only_the_first_calls_are_read(tmp_path: Path) -> None:
    arrivals, tokens = read_azure(written(tmp_path, HEADER, *ROWS), 2)
    assert arrivals.tolist() == [0.0, 1.5]
    assert tokens.tolist() == [44, 109]


def test_unsorted_calls_are_sorted_with_their_tokens(tmp_path: Path) -> None:
    arrivals, tokens = read_azure(written(tmp_path, HEADER, *ROWS[::-1]), 3)
    assert arrivals.tolist() == [0.0, 1.5, 4.0]
    assert tokens.tolist() == [44, 109, 55]


def test_a_short_trace_repeats_one_mean_gap_after_its_end(tmp_path: Path) -> None:
    arrivals, tokens = read_azure(written(tmp_path, HEADER, *ROWS), 7)
    assert arrivals.tolist() == [0.0, 1.5, 4.0, 6.0, 7.5, 10.0, 12.0]
    assert tokens.tolist() == [44, 109, 55, 44, 109, 55, 44]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("TIMESTAMP,ContextTokens", "2023-11-16 18:15:46,374"), "has no column 'GeneratedTokens'"),
        ((HEADER,), "has no calls"),
        (("",), "cannot be read"),
        ((HEADER, ROWS[0], "2023-11-16 18:15:48,396,"), "row 2, column GeneratedTokens: wanted a number from 0, not nan"),
        ((HEADER, ROWS[0], "2023-11-16 18:15:48,396,NaN"), "row 2, column GeneratedTokens"),
        ((HEADER, ROWS[0], "2023-11-16 18:15:48,396,-3"), "row 2, column GeneratedTokens"),
        ((HEADER, ROWS[0], "2023-11-16 18:15:48,396,inf"), "row 2, column GeneratedTokens"),
        ((HEADER, "noon,374,44"), "row 1, column TIMESTAMP: wanted a time, not 'noon'"),
        ((HEADER, ",374,44"), "row 1, column TIMESTAMP"),
    ],
)
def test_a_bad_trace_is_named_with_its_row(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(CounterpointError, match=said):
        read_azure(written(tmp_path, *lines), 5)


def test_a_file_that_is_not_there_or_no_csv_is_named(tmp_path: Path) -> None:
    with pytest.raises(CounterpointError, match="no trace at"):
        read_azure(tmp_path / "none.csv", 5)
    (tmp_path / "trace.txt").write_text("")
    with pytest.raises(CounterpointError, match="is no trace"):
        read_azure(tmp_path / "trace.txt", 5)


@pytest.mark.parametrize("draw", [poisson, bursts])
def test_generated_arrivals_ascend_from_zero_and_repeat_with_their_seed(draw: object) -> None:
    assert callable(draw)
    times = draw(5000, 3)
    assert times[0] == 0
    assert len(times) == 5000
    assert (np.diff(times) >= 0).all()
    np.testing.assert_array_equal(times, draw(5000, 3))
    assert not np.array_equal(times, draw(5000, 4))


def test_experts_follow_their_weights() -> None:
    counts = np.bincount(draw_experts(110_000, 4, 1.0, 0))
    np.testing.assert_allclose(counts / counts.sum(), np.array([12, 6, 4, 3]) / 25, atol=0.01)
    np.testing.assert_allclose(np.bincount(draw_experts(110_000, 4, 0.0, 0)) / 110_000, 0.25, atol=0.01)


def test_the_load_is_seconds_of_service_by_seconds_of_lanes() -> None:
    arrivals, seconds = poisson(1000, 0), np.full(1000, 4.0)
    assert 4000 / (16 * scaled(arrivals, seconds, 0.7, 16)[-1]) == pytest.approx(0.7)
    with pytest.raises(CounterpointError, match="arrive at different times"):
        scaled(np.zeros(3), np.ones(3), 0.7, 16)


def test_lengths_are_recorded_tokens_or_words_of_responses(tmp_path: Path) -> None:
    pd.DataFrame({"response": ["one two", None], "completion_tokens": [7, 9]}).to_parquet(tmp_path / "both.parquet")
    assert read_lengths(tmp_path / "both.parquet").tolist() == [7, 9]
    pd.DataFrame({"response": ["one two", None]}).to_parquet(tmp_path / "text.parquet")
    assert read_lengths(tmp_path / "text.parquet").tolist() == [2.6]
    pd.DataFrame({"score": [1.0]}).to_parquet(tmp_path / "none.parquet")
    with pytest.raises(CounterpointError, match="neither a column completion_tokens nor response"):
        read_lengths(tmp_path / "none.parquet")
    assert set(draw_lengths(50, np.array([7.0, 9.0]), 0)) == {7.0, 9.0}
