"""How good a router is, from its predictions and what was recorded.

Throughout, `predicted` are a router's scores, shape (n, n_experts); `truth` the recorded scores from 0 to 1, same shape, NaN where
a cell is missing; `costs` what each call cost, same shape, in US dollars or any other unit, NaN where unknown. `gain` is the
predicted gain of a strong over a weak expert, `strong` and `weak` are their recorded scores, shape (n,) each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from data.statistics import RESAMPLES, Interval, paired

_ZERO = 1e-9
"""Sums of graded scores that differ by less are equal but for rounding."""


def chosen(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Choose the expert of the highest prediction among those whose score is known; equals keep their order.

    Returns:
        Column of the chosen expert, shape (n,); -1 for a question on which no score is known, which every metric leaves out.

    Example:
        >>> chosen(np.array([[0.2, 0.9], [0.2, 0.9], [0.5, 0.5]]), np.array([[1, 0], [1, np.nan], [0, 1]])).tolist()
        [1, 0, 0]
    """
    predicted, truth = _tables(predicted, truth)
    return _best(predicted, ~np.isnan(truth))


def right(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give the score of the chosen expert on each question, shape (n,); NaN where no score is known."""
    return _cells(np.asarray(truth, dtype=float), chosen(predicted, truth))


def oracle(truth: np.ndarray) -> np.ndarray:
    """Give the best score of each question, shape (n,); NaN where no score is known."""
    return right(np.nan_to_num(truth), truth)


def regret(predicted: np.ndarray, truth: np.ndarray, reference: np.ndarray, *, seed: int = 0) -> Interval:
    """Say how much score a router loses per question against a reference, by a paired bootstrap.

    `reference` has the scores of the oracle, of the category oracle or of another system, shape (n,); where NaN, the question is left out.

    Example:
        >>> truth = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> regret(np.array([[0.9, 0.1], [0.9, 0.1]]), truth, oracle(truth)).mean
        0.5
    """
    score, reference = right(predicted, truth), np.asarray(reference, dtype=float)
    if reference.shape != score.shape:
        raise ValueError(f"reference must have shape {score.shape}, not {reference.shape}")
    known = ~np.isnan(reference - score)
    return paired(reference[known], score[known], seed=seed)


def hit_rate(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Give the share of questions on which the chosen expert is one of the best.

    Only questions on which known scores differ count: on others any choice is a hit, and says nothing of the router. NaN without any.

    Example:
        >>> hit_rate(np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]]), np.array([[1, 0], [0, 1], [1, 1]]))
        0.5
    """
    score, best, worst = right(predicted, truth), oracle(truth), -oracle(-np.asarray(truth, dtype=float))
    differ = best > worst
    return float((score == best)[differ].mean()) if differ.any() else float("nan")


def calibration_error(predicted: np.ndarray, truth: np.ndarray, bins: int = 15) -> float:
    """Give the expected calibration error over all known cells, a fraction from 0 to 1; NaN if no cell is known.

    The distance of mean prediction and mean score (graded ones as they are) in `bins` bins of equal width, weighted by their cells.

    Source:
        Guo et al. 2017, arXiv:1706.04599.

    Example:
        >>> calibration_error(np.array([[0.75, 0.75], [0.75, 0.75]]), np.array([[1, 1], [0, 0]]))
        0.25
    """
    predicted, truth = _tables(predicted, truth)
    known = ~np.isnan(truth)
    at = np.clip(np.ceil(predicted[known] * bins) - 1, 0, bins - 1).astype(int)  # closed on the right, as in the source
    apart = np.bincount(at, predicted[known] - truth[known])
    return float(np.abs(apart).sum() / len(at)) if len(at) else float("nan")


def strong_of(truth: np.ndarray) -> tuple[int, int]:
    """Tell the strong from the weak one of two experts: columns by mean score where both are known; of equals, the first is strong.

    Example:
        >>> strong_of(np.array([[0.0, 1.0], [1.0, 1.0]]))
        (1, 0)
    """
    truth = np.asarray(truth, dtype=float)
    both = ~np.isnan(truth).any(axis=-1)
    if truth.ndim != 2 or truth.shape[1] != 2 or not both.any():
        raise ValueError(f"wanted scores of two experts, shape (n, 2), and a question with both, not {truth.shape} with {both.sum()}")
    strong = int(truth[both].mean(axis=0).argmax())
    return strong, 1 - strong


def apgr(gain: np.ndarray, strong: np.ndarray, weak: np.ndarray) -> float:
    """Give the average performance gap recovered: 0.5 for a random order, more for a good one.

    Args:
        gain: Predicted gain, shape (n,), in any unit: only its order counts, and equals keep file order.
        strong: Scores, shape (n,); a question with a NaN in it or in `weak` is left out.
        weak: Scores, shape (n,).

    Returns:
        Area under the share of the gap recovered against the share of calls to the strong expert, by trapezoids over all n + 1 shares.
        NaN if the strong expert is not better on these questions: there is no gap to recover.

    Source:
        Ong et al. 2024, RouteLLM, arXiv:2406.18665; there over ten shares.

    Example:
        >>> apgr(np.array([0.9, 0.1]), np.array([1.0, 0.0]), np.array([0.0, 0.0]))
        0.75
    """
    order, added = _calls(gain, strong, weak)
    return _area(added[order], np.ones(len(added)))


def cpt(gain: np.ndarray, strong: np.ndarray, weak: np.ndarray, share: float) -> float:
    """Give the call-performance threshold: the smallest share of calls to the strong expert that recovers a `share` of the gap.

    NaN where `apgr` is; `share` is above 0 and at most 1, usually 0.5 and 0.8.

    Source:
        Ong et al. 2024, RouteLLM, arXiv:2406.18665.

    Example:
        >>> cpt(np.array([0.9, 0.8, 0.2, 0.1]), np.array([1, 1, 0, 0]), np.zeros(4), 0.8)
        0.5
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, not {share}")
    order, added = _calls(gain, strong, weak)
    won = np.r_[0.0, np.cumsum(added[order])]
    return float((won >= share * won[-1] - _ZERO).argmax() / len(added)) if won[-1] > _ZERO else float("nan")


def apgr_versus(
    gain_a: np.ndarray, gain_b: np.ndarray, strong: np.ndarray, weak: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Compare two orders of the same questions: APGR of a less that of b, by a paired bootstrap over questions.

    Resamples in which the strong expert is not better have no APGR and are left out; all is NaN if it is not better to begin with.

    Example:
        >>> gain, strong = np.arange(40.0), np.repeat([0.0, 1.0], 20)
        >>> apgr_versus(gain, -gain, strong, np.zeros(40)).mean
        0.5
    """
    (order_a, added), (order_b, _) = _calls(gain_a, strong, weak), _calls(gain_b, strong, weak)
    mean = apgr(gain_a, strong, weak) - apgr(gain_b, strong, weak)
    n, rng, resampled = len(added), np.random.default_rng(seed), np.full(resamples, np.nan)
    for at in range(resamples if np.isfinite(mean) else 0):
        # a resample kept in file order is the full order with each question standing as often as drawn: nothing to sort again
        counts = np.bincount(rng.integers(0, n, n), minlength=n)
        resampled[at] = _area(added[order_a], counts[order_a]) - _area(added[order_b], counts[order_b])
    known = resampled[~np.isnan(resampled)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return Interval(mean, float(low), float(high))


def mean_cost(predicted: np.ndarray, truth: np.ndarray, costs: np.ndarray) -> float:
    """Give the mean cost of the chosen expert, in the unit of `costs`.

    A cell of unknown cost counts as its expert's mean; NaN if an expert without any known cost is chosen, or if none ever is.

    Example:
        >>> mean_cost(np.array([[0.9, 0.1], [0.1, 0.9]]), np.ones((2, 2)), np.array([[2.0, 8.0], [2.0, np.nan]]))
        5.0
    """
    predicted, truth, costs = _tables(predicted, truth, costs)
    return _mean(_filled(costs), chosen(predicted, truth))


def cost_quality_curve(
    predicted: np.ndarray, truth: np.ndarray, costs: np.ndarray, weights: Sequence[float] | np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Trace what a router costs and scores as cost matters less and less.

    On each question it takes the expert of the highest `predicted - weight * price`, where price is the expert's mean cost on a scale
    from 0 (the cheapest) to 1 (the dearest). A cell of unknown cost counts as its expert's mean. `weights` are from 0, in units of
    score; None takes 100 quantiles of those at which a question's choice may change.

    Returns:
        Mean cost and mean score at each weight, largest first, shape (m,) each. Both ends are added: at the first point only the price
        counts, at the last only the prediction.

    Source:
        Hu et al. 2024, RouterBench, arXiv:2403.12031.

    Example:
        >>> cost_quality_curve(np.array([[0.5, 0.9]]), np.array([[0.0, 1.0]]), np.array([[1.0, 5.0]]), weights=[0.1])
        (array([1., 5., 5.]), array([0., 1., 1.]))
    """
    predicted, truth, costs = _tables(predicted, truth, costs)
    known, filled = ~np.isnan(truth), _filled(costs)
    means = filled.mean(axis=0)
    if np.isnan(means).any():
        raise ValueError(f"every expert needs a known cost; column {int(np.isnan(means).argmax())} has none")
    prices = (means - means.min()) / (np.ptp(means) or 1)
    if weights is None:
        dear, cheap = np.nonzero(prices[:, None] > prices)
        even = (predicted[:, dear] - predicted[:, cheap]) / (prices[dear] - prices[cheap])
        even = even[known[:, dear] & known[:, cheap] & (even > 0)]
        weights = np.quantile(even, np.linspace(0, 1, 100)) if even.size else ()
    weights = np.sort(np.asarray(weights, dtype=float))[::-1]
    if not ((weights >= 0) & (weights < np.inf)).all():
        raise ValueError(f"weights must be finite and from 0, not {weights.tolist()}")
    least = np.where(known, prices, np.inf).min(axis=1, keepdims=True)
    picks = [_best(predicted, known & (prices == least)), *(_best(predicted - weight * prices, known) for weight in [*weights, 0.0])]
    return np.array([_mean(filled, pick) for pick in picks]), np.array([_mean(truth, pick) for pick in picks])


def pareto(cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Find the points, of shape (m,) each, that no other one beats: none is at least as cheap and as good, and better in one of both.

    Returns:
        Indices, cheapest first, equal points in their order; points with a NaN are left out.

    Example:
        >>> pareto(np.array([3.0, 1.0, 2.0]), np.array([0.9, 0.5, 0.4])).tolist()
        [1, 0]
    """
    cost, quality = np.asarray(cost, dtype=float), np.asarray(quality, dtype=float)
    if cost.ndim != 1 or cost.shape != quality.shape:
        raise ValueError(f"cost and quality must have the same shape (m,), not {cost.shape} and {quality.shape}")
    as_good = (cost <= cost[:, None]) & (quality >= quality[:, None])
    better = (cost < cost[:, None]) | (quality > quality[:, None])
    front = np.flatnonzero(~(as_good & better).any(axis=1) & ~np.isnan(cost + quality))
    return front[np.argsort(cost[front], kind="stable")]


def aiq(cost: np.ndarray, quality: np.ndarray) -> float:
    """Give the average quality over a range of cost, of the best mix of operating points at each cost.

    That is the area under the non-decreasing upper convex hull of the points, shape (m,) each, divided by their range of cost; the best
    quality if all cost the same. Routers compare over the same range only: give each the points of the single experts too.

    Source:
        Hu et al. 2024, RouterBench, arXiv:2403.12031.

    Example:
        >>> aiq(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 0.5]))
        0.75
    """
    cost, quality = np.asarray(cost, dtype=float), np.asarray(quality, dtype=float)
    front = pareto(cost, quality)
    if not len(front):
        raise ValueError("no point has both a cost and a quality")
    hull: list[tuple[float, float]] = []
    for x, y in zip(cost[front].tolist(), quality[front].tolist(), strict=True):
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0]) <= (y - hull[-2][1]) * (hull[-1][0] - hull[-2][0]):
            hull.pop()
        hull.append((x, y))
    hull.append((float(cost[~np.isnan(cost + quality)].max()), hull[-1][1]))  # who may spend more than the best point needs loses nothing
    xs, ys = np.array(hull).T
    return float(np.trapezoid(ys, xs) / np.ptp(xs)) if np.ptp(xs) > 0 else float(ys.max())


def route_latency_ms(decide: Callable[[str], object], texts: Sequence[str], warm: int = 20) -> np.ndarray:
    """Time decisions one after another on the calling thread, in milliseconds, shape (n - warm,).

    The first `warm` texts only warm up; no text is decided twice, so that no cache flatters. How many threads `decide` starts of its own
    is for the caller to limit.
    """
    if not 0 <= warm < len(texts):
        raise ValueError(f"warm must be from 0 and leave texts to time, not {warm} of {len(texts)}")
    spent = []
    for text in texts:
        start = perf_counter()
        decide(text)
        spent.append(1000 * (perf_counter() - start))
    return np.array(spent[warm:])


def _tables(*tables: np.ndarray) -> list[np.ndarray]:
    """Check predicted, truth and perhaps costs: of one shape, and a prediction in every cell."""
    checked = [np.asarray(table, dtype=float) for table in tables]
    if checked[0].ndim != 2 or not checked[0].shape[1] or len({table.shape for table in checked}) > 1:
        shapes = " and ".join(str(table.shape) for table in checked)
        raise ValueError(f"predicted, truth and costs must have the same shape (n, n_experts), not {shapes}")
    if not np.isfinite(checked[0]).all():
        raise ValueError("predicted must be a finite number in every cell")
    return checked


def _best(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.where(known.any(axis=1), np.where(known, values, -np.inf).argmax(axis=1), -1)


def _cells(table: np.ndarray, picks: np.ndarray) -> np.ndarray:
    return np.where(picks >= 0, table[np.arange(len(table)), picks], np.nan)


def _mean(table: np.ndarray, picks: np.ndarray) -> float:
    return float(_cells(table, picks)[picks >= 0].mean()) if (picks >= 0).any() else float("nan")


def _filled(costs: np.ndarray) -> np.ndarray:
    """Costs with each expert's mean where unknown; NaN all through for an expert of no known cost."""
    count = (~np.isnan(costs)).sum(axis=0)
    means = np.where(count > 0, np.nansum(costs, axis=0) / np.maximum(count, 1), np.nan)
    return np.where(np.isnan(costs), means, costs)


def _calls(gain: np.ndarray, strong: np.ndarray, weak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of calls to the strong expert, and what each question's call adds, in file order; only questions known of both."""
    gain, strong, weak = (np.asarray(values, dtype=float) for values in (gain, strong, weak))
    if gain.ndim != 1 or not gain.shape == strong.shape == weak.shape:
        raise ValueError(f"gain, strong and weak must have the same shape (n,), not {gain.shape}, {strong.shape} and {weak.shape}")
    known = ~np.isnan(strong - weak)
    if not known.any() or np.isnan(gain[known]).any():
        raise ValueError("wanted questions with scores of both experts, and a gain for each of them")
    return np.argsort(-gain[known], kind="stable"), (strong - weak)[known]


def _area(added: np.ndarray, counts: np.ndarray) -> float:
    """APGR of calls in order, each standing `counts` times; NaN without a gap.

    The call at place k of n, from 0, lifts the recovered gap from there on: by trapezoids, n - k - 1/2 steps of the area.
    """
    n, before, gap = counts.sum(), np.cumsum(counts) - counts, added @ counts
    return float((added * counts) @ (n - before - counts / 2) / (n * gap)) if gap > _ZERO else float("nan")
