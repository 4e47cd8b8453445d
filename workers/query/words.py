"""Words of a text, in any script, and whether a query means them.  Pure, and linear in the text's length."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

from workers.adapters.bm25 import query_vector, unspaced_runs, word_ids

LONGEST_WORD = 100

Span = tuple[int, int]
"""Start and end in a text, in characters (code points)."""


class Terms:
    """What a query looks for: its words as search sees them (stemmed, without stop words)."""

    def __init__(self, query: str) -> None:
        self.ids = frozenset(query_vector(query).indices)
        self._words = [(query[start:end], word_ids(query[start:end])) for start, end in words(query)]
        self._pairs = {pair for _, run in unspaced_runs(query) for pair in _pairs(run)}

    def highlights(self, text: str) -> list[Span]:
        """Return the places in ``text`` that match a word of the query, in order, without overlaps."""
        if not self.ids:
            return []
        spans = [
            (start, end)
            for start, end in words(text)
            if end - start <= LONGEST_WORD and not self.ids.isdisjoint(word_ids(text[start:end]))
        ]
        return sorted([*spans, *self._unspaced(text)]) if self._pairs else spans

    def matched(self, text: str) -> list[str]:
        """Return the words of the query that ``text`` has; of unspaced scripts, the common stretches."""
        found = query_vector(text).indices
        known = [word for word, ids in self._words if not set(ids).isdisjoint(found)]
        return list(dict.fromkeys([*known, *(text[start:end] for start, end in self._unspaced(text))]))

    def _unspaced(self, text: str) -> Iterator[Span]:
        """Words have no borders there that we could see: two neighbouring characters in common are a match."""
        for offset, run in unspaced_runs(text) if self._pairs else ():
            hits = (i for i, pair in enumerate(_pairs(run)) if pair in self._pairs)
            yield from ((offset + start, offset + end) for start, end in _merged(hits, min(2, len(run))))


def words(text: str) -> Iterator[Span]:
    """Yield the place of every word of the scripts that put spaces between words."""
    for match in _pattern().finditer(_without_runs(text)):
        yield match.span()


def _without_runs(text: str) -> str:
    parts, last = [], 0
    for start, run in unspaced_runs(text):
        parts += [text[last:start], " " * len(run)]
        last = start + len(run)
    return "".join([*parts, text[last:]]) if parts else text


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(max(1, len(run) - 1))]


def _merged(starts: Iterable[int], width: int) -> Iterator[Span]:
    """Join windows of ``width`` that touch or overlap."""
    begin = end = -1
    for start in starts:
        if start > end:
            if end > begin:
                yield begin, end
            begin = start
        end = start + width
    if end > begin >= 0:
        yield begin, end


@cache
def _pattern() -> re.Pattern[str]:
    """Letters and digits, and the marks that belong to them: ``re`` alone would cut Hindi and decomposed accents."""
    marks = [chr(n) for n in range(0x300, sys.maxunicode + 1) if unicodedata.category(chr(n))[0] == "M"]
    return re.compile(f"[^\\W_](?:[^\\W_]|[{''.join(map(re.escape, marks))}])*")
