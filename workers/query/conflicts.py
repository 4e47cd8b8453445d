"""Tells when two sentences answer the same question differently.  Pure; it sees figures and denials, not meaning."""

from __future__ import annotations

import re

from workers.adapters.bm25 import query_vector
from workers.query.support import denies, digits

ALIKE = 0.6
"""Share of words that two sentences have in common (of all that either has) to be about the same thing."""

LEAST_WORDS = 2

_DIGITS = re.compile(r"\d+(?:[.,'’ \u202f]\d+)*")


def contradict(question: str, one: str, other: str) -> bool:
    """Tell whether two sentences say the same of the same thing, but for a figure or a denial.

    A figure of the question (pump 3, 2024) belongs to what is asked about, so both must have it or neither.
    """
    first, second = _words(one), _words(other)
    if len(first & second) < LEAST_WORDS or len(first & second) < ALIKE * len(first | second):
        return False
    mine, theirs, asked = digits(one), digits(other), digits(question)
    if mine & asked != theirs & asked:
        return False
    if mine - asked and theirs - asked:
        return not (mine <= theirs or theirs <= mine)
    return denies(one) != denies(other)


def _words(text: str) -> frozenset[int]:
    return frozenset(query_vector(_DIGITS.sub(" ", text)).indices)
