"""Traces of load: when calls arrive, for which expert, and how long each takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data.records import CounterpointError
from data.scores import read_table

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
TOKENS_PER_WORD = 1.3
"""Tokens that a word of a recorded response counts for, where the table has only its text."""
MEAN_TOKENS = 200.0
"""Mean length of generated calls, exponential, where no lengths are given."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Calls as they arrive.

    Attributes:
        arrivals: Times of arrival in seconds, ascending, shape (n,).
        seconds: Seconds that each call takes once started, shape (n,).
        experts: Number of the expert that each call is for, shape (n,).
    """

    arrivals: np.ndarray
    seconds: np.ndarray
    experts: np.ndarray

    def __len__(self) -> int:
        return len(self.arrivals)


def read_azure(path: Path, calls: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the first calls of a trace in the format of Azure's LLM inference traces.

    Args:
        path: A CSV file with the columns TIMESTAMP, ContextTokens and GeneratedTokens.
        calls: Number of calls; a shorter file repeats.

    Returns:
        Times of arrival in seconds from the first call, ascending, and generated tokens, shape (calls,) each.

    Raises:
        CounterpointError: There is no such file, it lacks a column or rows, or a cell is no time or no number.

    Source:
        Patel et al. 2024, Splitwise, arXiv:2311.18677; github.com/Azure/AzurePublicDataset (AzureLLMInferenceTrace).
    """
    if not path.is_file():
        raise CounterpointError(f"no trace at {path}: wanted a CSV file with the columns {', '.join(COLUMNS)}, or poisson, or bursts")
    if path.suffix != ".csv":
        raise CounterpointError(f"{path} is no trace: wanted a file ending in .csv, or poisson, or bursts")
    table = read_table(path, COLUMNS, calls)
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise CounterpointError(f"{path} has no column {missing[0]!r}; wanted {', '.join(COLUMNS)}")
    if table.empty:
        raise CounterpointError(f"{path} has no calls")
    times = pd.to_datetime(table["TIMESTAMP"], errors="coerce", utc=True, format="ISO8601")
    tokens = pd.to_numeric(table["GeneratedTokens"], errors="coerce")
    for name, wanted, bad in (
        ("TIMESTAMP", "a time", times.isna()),
        ("GeneratedTokens", "a number from 0", ~tokens.between(0, 1e9)),
    ):
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise CounterpointError(f"{path}, row {row + 1}, column {name}: wanted {wanted}, not {table[name][row]!r}")
    order = np.argsort(times.to_numpy(), kind="stable")
    arrivals = (times - times.min()).dt.total_seconds().to_numpy()[order]
    return _repeated(arrivals, calls), np.resize(tokens.to_numpy(dtype=float)[order], calls)


