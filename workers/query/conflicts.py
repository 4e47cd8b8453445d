"""Tells when two sentences answer the same question differently.  Pure; it sees values and denials, not meaning.

A value is a number, a month, a day of the week, or a name where the sentence says that somebody or something *is* it.
Two sentences contradict each other when they say another value of the same kind of the same thing, or when one denies
what the other asserts.  Where each also names something of its own (another place, another product), they speak of two
things, and both may be true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.adapters.bm25 import query_vector
from workers.query.figures import Kind, values, without_values
from workers.query.support import denies

ALIKE = 0.6
"""Share of words that two sentences have in common (of all that either has) to be about the same thing."""

LEAST_WORDS = 2

LONGEST_NAME = 4
"""Words of a name that is said instead of another."""

_WORD = re.compile(r"[^\W_]+(?:[.'’-][^\W_]+)*\.?")
_BE = "is was are were ist war sind waren est était sont es era son fue by von par por"
_IS = frozenset(_BE.split())
_ARTICLES = "the der die das le la el our unser unsere notre nuestro nuestra"
_THE = frozenset(_ARTICLES.split())


@dataclass(frozen=True, slots=True)
class _Said:
    """A sentence, as far as it can be compared: what it speaks of, what it says of it, what it names."""

    words: frozenset[int]
    values: dict[Kind, frozenset[str]]
    names: frozenset[str]
    denies: bool


def contradict(question: str, one: str, other: str) -> bool:
    """Tell whether two sentences say the same of the same thing, but for a value or a denial.

    A value of the question (pump 3, 2024) belongs to what is asked about, so both must have it or neither.
    """
    first, second, asked = _read(one), _read(other), values(question)
    if any(first.values[kind] & asked[kind] != second.values[kind] & asked[kind] for kind in asked):
        return False
    if _named_otherwise(question, one, other):
        return first.denies == second.denies
    common = first.words & second.words
    if len(common) < LEAST_WORDS or len(common) < ALIKE * len(first.words | second.words):
        return False
    if first.names - second.names and second.names - first.names:
        return False
    said = [(first.values[kind] - asked[kind], second.values[kind] - asked[kind]) for kind in asked]
    if first.denies != second.denies:
        return all(mine == theirs for mine, theirs in said)
    return any(not (mine <= theirs or theirs <= mine) for mine, theirs in said)


def _read(text: str) -> _Said:
    return _Said(frozenset(query_vector(without_values(text)).indices), values(text), _names(text), denies(text))


def _names(text: str) -> frozenset[str]:
    """Return the words with a capital; the first only if it has another inside (MERS-CoV).  In German: the nouns."""
    first, *others = _WORD.findall(without_values(text)) or [""]
    names = others if first[1:] == first[1:].lower() else [first, *others]
    return frozenset(word.rstrip(".").casefold() for word in names if word[:1].isupper())


def _named_otherwise(question: str, one: str, other: str) -> bool:
    """Tell whether the sentences are equal but for a name, in a place where there can be only one.

    "The head of the clinic *is* Weber", "it was founded *by* Weber", "Weber *is the* head of the clinic".
    """
    first, second = _WORD.findall(one), _WORD.findall(other)
    start = _common(first, second)
    while start and first[start - 1][:1].isupper() and first[start - 1].casefold() not in _THE:
        start -= 1  # a title, or a first name that both have
    end = _common(first[start:][::-1], second[start:][::-1])
    mine, theirs = first[start : len(first) - end], second[start : len(second) - end]
    if start + end < LEAST_WORDS + 1 or not (_is_name(mine) and _is_name(theirs)):
        return False
    if {word.casefold() for word in (*mine, *theirs)} & {word.casefold() for word in _WORD.findall(question)}:
        return False
    after = [word.casefold() for word in first[len(first) - end :][:2]]
    before = first[start - 1].casefold() if start else ""
    return before in _IS or (not start and len(after) == 2 and after[0] in _IS and after[1] in _THE)


def _is_name(words: list[str]) -> bool:
    return 0 < len(words) <= LONGEST_NAME and all(word[:1].isupper() for word in words)


def _common(one: list[str], other: list[str]) -> int:
    """Return how many words two lists have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a.casefold() != b.casefold()), min(len(one), len(other)))
