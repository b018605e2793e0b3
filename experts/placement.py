"""Which engines may live on which slots, and where they stay awake: a small integer program over measured traffic. Pure.

Given: engine e takes b_e bytes, keeps w_e slots busy, is brought into a slot in q_e seconds and called a_e times a second; slot s has
B_s bytes; t_ef is the share of requests that ask e and f together.

Chosen, each 0 or 1: pin_es, e is always awake on s, and share_es, e takes turns on s with others. x_es = pin_es + share_es is at most 1.

1. An engine has as many places as its load needs: sum_s x_es = r_e = max(1, ceil(w_e / full)), or what fits it and `max_replicas` allow.
   Each place bears w_e / r_e.
2. Memory of pins is reserved, and the largest engine that shares fits beside them: sum_e b_e pin_es + max_e b_e share_es <= B_s.
3. Turns cost swaps. With exponential gaps between calls, 1 - exp(-a_e T / r_e) of the cycles of T = `cycle_s` seconds bring e to its place,
   so that it comes v_e = (1 - exp(-a_e T / r_e)) / T times a second, and takes v_e q_e of the slot's time besides its calls. An engine that
   shares a slot with nobody fits as a pin, which is cheaper, so a price on share_es is a price on company.
4. The load of a slot is l_s = sum_e (w_e / r_e) x_es + v_e q_e share_es; above 1 it cannot keep up, or not with such short cycles.
5. Calls of one request meet on a slot in m = sum_s sum_{e<f} t_ef / (r_e r_f) x_es x_fs of the requests; products are z >= x_es + x_fs - 1.
6. A move is a place that the current placement does not have; c is their number.

Made least: max_s l_s + even * mean_s (l_s + max(0, l_s - l)) + apart * m + stay * c, where l = sum_e w_e / number of slots. The first term
looks only at the fullest slot; the second spares swaps and spreads load on all others.

A local search (move a place, exchange two) gives a plan in any case; the program then improves it or proves that nothing is better, as far
as its time goes. Not modelled: that waits grow faster than load, memory of sleeping engines, and several engines that share a slot and are
awake at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import inf
from time import monotonic

import numpy as np

from experts.base import EngineError
from experts.traffic import Demand

Plan = tuple[np.ndarray, np.ndarray]
Members = frozenset[int]

KICKS = 30
"""Times that the local search disturbs its plan and goes on from there."""
COLUMNS = 20_000
"""Variables above which the program is left alone, because reading it alone takes too long."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where engines may live, for `Scheduler.add_engine(on=...)`, and what that is expected to give.

    Attributes:
        on: For each engine, the slots that may hold it.
        pinned: For each engine, those of them where it is always awake; on the others it takes turns.
        loads: For each slot, the share of time that it is busy or swapping; above 1 it does not keep up.
        swaps_per_s: Engines brought into slots per second, all slots together.
        meeting: Pairs of calls of one request that land on the same slot, per request.
        moves: Engine and slot of what the current placement did not have.
        objective: What was made least.
        bound: What no plan can undercut.
        proven: Whether these two differ by no more than the gap that was asked for.
    """

    on: Mapping[str, tuple[Hashable, ...]]
    pinned: Mapping[str, tuple[Hashable, ...]]
    loads: Mapping[Hashable, float]
    swaps_per_s: float
    meeting: float
    moves: tuple[tuple[str, Hashable], ...]
    objective: float
    bound: float
    proven: bool

    @property
    def largest_load(self) -> float:
        """Load of the busiest slot."""
        return max(self.loads.values())


def place(
    engines: Sequence[Demand],
    slots: Mapping[Hashable, float],
    *,
    together: Mapping[tuple[str, str], float] | np.ndarray | None = None,
    current: Mapping[str, Iterable[Hashable]] | None = None,
    max_replicas: int | None = None,
    full: float = 1.0,
    cycle_s: float = 60.0,
    even: float = 0.1,
    apart: float = 1.0,
    stay: float = 0.01,
    time_limit_s: float = 8.0,
    gap: float = 1e-3,
) -> Placement:
    """Choose where engines may live, by the program at the head of this module.

    Args:
        engines: The engines.
        slots: Bytes of each slot.
        together: Share of requests that ask two engines, by pair of names in either order, or as a matrix in the order of the engines.
        current: Slots that each engine may live on now; engines and slots that are gone do not matter. None counts no moves.
        max_replicas: Slots that one engine may have; None is any number.
        full: Load above which an engine needs one more slot.
        cycle_s: Seconds within which an engine that shares a slot should have its turn.
        even: What the average load counts, against the largest.
        apart: What it counts if all requests have two calls on the same slot.
        stay: What each move counts.
        time_limit_s: Seconds that this may take, roughly; the local search has at most half of them.
        gap: Part of the objective by which the plan may be worse than the best and still count as proven.

    Returns:
        The plan. Of slots that could be exchanged the first get the first engines; equal input gives an equal plan, unless time runs out.

    Raises:
        EngineError: An engine fits no slot, or an argument makes no sense.

    Example:
        >>> plan = place([Demand("a", 4, 0.5), Demand("b", 4, 0.3), Demand("c", 4, 0.1)], {"gpu0": 4, "gpu1": 4})
        >>> plan.on, plan.pinned["a"], plan.proven
        ({'a': ('gpu0',), 'b': ('gpu1',), 'c': ('gpu1',)}, ('gpu0',), True)
    """
    _check(engines, slots, above_0=(full, cycle_s, time_limit_s), from_0=(even, apart, stay, gap), max_replicas=max_replicas)
    names, places = [engine.engine for engine in engines], list(slots)
    budget, size = np.array([float(slots[s]) for s in places]), np.array([float(engine.bytes) for engine in engines])
    fits = size[:, None] <= budget
    most = np.minimum(fits.sum(axis=1), max_replicas or len(places))
    busy = np.array([engine.busy for engine in engines])
    copies = np.clip(np.ceil(busy / full - 1e-9), 1, most).astype(int)
    turns = -np.expm1(-np.array([engine.rate for engine in engines]) * cycle_s / copies) / cycle_s
    program = _Program(
        size=size,
        budget=budget,
        fits=fits,
        copies=copies,
        load=busy / copies,
        turns=turns,
        swap=turns * np.array([engine.swap_s for engine in engines]),
        meet=np.triu(_pairs(together, names) / np.outer(copies, copies), 1),
        held=np.array([[current is None or s in set(current.get(name, ())) for s in places] for name in names]),
        fair=float(busy.sum()) / len(places),
        even=even,
        apart=apart,
        stay=stay,
    )
    until = monotonic() + time_limit_s
    found = _pinned(program, *_search(program, until - time_limit_s / 2))
    value = program.value(*found)
    bound = max(program.fair, float(program.load.max())) + even * program.fair
    if value - bound > gap * value + 1e-9:
        better, least = _solve(program, value, max(0.1, until - monotonic()), gap)
        bound = max(bound, least)
        if better is not None and program.value(*better) < value - 1e-7:  # of equal plans, that of the search, which no clock decides
            found = _pinned(program, *better)
            value = program.value(*found)
    pin, share = _in_order(program, *found)
    has = pin | share

    def where(row: np.ndarray) -> tuple[Hashable, ...]:
        return tuple(places[s] for s in np.flatnonzero(row))

    return Placement(
        on={name: where(has[e]) for e, name in enumerate(names)},
        pinned={name: where(pin[e]) for e, name in enumerate(names)},
        loads=dict(zip(places, program.loads(pin, share).tolist(), strict=True)),
        swaps_per_s=float(program.turns @ share.sum(axis=1)),
        meeting=program.meeting(has),
        moves=tuple((names[e], places[s]) for e, s in np.argwhere(has & ~program.held)),
        objective=value,
        bound=min(bound, value),
        proven=value - bound <= gap * value + 1e-9,
    )


def _check(
    engines: Sequence[Demand],
    slots: Mapping[Hashable, float],
    *,
    above_0: tuple[float, ...],
    from_0: tuple[float, ...],
    max_replicas: int | None,
) -> None:
    if not engines or not slots:
        raise EngineError(f"a placement wants at least one engine and one slot, not {len(engines)} and {len(slots)}")
    names = [engine.engine for engine in engines]
    if twice := [name for name in names if names.count(name) > 1]:
        raise EngineError(f"a placement wants each engine once, but {twice[0]!r} is there {names.count(twice[0])} times")
    largest = max(slots.values())
    for engine in engines:
        if not (0 <= engine.bytes < inf and 0 <= engine.busy < inf and 0 <= engine.swap_s < inf and engine.rate >= 0):
            raise EngineError(f"bytes, busy, swap_s and rate must be numbers from 0, and only rate may be infinite, not those of {engine}")
        if engine.bytes > largest:
            raise EngineError(
                f"engine {engine.engine!r} takes {engine.bytes:,.0f} bytes and the largest slot has {largest:,.0f}: "
                "quantise it, lower its max_model_len, or give a slot more GPUs"
            )
    if not all(0 < value < inf for value in above_0) or not all(0 <= value < inf for value in from_0):
        wanted = "full, cycle_s and time_limit_s above 0 and even, apart, stay and gap from 0"
        raise EngineError(f"a placement wants {wanted}, not {above_0} and {from_0}")
    if max_replicas is not None and max_replicas < 1:
        raise EngineError(f"max_replicas must be at least 1 or None, not {max_replicas}")


def _pairs(together: Mapping[tuple[str, str], float] | np.ndarray | None, names: list[str]) -> np.ndarray:
    """Shares of requests as a symmetric matrix; pairs of engines that are not placed do not matter."""
    size = (len(names), len(names))
    matrix = np.zeros(size)
    if isinstance(together, np.ndarray):
        if together.shape != size:
            raise EngineError(f"together must have shape {size} (engines x engines), not {together.shape}")
        matrix = together.astype(float)
    elif together is not None:
        index = {name: e for e, name in enumerate(names)}
        for (one, other), share in together.items():
            if one in index and other in index:
                matrix[index[one], index[other]] = share
    if not (np.isfinite(matrix) & (matrix >= 0)).all():
        raise EngineError("together must have shares of requests, numbers from 0")
    return np.maximum(matrix, matrix.T)


@dataclass(frozen=True, slots=True)
class _Program:
    """The numbers of the program, engines in rows and slots in columns; a plan is two boolean arrays, `pin` and `share`."""

    size: np.ndarray
    budget: np.ndarray
    fits: np.ndarray
    copies: np.ndarray
    load: np.ndarray
    turns: np.ndarray
    swap: np.ndarray
    meet: np.ndarray
    held: np.ndarray
    fair: float
    even: float
    apart: float
    stay: float

    def loads(self, pin: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Load of each slot."""
        return np.asarray((pin | share).T @ self.load + share.T @ self.swap)

    def meeting(self, has: np.ndarray) -> float:
        """Pairs of calls of one request that land on the same slot, per request."""
        return float(np.einsum("es,ef,fs->", has, self.meet, has))

    def value(self, pin: np.ndarray, share: np.ndarray) -> float:
        """What is to be made least."""
        loads, has = self.loads(pin, share), pin | share
        uneven = float((loads + np.maximum(0.0, loads - self.fair)).mean())
        return float(loads.max()) + self.even * uneven + self.apart * self.meeting(has) + self.stay * int((has & ~self.held).sum())

    def alike(self) -> list[list[int]]:
        """Groups of slots that could be exchanged."""
        groups: dict[tuple[float, bytes], list[int]] = defaultdict(list)
        for s in range(len(self.budget)):
            groups[float(self.budget[s]), self.held[:, s].tobytes()].append(s)
        return list(groups.values())


