"""How good a ranking is: nDCG, recall, reciprocal rank, spans, and whether a difference is more than chance.  Pure.

nDCG with the grades as gains and log2 discounts (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR
techniques", 2002), as trec_eval computes it; the paired bootstrap follows Sakai, "Evaluating evaluation metrics based
on the bootstrap", SIGIR 2006; the randomisation test Smucker, Allan and Carterette, "A comparison of statistical
significance tests for information retrieval evaluation", CIKM 2007.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

SAMPLES = 10_000
AT_ONCE = 1_000_000
"""Draws that are held in memory together."""

ROUNDING = 1e-12
"""Sums of the same numbers in another order are the same."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A mean difference, where it lies with 95 % of the samples, and how often chance alone makes one as large.

    ``better``, ``worse`` and ``equal`` count the queries on which the first system beats, loses to and ties the other.
    """

    difference: float
    low: float
    high: float
    p: float
    better: int
    worse: int
    equal: int


def ndcg(ranked: Sequence[str], grades: Mapping[str, float], k: int = 10) -> float | None:
    """Return nDCG@k of a ranking without repeats; None when nothing is relevant, which no ranking can get right."""
    ideal = _dcg(sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k])
    if ideal == 0:
        return None
    return _dcg([max(0.0, grades.get(one, 0)) for one in ranked[:k]]) / ideal


def recall(ranked: Sequence[str], grades: Mapping[str, float], k: int) -> float | None:
    """Return the share of what is relevant that is among the first k; None when nothing is."""
    relevant = {one for one, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranked[:k])) / len(relevant) if relevant else None


def reciprocal_rank(ranked: Sequence[str], grades: Mapping[str, float]) -> float | None:
    """Return 1 / rank of the first relevant one; 0 when none is there, None when nothing is relevant."""
    if not any(grade > 0 for grade in grades.values()):
        return None
    return next((1 / rank for rank, one in enumerate(ranked, 1) if grades.get(one, 0) > 0), 0.0)


def holds_span(contents: Sequence[str], spans: Sequence[str], k: int) -> bool | None:
    """Tell whether one of the first k texts has one of the spans, white space aside; None without spans."""
    wanted = [plain for span in spans if (plain := _plain(span))]
    if not wanted:
        return None
    return any(span in text for text in map(_plain, contents[:k]) for span in wanted)


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that there are."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of the values do not exceed (nearest rank); 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def compare(
    one: Sequence[float | None], other: Sequence[float | None], *, samples: int = SAMPLES, seed: int = 0
) -> Comparison:
    """Compare two systems query by query; positive: the first is better.  What one of them lacks is passed over.

    The interval comes from resampled queries.  p is two-sided, from flipping the signs of the differences: where
    neither system is better, each could as well be the other's, and that holds for a handful of queries, too.  It is
    never zero (Phipson and Smyth, "Permutation p-values should never be zero", 2010).
    """
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if not pairs:
        return Comparison(0.0, 0.0, 0.0, 1.0, 0, 0, 0)
    differences = np.array([a - b for a, b in pairs], dtype=np.float64)
    found = float(differences.mean())
    dice = np.random.default_rng(seed)
    means = np.sort(_means(samples, len(pairs), lambda shape: differences[dice.integers(0, len(pairs), shape)]))
    flipped = _means(samples, len(pairs), lambda shape: differences * (2 * dice.integers(0, 2, shape) - 1))
    as_far = int((np.abs(flipped) >= abs(found) - ROUNDING).sum())
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return Comparison(
        difference=found,
        low=float(means[int(0.025 * samples)]),
        high=float(means[min(samples - 1, int(0.975 * samples))]),
        p=(as_far + 1) / (samples + 1),
        better=better,
        worse=worse,
        equal=len(pairs) - better - worse,
    )


def _means(samples: int, count: int, draw: Callable[[tuple[int, int]], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean of each of ``samples`` draws of ``count`` values."""
    rows = max(1, AT_ONCE // count)
    sizes = [min(rows, samples - start) for start in range(0, samples, rows)]
    return np.concatenate([draw((size, count)).mean(axis=1) for size in sizes])


def _dcg(grades: Sequence[float]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
