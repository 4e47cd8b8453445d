"""Words of a text, in any script, and whether a query means them.  Pure, and linear in the text's length."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import pairwise

from workers.adapters.bm25 import (
    LONGEST_WORD,
    is_plain,
    languages_of,
    plain_words,
    search_vector,
    spaced_words,
    unspaced_runs,
    word_ids,
)
from workers.adapters.names import NAME, name_weights, with_names
from workers.query.asking import asks

Span = tuple[int, int]
"""Start and end in a text, in characters (code points)."""


MOST_KNOWN = 1 << 15
"""Words of texts whose tokens are remembered: some 8 MB."""

SHORTEST_KIN, ENDING = 5, 2
"""Letters that two words must share to be kin, and how many at the end of one may differ."""


class Terms:
    """What a query looks for: its words as search sees them (stemmed, without stop words)."""

    def __init__(self, query: str, languages: Sequence[str] = ()) -> None:
        self._query = query
        text = search_vector(query, languages)
        self.ids = frozenset(text.indices)
        self.vector = with_names(text)
        self._languages = languages_of(query, languages)
        # A stop word of the query's language is still a word in English: it counts only if search asks for it.
        asked = [(query[start:end], self.ids.intersection(self._ids(query[start:end]))) for start, end in words(query)]
        sought = [(word, ids) for word, ids in asked if ids]
        self._words = [(word, ids) for word, ids in sought if not asks(word, self._languages)] or sought
        asking = [ids for word, ids in sought if (word, ids) not in self._words]
        self._counted = self.ids.difference(*asking).union(*(ids for _, ids in self._words))
        self._pairs = {pair for _, run in unspaced_runs(query) for pair in _pairs(run)}

    @property
    def forms(self) -> list[frozenset[int]]:
        """Token ids of each different word that is more than asking; each of their tokens belongs to one of them."""
        groups = list(dict.fromkeys(ids for _, ids in self._words))
        return [*groups, *(frozenset({token}) for token in sorted(self._counted.difference(*groups)))]

    def named(self, path: str) -> list[str]:
        """Return the words of the query that a document's path has, as search finds them there."""
        found = {token ^ NAME for token in name_weights(path, self._languages)}
        return list(dict.fromkeys(word for word, ids in self._words if not ids.isdisjoint(found)))

    def place(self, path: str) -> frozenset[int]:
        """Return the tokens of those words of the query that the file's own name has."""
        name = path.rpartition("/")[2]
        found = {token ^ NAME for token in name_weights(name, self._languages)}
        if place := frozenset().union(*(ids for _, ids in self._words if not ids.isdisjoint(found))):
            place |= self.ids.intersection(self._ids(name.rpartition(".")[2]))
        return place

    def only_name(self, path: str) -> bool:
        """Tell whether each word of the query, but for those that only ask, is one of the file's own name."""
        place = self.place(path)
        return bool(self._words) and all(not ids.isdisjoint(place) for _, ids in self._words)

    def highlights(self, text: str) -> list[Span]:
        """Return the places in ``text`` that match a word of the query, in order, without overlaps."""
        if not self.ids:
            return []
        if _has_one_form(text):
            text_folded = text.casefold()
            asked = self._asked_of(folded_words(text))
            spans = sorted(span for word in asked for span in _places(text_folded, word))
        elif is_plain(text):  # a text has few different words, and fewer that are asked for
            spans = sorted(span for word in self._asked_of(set(plain_words(text))) for span in _places(text, word))
        else:
            found = list(spaced_words(text))
            asked = self._asked_of({match.group() for match in found})
            spans = [match.span() for match in found if match.group() in asked]
        return sorted([*spans, *self._unspaced(text)]) if self._pairs else spans

    def matched(self, text: str) -> list[str]:
        """Return the words of the query that ``text`` has; of unspaced scripts, the common stretches."""
        found = {token for start, end in words(text) for token in self._ids(text[start:end])}
        known = [word for word, ids in self._words if not ids.isdisjoint(found)]
        return list(dict.fromkeys([*known, *(text[start:end] for start, end in self._unspaced(text))]))

    def in_phrases(self, text: str, tokens: Collection[int]) -> frozenset[int]:
        """Return the tokens of those words that stand in ``text`` beside the word that they stand beside in the query.

        Stop words are neighbours too ("cause of death").  Words without a neighbour (a query of one word, scripts
        without spaces) count when they are among ``tokens``, those of the text.
        """
        asked = self._sequence(self._query)
        alone = self.ids if len(asked) < 2 else self.ids.difference(*asked)
        found = {token for token in tokens if token in alone}
        if len(asked) > 1:
            has = {(a, b) for one, other in pairwise(self._sequence(text)) for a in one for b in other}
            for one, other in pairwise(asked):
                if any((a, b) in has for a in one for b in other):
                    found |= self.ids & {*one, *other}
        return frozenset(found)

    def _sequence(self, text: str) -> list[tuple[int | str, ...]]:
        """Return the words in their order, each as its tokens; a stop word, which has none, as itself."""
        spoken = ((text[start:end], self._ids(text[start:end])) for start, end in words(text))
        return [ids or (word.casefold(),) for word, ids in spoken]

    def kin(self, text: str) -> frozenset[int]:
        """Return the tokens of words that ``text`` has only as a part of another, or with another ending.

        Not of English: it writes its compounds apart and inflects little.
        """
        if not self._languages:
            return frozenset()
        there = {text[start:end].casefold() for start, end in words(text)}
        return frozenset().union(*(ids for word, ids in self._words if _has_kin(word.casefold(), there)))

    def missing(self, text: str) -> list[str]:
        """Return the words of the query that ``text`` does not have (scripts with spaces only)."""
        matched = set(self.matched(text))
        return list(dict.fromkeys(word for word, _ in self._words if word not in matched))

    def _asked_of(self, words: AbstractSet[str]) -> AbstractSet[str]:
        """Return those of ``words`` that the query asks for."""
        return words & _vocabulary(self._languages).meant_by(self.ids, words)

    def _ids(self, word: str) -> tuple[int, ...]:
        return word_ids(word[:LONGEST_WORD], self._languages)

    def _unspaced(self, text: str) -> Iterator[Span]:
        """Words have no borders there that we could see: two neighbouring characters in common are a match."""
        for offset, run in unspaced_runs(text) if self._pairs else ():
            hits = (i for i, pair in enumerate(_pairs(run)) if pair in self._pairs)
            yield from ((offset + start, offset + end) for start, end in _merged(hits, min(2, len(run))))