def _pinned(program: _Program, pin: np.ndarray, share: np.ndarray) -> Plan:
    """Pin what shares a slot though it would fit beside the others, in the order of the engines; the turns of most such cost nothing."""
    pin, share = pin.copy(), share.copy()
    for e, s in np.argwhere(share):
        share[e, s] = False
        if program.size[pin[:, s]].sum() + program.size[e] + program.size[share[:, s]].max(initial=0.0) <= program.budget[s]:
            pin[e, s] = True
        else:
            share[e, s] = True
    return pin, share


def _in_order(program: _Program, pin: np.ndarray, share: np.ndarray) -> Plan:
    """Fill slots that could be exchanged in the order of the engines."""
    order = np.arange(len(program.budget))
    for group in program.alike():
        order[group] = sorted(group, key=lambda s: [not has for has in (pin | share)[:, s]])
    return pin[:, order], share[:, order]


def _search(program: _Program, until: float) -> Plan:
    """Find a good plan: place engine by engine, largest load first, then change what helps; disturb it, and keep what became better."""
    search = _Search(program, until)
    plan = search.fill([frozenset()] * search.slots)
    search.descend(plan)
    if not program.held.all():  # few moves are easier to find from where the engines are
        now = program.held & program.fits
        now &= np.cumsum(now, axis=1) <= program.copies[:, None]
        near = search.fill([frozenset(np.flatnonzero(column).tolist()) for column in now.T])
        search.descend(near)
        plan = min(plan, near, key=search.value)
    random = np.random.default_rng(0)
    for _ in range(KICKS if search.slots > 1 else 0):
        if monotonic() > until:
            break
        other = [*plan]
        for _ in range(3):
            s, q = random.choice(search.slots, 2, replace=False).tolist()
            if changes := [*search.changes(other, s, q)]:
                other[s], other[q] = changes[int(random.integers(len(changes)))]
        search.descend(other)
        plan = min(plan, other, key=search.value)
    has = np.array([[e in members for members in plan] for e in range(len(program.size))])
    turns = [search.turns(budget, members) for budget, members in zip(search.budget, plan, strict=True)]
    share = np.array([[e in members for members in turns] for e in range(len(program.size))])
    return has & ~share, share


