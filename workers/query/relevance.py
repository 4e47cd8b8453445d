"""Decides whether passages answer a question: how sure are we, from words and meaning together.  Pure.

What goes into it is between 0 and 1, or in units of a search's score, so that it means the same whatever the model, the
language and the size of the index:

* *cover*: the share of the question's words that the best passage has, rare words counting more; a word that no stored
  chunk has counts as the rarest of all, because it is the plainest sign that the answer is not here;
* *sentence*: the same for the best sentence;
* *phrases*: the same, counting only words that stand beside the same neighbour as in the question;
* *near*: how much nearer the best passage is to the question than text about something else is.  Small models squeeze
  every cosine into a narrow band (multilingual-e5-small: 0.7 to 0.9) that moves with the language, so a few sentences
  about nothing in particular, in several languages, say where zero is;
* *ahead*: by how much the best document is ahead of the next three, in nearness and in BM25.  In a collection about
  one thing every passage is near and has the words, and what many documents touch on none of them need be about.
  Versions of the best one say the same, and are no rivals.

The weights are logistic regressions over questions of COVID-QA and XQuAD (en, de), asked with their document in the
index, and without it.  How they were fitted, and what they reach on documents that they have not seen, is in ADR 0013.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from workers.query.ports import Embedder
from workers.query.values import Vector

UNRELATED = (
    "The weather was mild and people walked along the river.",
    "Add the chopped onions and stir until they are golden.",
    "The meeting has been moved to next Thursday at ten.",
    "Click the button to save your changes.",
    "Der Zug nach Norden fährt heute von einem anderen Gleis.",
    "El equipo perdió el partido en los últimos minutos.",
    "这本书放在桌子上已经很久了。",
    "كان الطقس جميلا في ذلك اليوم.",
)
"""Sentences that answer nothing; the nearest of them to a question marks how near chance brings a text."""

SAME, SAME_ACROSS = 0.55, 0.4
"""Closeness from which two texts are taken to mean the same, in one script and in two: translations into another script
are farther away, and so are sentences that mean something else (ADR 0026)."""

RIVALS = 3
"""Documents that the best one is compared with."""

TWIN = 0.6
"""Share of the shorter passage's words, but for the question's, from which two passages are versions of one."""

LEAST_POINTS = 100
"""Chunks that an index is taken to have at least.  Of a handful, nearly each has the words that they are all about, and
only what is not there looks rare: a small index counts as a part of a bigger one that does not have its words."""

BM25_HALF = 16.0
"""BM25 score that is worth half of the most that words can give: a longer question must not be surer for its length."""

_IN_WORDS = {"cover": 2.5, "sentence": 2.8, "phrases": 1.4, "ahead_in_words": 11.2, "": -4.1}
_IN_WORDS_ALONE = {"cover": 5.2, "sentence": 1.9, "phrases": 1.8, "": -3.3}
_IN_BOTH = {
    "cover": 1.5,
    "sentence": 2.4,
    "phrases": 1.1,
    "near": 4.5,
    "ahead_in_words": 6.3,
    "ahead_in_meaning": 10.0,
    "": -5.8,
}
_IN_BOTH_ALONE = {"cover": 1.1, "sentence": 3.2, "phrases": 1.2, "near": 8.4, "": -5.5}
"""How much each sign counts, and the constant: with and without vectors, with and without another document."""

_FITS = (2.1, 8.2, -7.4)  # a sentence: coverage of its passage, closeness, constant
_FITS_BY_WORDS = (0.7, 4.2, -4.7)  # coverage of its passage, its own coverage, constant
"""How likely a sentence is to have the answer: logistic regressions over the candidates of 440 questions (ADR 0013)."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found: its document, its words with their BM25 weights, its nearness (None: no vectors)."""

    document: str
    tokens: Mapping[int, float]
    near: float | None = None