def words(text: str) -> Iterator[Span]:
    """Return the place of every word of the scripts that put spaces between words."""
    return (match.span() for match in spaced_words(text))


class _Vocabulary:
    """Words that texts have shown so far, by their tokens: a query looks here for its own tokens, not for each word.

    Threads may share it.
    """

    def __init__(self, languages: tuple[str, ...]) -> None:
        self._languages = languages
        self._known: tuple[set[str], dict[int, frozenset[str]]] = set(), {}
        self._lock = threading.Lock()

    def meant_by(self, tokens: Iterable[int], words: AbstractSet[str]) -> frozenset[str]:
        """Return those known words that have one of the tokens; ``words`` are known by then."""
        known, by_token = self._known
        if not words <= known:
            with self._lock:
                known, by_token = self._learn(words)
        return frozenset().union(*(by_token[token] for token in tokens if token in by_token))

    def _learn(self, words: AbstractSet[str]) -> tuple[set[str], dict[int, frozenset[str]]]:
        if len(self._known[0]) + len(words) > MOST_KNOWN:
            self._known = set(), {}  # new ones, because others may be reading these
        known, by_token = self._known
        new = words - known
        for word in new:
            for token in word_ids(word, self._languages) if len(word) <= LONGEST_WORD else ():
                by_token[token] = by_token.get(token, frozenset()) | {word}
        known |= new  # after their tokens: who finds them known needs no lock
        return known, by_token


@lru_cache(maxsize=4)
def _vocabulary(languages: tuple[str, ...]) -> _Vocabulary:
    return _Vocabulary(languages)


@lru_cache(maxsize=1 << 9)
def folded_words(text: str) -> frozenset[str]:
    """Return the different runs of letters and digits in a text, without case.

    A search asks for those of its hits twice, to compare them and to highlight them, and what is found often is found
    again.  Some 10 kB for each remembered chunk of 800 characters.
    """
    return frozenset(plain_words(text.casefold()))


def _has_one_form(text: str) -> bool:
    """Tell whether each word of a text means the same in any case: ASCII, and nothing like maxRetries or HTTPServer."""
    if not text.isascii():
        return False
    cases = text.translate(_CASES)
    return "aA" not in cases and "AAaaa" not in cases


_CASES = {n: "a" if chr(n).islower() else "A" if chr(n).isupper() else " " for n in range(128)}


def _has_kin(word: str, others: Collection[str]) -> bool:
    """Tell whether the beginning of ``word`` is in one of ``others``, or the beginning of one of them in it."""
    begins = word[: max(SHORTEST_KIN, len(word) - ENDING)]
    return len(word) >= SHORTEST_KIN and any(
        begins in other or (len(other) >= SHORTEST_KIN and other[: max(SHORTEST_KIN, len(other) - ENDING)] in word)
        for other in others
    )


def _places(text: str, word: str) -> Iterator[Span]:
    """Yield where a word stands alone in a plain text."""
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not text[max(0, start - 1) : start].isalnum() and not text[end : end + 1].isalnum():
            yield start, end
        start = text.find(word, end)


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
