"""How good a ranking is: nDCG, recall, reciprocal rank, spans, and whether a difference is more than chance.  Pure.

nDCG with the grades as gains and log2 discounts (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR
techniques", 2002), as trec_eval computes it; the paired bootstrap follows Sakai, "Evaluating evaluation metrics based
on the bootstrap", SIGIR 2006.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference, where it lies with 95 % of the samples, and how often chance alone makes one as large."""

    difference: float
    low: float
    high: float
    p: float


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
) -> Interval:
    """Compare two systems query by query; positive: the first is better.

    The interval comes from resampled queries; p is two-sided, from the differences shifted to a mean of zero.
    """
    differences = [a - b for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if not differences:
        return Interval(0.0, 0.0, 0.0, 1.0)
    found = fmean(differences)
    dice = random.Random(seed)  # noqa: S311 - statistics, no secret
    count = len(differences)
    means = sorted(math.fsum(dice.choices(differences, k=count)) / count for _ in range(samples))
    as_far = sum(abs(value - found) >= abs(found) for value in means) if found else samples
    low, high = means[int(0.025 * samples)], means[min(samples - 1, int(0.975 * samples))]
    return Interval(found, low, high, as_far / samples)


def _dcg(grades: Sequence[float]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