class _Search:
    """Plans as lists of what each slot holds, and how to better them; what a slot with certain engines costs is worked out once."""

    def __init__(self, program: _Program, until: float) -> None:
        self.program, self.until, self.slots = program, until, len(program.budget)
        self.load, self.swap, self.size = program.load.tolist(), program.swap.tolist(), program.size.tolist()
        self.meet, self.budget = (program.apart * program.meet).tolist(), program.budget.tolist()
        self.held = [frozenset(np.flatnonzero(column).tolist()) for column in program.held.T]
        self.fits = [frozenset(np.flatnonzero(column).tolist()) for column in program.fits.T]
        self.dense = sorted(range(len(self.size)), key=lambda e: -self.swap[e] / max(self.size[e], 1e-12))
        self.turns, self.price = cache(self._turns), cache(self._price)

    def _turns(self, budget: float, members: Members) -> Members:
        """Who takes turns, where pins go to those that spare most time for their bytes."""
        rest, used = [e for e in self.dense if e in members], 0.0
        if sum(self.size[e] for e in rest) <= budget:
            return frozenset()
        for e in [*rest]:
            if used + self.size[e] + max((self.size[f] for f in rest if f != e), default=0.0) <= budget:
                used += self.size[e]
                rest.remove(e)
        return frozenset(rest)

    def _price(self, s: int, members: Members) -> tuple[float, float]:
        """Load of a slot, and what else it adds to the value."""
        program, each = self.program, sorted(members)
        load = sum(self.load[e] for e in each) + sum(self.swap[e] for e in sorted(self.turns(self.budget[s], members)))
        uneven = program.even * (load + max(0.0, load - program.fair)) / self.slots
        return load, uneven + sum(self.meet[e][f] for e, f in combinations(each, 2)) + program.stay * len(members - self.held[s])

    def value(self, plan: list[Members]) -> float:
        """What is to be made least."""
        prices = [self.price(s, members) for s, members in enumerate(plan)]
        return max(load for load, _ in prices) + sum(rest for _, rest in prices)

    def fill(self, plan: list[Members]) -> list[Members]:
        """Give engines the places that they lack, each where it costs least."""
        for e in sorted(range(len(self.load)), key=lambda e: -self.load[e]):
            for _ in range(self.program.copies[e] - sum(e in members for members in plan)):
                free = [s for s in range(self.slots) if e in self.fits[s] - plan[s]]
                plan = min(([*plan[:s], plan[s] | {e}, *plan[s + 1 :]] for s in free), key=self.value)
        return plan

    def changes(self, plan: list[Members], s: int, q: int) -> Iterator[tuple[Members, Members]]:
        """What two slots may hold after an engine has moved from one to the other, or two were exchanged."""
        for go in [*sorted(plan[s] & self.fits[q] - plan[q]), -1]:
            for come in [*sorted(plan[q] & self.fits[s] - plan[s]), -1]:
                gone, came = frozenset({go} - {-1}), frozenset({come} - {-1})
                if gone or came:
                    yield plan[s] - gone | came, plan[q] - came | gone

    def descend(self, plan: list[Members]) -> None:
        """Make the best change of each pair of slots while any helps."""
        best, found = self.value(plan), True
        while found and monotonic() < self.until:
            found = False
            for s, q in combinations(range(self.slots), 2):
                others = [self.price(at, members) for at, members in enumerate(plan) if at not in (s, q)]
                top, rest = max((load for load, _ in others), default=0.0), sum(price for _, price in others)
                kept = None
                for one, other in self.changes(plan, s, q):
                    (a, b), (c, d) = self.price(s, one), self.price(q, other)
                    if (value := max(top, a, c) + rest + b + d) < best - 1e-9:
                        best, kept = value, (one, other)
                if kept:
                    plan[s], plan[q] = kept
                    found = True