def _repeated(arrivals: np.ndarray, calls: int) -> np.ndarray:
    """The times, again from the end on, one mean gap after the last."""
    n = len(arrivals)
    span = arrivals[-1] * n / max(1, n - 1)
    times: np.ndarray = (arrivals[None, :] + span * np.arange(-(-calls // n))[:, None]).ravel()[:calls]
    return times


def read_lengths(path: Path) -> np.ndarray:
    """Read how many tokens recorded calls generated.

    Args:
        path: A score table with the column `completion_tokens`, or else `response`, whose words count 1.3 tokens each.

    Returns:
        Tokens of each row that has them, shape (n,).

    Raises:
        CounterpointError: There is no such file, or it has none of the two columns or no value in them.
    """
    if not path.is_file():
        raise CounterpointError(f"no lengths at {path}: wanted a score table with the column completion_tokens or response")
    if path.suffix not in (".parquet", ".jsonl", ".csv"):
        raise CounterpointError(f"{path} holds no lengths: wanted a file ending in .parquet, .jsonl, .csv")
    table = read_table(path)
    if "completion_tokens" in table.columns:
        tokens = pd.to_numeric(table["completion_tokens"], errors="coerce").dropna().to_numpy(dtype=float)
    elif "response" in table.columns:
        tokens = TOKENS_PER_WORD * np.array([len(text.split()) for text in table["response"] if isinstance(text, str)], dtype=float)
    else:
        raise CounterpointError(f"{path} holds no lengths: it has neither a column completion_tokens nor response")
    if not len(tokens) or not np.isfinite(tokens).all() or tokens.min() < 0:
        raise CounterpointError(f"{path} holds no lengths: wanted numbers from 0 in its column, or texts")
    return tokens


def poisson(calls: int, seed: int) -> np.ndarray:
    """Draw arrivals that know nothing of one another, one a second on average.

    Returns:
        Times from 0, ascending, shape (calls,).

    Example:
        >>> bool(0.9 < np.diff(poisson(10000, seed=1)).mean() < 1.1)
        True
    """
    gaps = np.random.default_rng([seed, 1]).exponential(1.0, calls)
    gaps[0] = 0.0
    return np.cumsum(gaps)


def bursts(calls: int, seed: int, *, ratio: float = 10.0, share: float = 0.1, length: float = 100.0) -> np.ndarray:
    """Draw arrivals in bursts: a Poisson process whose rate jumps between two values at random times.

    Args:
        calls: Number of calls.
        seed: Seed of the draws.
        ratio: The rate in a burst, as a multiple of the rate between bursts.
        share: Share of the time that bursts take.
        length: Mean number of calls of a burst.

    Returns:
        Times from 0, ascending, shape (calls,); one a second on average.

    Source:
        Fischer and Meier-Hellstern 1993, The Markov-modulated Poisson process (MMPP) cookbook.

    Example:
        >>> gaps = np.diff(bursts(10000, seed=1))
        >>> bool(gaps.std() > 1.3 * gaps.mean())  # of a Poisson process they are equal
        True
    """
    rng = np.random.default_rng([seed, 1])
    off = 1.0 / (1.0 - share + ratio * share)
    rates, stays = (off, ratio * off), (length / (ratio * off) * (1.0 - share) / share, length / (ratio * off))
    parts: list[np.ndarray] = []
    begin, have, burst = 0.0, 0, bool(rng.random() < share)
    while have < calls:
        lasts = rng.exponential(stays[burst])
        part = begin + np.sort(rng.random(rng.poisson(rates[burst] * lasts))) * lasts
        parts.append(part)
        begin, have, burst = begin + lasts, have + len(part), not burst
    times: np.ndarray = np.concatenate(parts)[:calls]
    times -= times[0]
    return times


def draw_experts(calls: int, experts: int, zipf: float, seed: int) -> np.ndarray:
    """Draw the expert of each call: number r has the weight 1 / (r + 1) ** zipf, so 0 draws all alike.

    Example:
        >>> np.bincount(draw_experts(1000, 3, 1.0, seed=0)).tolist()
        [511, 297, 192]
    """
    weights = 1.0 / np.arange(1, experts + 1) ** zipf
    return np.random.default_rng(seed).choice(experts, calls, p=weights / weights.sum())


def draw_lengths(calls: int, lengths: np.ndarray | None, seed: int) -> np.ndarray:
    """Draw the tokens of each call from recorded ones, else exponential ones of mean 200."""
    rng = np.random.default_rng([seed, 2])
    return rng.exponential(MEAN_TOKENS, calls) if lengths is None else rng.choice(lengths, calls)


def scaled(arrivals: np.ndarray, seconds: np.ndarray, load: float, lanes: int) -> np.ndarray:
    """Stretch times of arrival so that the calls' seconds are a share of what the lanes have until the last arrival; swaps do not count.

    Args:
        arrivals: Times of arrival from 0, ascending, shape (n,).
        seconds: Seconds of each call, shape (n,).
        load: The share.
        lanes: Calls that all slots together run at once.

    Raises:
        CounterpointError: All calls arrive at once, or none takes any time.

    Example:
        >>> scaled(np.array([0.0, 1.0, 2.0]), np.array([3.0, 3.0, 3.0]), load=0.9, lanes=1).tolist()
        [0.0, 5.0, 10.0]
    """
    if not arrivals[-1] > 0 or not seconds.sum() > 0:
        raise CounterpointError("a load needs calls that take time and arrive at different times; these do not")
    stretched: np.ndarray = arrivals * (seconds.sum() / (lanes * load) / arrivals[-1])
    return stretched


def names(experts: Sequence[int]) -> list[str]:
    """The engines' names of expert numbers; equal ones are the same object."""
    made = {number: str(number) for number in set(experts)}
    return [made[number] for number in experts]
