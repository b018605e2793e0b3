"""What no schedule can undercut: lower bounds on refused calls and on swaps, by linear programs."""

from __future__ import annotations

from math import ceil, inf

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from experts.visits import Problem

CELLS = 6
"""Cells of time in a bound of the wait."""
STRETCHES = (1, 2)
"""Cells over which experts with calls are counted."""
SPANS = (20, 40, 80, 160)
"""Cells over which the seconds of calls and swaps are counted."""
MOST = 2_000_000
"""Entries of the largest program that is solved; there is no bound from a larger one."""


def bound_refused(problem: Problem) -> int | None:
    """Bound from below the calls that any schedule refuses; None where the program would be too large.

    Calls of an expert that arrive in a stretch of cells are refused, or it is in a slot at some time from the stretch's begin until a
    bound of the wait after its end; no more experts than slots are there at that begin, so each further one ends a swap in between.
    A call taken in that arrives t seconds before a bound of the wait before the end of a span of cells has all its seconds or t in
    the span; with the swaps that end there, each of which keeps all lanes of a slot and at most one a slot of which began before, that
    must fit. The least refused under these inequalities, calls and experts taken in by parts, is a linear program.

    Args:
        problem: The calls.
    """
    return 0 if problem.max_wait_s == inf or not problem.max_wait_s > 0 else _least(problem, None)


def bound_swaps(problem: Problem, refused: int) -> int | None:
    """Bound from below the swaps of any schedule that refuses at most so many calls, by the inequalities of `bound_refused`.

    Without a bound of the wait, each expert with calls is brought once.
    None where no schedule refuses so few, or the program would be too large.

    Args:
        problem: The calls.
        refused: Calls that may be refused.
    """
    if problem.max_wait_s == inf or not problem.max_wait_s > 0:
        return sum(map(bool, problem.arrivals)) if problem.max_wait_s == inf else 0
    return _least(problem, refused)


class _Program:
    """Rows of a linear program, collected: each says that a sum is at most a number."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.limits: list[np.ndarray] = []
        self.rows = 0

    def add(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, limits: np.ndarray) -> None:
        self.parts.append((rows + self.rows, columns, values))
        self.limits.append(limits)
        self.rows += len(limits)

    def solve(self, cost: np.ndarray, ones: int) -> float | None:
        """The least cost, None where nothing fits; the first variables are at most one, and all at least zero."""
        rows, columns, values = (np.concatenate(parts) for parts in zip(*self.parts, strict=True))
        matrix = coo_array((values, (rows, columns)), shape=(self.rows, len(cost))).tocsr()
        bounds = np.column_stack([np.zeros(len(cost)), np.where(np.arange(len(cost)) < ones, 1.0, np.inf)])
        found = linprog(cost, A_ub=matrix, b_ub=np.concatenate(self.limits), bounds=bounds, method="highs")
        return float(found.fun) if found.success else None


def _least(problem: Problem, refused: int | None) -> int | None:
    """The least swaps where so many calls may be refused, else the least refused calls."""
    wait, cell, kinds = problem.max_wait_s, problem.max_wait_s / CELLS, len(problem.arrivals)
    experts = np.repeat(np.arange(kinds), [len(row) for row in problem.arrivals])
    arrivals, seconds = (np.array([value for row in rows for value in row]) for rows in (problem.arrivals, problem.seconds))
    order = np.argsort(arrivals, kind="stable")
    experts, arrivals, seconds = experts[order], arrivals[order] - arrivals.min(), seconds[order]
    calls, cells = len(arrivals), int(arrivals.max() // cell) + 1
    if (len(SPANS) + len(STRETCHES) + 1) * calls + cells * kinds * sum(STRETCHES) > MOST:
        return None
    place = (arrivals // cell).astype(int)
    there = calls + kinds * cells * np.arange(len(STRETCHES))  # begins of the variables: is an expert there, for each kind of stretch
    swaps = calls + kinds * cells * len(STRETCHES)
    ends = cells + CELLS + max(STRETCHES)
    program = _Program()
    at = np.arange(calls)
    program.add(np.tile(at, 2), np.concatenate([at, there[0] + place * kinds + experts]), np.repeat([1.0, -1.0], calls), np.zeros(calls))
    pairs, begins = np.arange(kinds * cells), np.arange(cells)
    for number, stretch in enumerate(STRETCHES):
        for shift in range(stretch if number else 0):
            some = pairs[pairs // kinds + shift < cells]
            columns = np.concatenate([there[0] + some + shift * kinds, there[number] + some])
            program.add(np.tile(np.arange(len(some)), 2), columns, np.repeat([1.0, -1.0], len(some)), np.zeros(len(some)))
        window = np.arange(stretch + CELLS)
        columns = np.concatenate([there[number] + pairs, (swaps + begins[:, None] + window).ravel()])
        rows = np.concatenate([pairs // kinds, np.repeat(begins, len(window))])
        values = np.repeat([1.0, -1.0], [len(pairs), cells * len(window)])
        program.add(rows, columns, values, np.where(begins > 0, float(problem.slots), 0.0))  # at first, no expert is there
    for span in {min(span, ends) for span in (*SPANS, ends)}:
        for begin in range(0, max(1, ends - span + 1), max(1, span // 8)):
            last = (begin + span) * cell - wait
            some = at[(place >= begin) & (arrivals < last)]
            if len(some):
                columns = np.concatenate([some, swaps + np.arange(begin, begin + span)])
                values = np.concatenate([np.minimum(seconds[some], last - arrivals[some]), np.full(span, problem.lanes * problem.swap_s)])
                limit = problem.slots * problem.lanes * (span * cell + problem.swap_s)
                program.add(np.zeros(len(columns), dtype=int), columns, values, np.array([limit]))
    cost = np.zeros(swaps + ends)
    if refused is None:
        cost[:calls] = -1.0
    else:
        cost[swaps:] = 1.0
        program.add(np.zeros(calls, dtype=int), at, np.full(calls, -1.0), np.array([float(refused - calls)]))
    least = program.solve(cost, swaps)
    if least is None:
        return None
    return max(0, ceil((calls if refused is None else 0) + least - 1e-4))  # whole numbers; the solver is exact up to less