def _solve(program: _Program, known: float, time_limit_s: float, gap: float) -> tuple[Plan | None, float]:
    """Solve the program: a plan no worse than `known`, or None where none was found, and what no plan can undercut."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import block_array, csr_array, eye_array, kron

    engines, slots = program.fits.shape
    first, second = np.nonzero(program.apart * program.meet)
    cells, products = engines * slots, len(first) * slots
    if 2 * cells + 1 + 2 * slots + products > COLUMNS:
        return None, -inf

    def per_slot(rows: np.ndarray) -> csr_array:
        """Sums over engines, one for each slot and each row of weights."""
        return csr_array(kron(csr_array(np.atleast_2d(rows)), eye_array(slots)))

    cell, slot, scale = eye_array(cells), eye_array(slots), program.budget.max() or 1.0  # the solver's tolerance is for numbers near one
    copies = kron(eye_array(engines), csr_array(np.ones((1, slots))))
    meets = np.zeros((len(first), engines))
    meets[np.arange(len(first)), first] = meets[np.arange(len(first)), second] = 1.0
    full, turns = per_slot(program.load), per_slot(program.load + program.swap)
    # columns: pin, share, the largest load, load above the fair one, room for the largest that shares, products
    rows = [
        [copies, copies, None, None, None],
        [cell, cell, None, None, None],
        [None, per_slot(np.diag(program.size / scale)), None, None, -kron(csr_array(np.ones((engines, 1))), slot)],
        [per_slot(program.size / scale), None, None, None, slot],
        [full, turns, -csr_array(np.ones((slots, 1))), None, None],
        [full, turns, None, -slot, None],
    ]
    low = [program.copies, *(np.full(n, -inf) for n in (cells, cells, slots, slots, slots))]
    high = [program.copies, np.ones(cells), np.zeros(cells), program.budget / scale, np.zeros(slots), np.full(slots, program.fair)]
    if products:
        rows = [[*row, None] for row in rows]
        rows.append([per_slot(meets), per_slot(meets), None, None, None, -eye_array(products)])
        low, high = [*low, np.full(products, -inf)], [*high, np.ones(products)]
    moves = program.stay * ~program.held
    each = program.even / slots
    cost = np.concatenate(
        [
            (moves + each * program.load[:, None]).ravel(),
            (moves + each * (program.load + program.swap)[:, None]).ravel(),
            [1.0],
            np.full(slots, each),
            np.zeros(slots),
            np.repeat(program.apart * program.meet[first, second], slots),
        ]
    )
    may = program.fits.copy()
    for group in program.alike():  # of slots that could be exchanged, the first engines take the first
        for e, used in enumerate(np.cumsum(program.copies)):
            may[e, group[used:]] = False
    upper = np.concatenate([may.ravel(), may.ravel(), np.full(1 + 2 * slots + products, inf)])
    found = milp(
        cost,
        constraints=[
            LinearConstraint(csr_array(block_array(rows)), np.concatenate(low), np.concatenate(high)),
            LinearConstraint(cost[None], -inf, known + 1e-6),
        ],
        integrality=np.concatenate([np.ones(2 * cells), np.zeros(len(cost) - 2 * cells)]),
        bounds=Bounds(0, upper),
        options={"time_limit": time_limit_s, "mip_rel_gap": gap},
    )
    bound = -inf if found.mip_dual_bound is None else float(found.mip_dual_bound)
    if found.x is None:
        return None, bound
    pin, share = found.x[: 2 * cells].reshape(2, engines, slots) > 0.5
    room = program.size @ pin + (program.size[:, None] * share).max(axis=0)  # exactly: the solver allows a millionth more
    return (None if (room > program.budget).any() else (pin, share)), bound