class Weights:
    """How much each word of a question counts: by its rarity in the index, in whatever form it stands there.

    ``words`` has the token ids of each word's forms; ``rarity`` the IDF of those tokens that some of the index's
    ``points`` has; a word of which no form is stored counts as one that no chunk has.
    """

    def __init__(self, words: Iterable[Collection[int]], rarity: Mapping[int, float], points: int) -> None:
        few = _few(points)
        unknown = max(_rarest(points), *rarity.values(), 0.0)  # the number of points may be some minutes old
        self._words = [
            (frozenset(ids), few + max((rarity[t] for t in ids if t in rarity), default=unknown))
            for ids in words
            if ids
        ]

    def coverage(self, tokens: Collection[int], place: Collection[int] = ()) -> float:
        """Return the share of the question's words among ``tokens``; 0 when it has none that count.

        Words of ``place``, the name of what is read, say where to look and not what for: no text need repeat them.
        """
        has = sum(weight for ids, weight in self._words if not ids.isdisjoint(tokens))
        of = sum(weight for ids, weight in self._words if ids.isdisjoint(place) or not ids.isdisjoint(tokens))
        return has / of if of else 0.0

    def beside(self, tokens: Collection[int]) -> frozenset[int]:
        """Return those of ``tokens`` that are not the question's."""
        return frozenset(tokens).difference(*(ids for ids, _ in self._words))

    def twins(self, tokens: Collection[int], others: Collection[int]) -> bool:
        """Tell whether two passages say much the same around the question's words."""
        mine, theirs = self.beside(tokens), self.beside(others)
        return len(mine & theirs) >= TWIN * min(len(mine), len(theirs))

    def bm25(self, tokens: Mapping[int, float]) -> float:
        """Return the BM25 score of a stored text (its sparse vector), as a share of the most that words can give."""
        score = sum(weight * max((tokens[t] for t in ids if t in tokens), default=0.0) for ids, weight in self._words)
        return score / (score + BM25_HALF)


@dataclass(frozen=True, slots=True)
class Signs:
    """What speaks for the question being answered in the index; None: it could not be told."""

    cover: float
    sentence: float
    phrases: float
    near: float | None = None
    ahead_in_words: float | None = None
    ahead_in_meaning: float | None = None

    @property
    def confidence(self) -> float:
        """How likely it is, between 0 and 1."""
        if self.near is None:
            table = _IN_WORDS_ALONE if self.ahead_in_words is None else _IN_WORDS
        else:
            table = _IN_BOTH_ALONE if self.ahead_in_meaning is None else _IN_BOTH
        return _logistic(*((weight, getattr(self, name) if name else 1.0) for name, weight in table.items()))


def ahead(passages: Sequence[Passage], weights: Weights) -> tuple[float | None, float | None]:
    """Return by how much the best document is ahead of the mean of the next, in words and in meaning.

    ``passages`` are the best ones, best first; the first of a document stands for it, and versions of the best are no
    rivals.  None: there is no other document, or no vector.
    """
    best: Passage | None = None
    rivals: dict[str, Passage] = {}
    for one in passages:
        if best is None:
            best = one
        elif one.document != best.document and len(rivals) < RIVALS and not weights.twins(one.tokens, best.tokens):
            rivals.setdefault(one.document, one)
    if best is None or not rivals:
        return None, None
    words = weights.bm25(best.tokens) - _mean([weights.bm25(one.tokens) for one in rivals.values()])
    near = [one.near for one in rivals.values() if one.near is not None]
    return words, best.near - _mean(near) if near and best.near is not None else None


def _rarest(points: int) -> float:
    """Return the rarity of a word that none of ``points`` chunks has: Qdrant's IDF, ln((points + 1) / (held + 1/2))."""
    return math.log((points + 1) / 0.5)


def _few(points: int) -> float:
    """Return what each word's IDF gains when ``points`` chunks are filled up to `LEAST_POINTS` that do not have it."""
    return math.log((max(points, LEAST_POINTS) + 1) / (points + 1))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def nearness(question: Vector, best: float, unrelated: Sequence[Vector]) -> float:
    """Return where a cosine stands between that of the nearest unrelated text (0) and the question itself (1)."""
    zero = max(float(question @ other) for other in unrelated)
    return (best - zero) / max(1e-6, 1.0 - zero)


def closeness(question: Vector, sentence: Vector, unrelated: Sequence[Vector]) -> float:
    """Return how near a sentence is to the question, as `nearness` measures it."""
    return nearness(question, float(question @ sentence), unrelated)


def fits(passage: float, sentence: float, close: float | None) -> float:
    """Return how likely a sentence is to have the answer, between 0 and 1, when its question is answered.

    ``passage`` and ``sentence`` are coverages; ``close`` is None when meaning could not be compared.
    """
    if close is None:
        return _logistic(*zip(_FITS_BY_WORDS, (passage, sentence, 1.0), strict=True))
    return _logistic(*zip(_FITS, (passage, close, 1.0), strict=True))


def means_the_same(one: str, other: str, embedder: Embedder) -> bool:
    """Tell whether two texts mean the same, as far as their vectors tell.

    Raises:
        EmbedderUnavailable, EmbedderMisconfigured, InputRefused
    """
    first, second = embedder.passages([one, other])
    least = SAME if _script(one) == _script(other) else SAME_ACROSS
    return closeness(first, second, embedder.landmarks()) >= least


def _script(text: str) -> str:
    """Return the script of most letters, as Unicode names it (LATIN, ARABIC, CJK)."""
    scripts = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha())
    return scripts.most_common(1)[0][0] if scripts else ""


def _logistic(*weighed: tuple[float, float]) -> float:
    value = sum(weight * sign for weight, sign in weighed)
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, value))))
