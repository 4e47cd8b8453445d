"""Tells whether a passage says what a sentence says, as far as words and figures can tell.  Pure, any script.

A sentence is supported when most of its words stand close together in the passage, when the passage has every figure
of the sentence, and when both deny or both assert.  That catches what models do wrong most: a number from nowhere, a
citation of the neighbouring passage, a "not" that got lost.  It is no proof: who did what to whom it cannot see.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from workers.adapters.bm25 import query_vector
from workers.query.figures import digits, figures
from workers.query.sentences import Span, sentences

ENOUGH = 0.6
"""Share of a sentence's words that its cited passages must have."""

PLAIN = 0.75
"""The same for a passage that the model did not cite: what we attribute ourselves must be plainer."""

CONTRIBUTES = 0.3
"""Share below which one of several cited passages has nothing to do with the sentence."""

WINDOW = 3
"""Neighbouring sentences of a passage that may support one sentence together."""

COMPARED = 6
"""Sentences of one passage whose meaning is compared with a statement: each costs the embedding endpoint."""

_WORD = re.compile(r"[^\W\d_]+(?:['’]t\b)?")
_DENYING = (
    "not no never none neither nor without cannot nobody nothing nicht kein keine keinen keinem keiner nie niemals ohne"
    " weder pas jamais sans aucun aucune ni nunca sin ningún ninguna jamás tampoco"
)
_DENIALS = frozenset(_DENYING.split())
_NO_DENIAL = re.compile(r"\b(?:no (?:later|less|more|fewer|earlier|longer) than|not only|no\.? ?\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The part of a passage that speaks for a sentence, and the share of the sentence's words that it has."""

    span: Span
    share: float
    words: frozenset[int]
    figures: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Sentence:
    span: Span
    words: frozenset[int]
    figures: frozenset[str]
    denies: bool


@dataclass(slots=True)
class Source:
    """A passage, prepared to be compared with many sentences.

    ``context`` is what its reader knows without reading it (title, heading, path): a sentence may use those words.
    """

    content: str
    context: str = ""
    _parts: list[_Sentence] = field(init=False)
    _known: frozenset[int] = field(init=False)
    _known_figures: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._parts = [_read(self.content, span) for span in sentences(self.content)]
        self._known, self._known_figures = _words(self.context), figures(self.context)

    def evidence(self, statement: str) -> Evidence | None:
        """Return the sentences here that have most of the statement's words; None when they have none of them.

        Windows that contradict the statement in what they deny are no evidence.
        """
        wanted, denied = _words(statement), denies(statement)
        if not wanted:
            return None
        best: Evidence | None = None
        for size in range(1, WINDOW + 1):
            for first in range(len(self._parts) - size + 1):
                found = self._window(self._parts[first : first + size], wanted, denied)
                if found is not None and (best is None or found.share > best.share):  # the shortest of equals
                    best = found
        return best

    @property
    def figures(self) -> frozenset[str]:
        """Every number of the passage and of its context."""
        return frozenset[str]().union(self._known_figures, *(part.figures for part in self._parts))

    def candidates(self, statement: str) -> list[Span]:
        """Return the sentences worth comparing by meaning: with figures of the statement, or words of it, first."""
        wanted, numbers = _words(statement), digits(statement)
        ranked = sorted(self._parts, key=lambda part: (-len(part.figures & numbers), -len(part.words & wanted)))
        return [part.span for part in ranked[:COMPARED]]

    def _window(self, parts: Sequence[_Sentence], wanted: frozenset[int], denied: bool) -> Evidence | None:
        words = frozenset[int]().union(*(part.words for part in parts))
        here = wanted & words
        if not here:
            return None
        touching = [part for part in parts if part.words & wanted]
        # A passage that denies supports no assertion, and the other way round.  Of several sentences one may deny.
        if denied and not any(part.denies for part in parts):
            return None
        if not denied and all(part.denies for part in touching):
            return None
        numbers = frozenset[str]().union(*(part.figures for part in parts)) | self._known_figures
        covered = here | (wanted & self._known)
        return Evidence((parts[0].span[0], parts[-1].span[1]), len(covered) / len(wanted), covered, numbers)


def together(statement: str, found: Sequence[Evidence]) -> float:
    """Return the share of the statement's words that the evidence has as a whole; 0 when a figure is in none of it."""
    wanted = _words(statement)
    if not wanted or not found:
        return 0.0
    numbers = frozenset[str]().union(*(each.figures for each in found))
    if not digits(statement) <= numbers:
        return 0.0
    return len(frozenset[int]().union(*(each.words for each in found)) & wanted) / len(wanted)


def denies(text: str) -> bool:
    """Tell whether ``text`` has a word of negation (English, German, French, Spanish)."""
    words = _lower_words(_NO_DENIAL.sub(" ", text))
    return any(word in _DENIALS or word.endswith(("n't", "n’t")) for word in words)


def _read(content: str, span: Span) -> _Sentence:
    text = content[span[0] : span[1]]
    return _Sentence(span, _words(text), figures(text), denies(text))


def _lower_words(text: str) -> list[str]:
    return [match.lower() for match in _WORD.findall(text)]


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[int]:
    return frozenset(query_vector(text).indices)
