"""Decides whether passages answer a question: how sure are we, from words and meaning together.  Pure.

What goes into it is between 0 and 1, or counted in standard deviations, so that it means the same whatever the model,
the language and the size of the index:

* *cover*: the share of the question's words that the best passage has, rare words counting more; a word that no stored
  chunk has counts as the rarest of all, because it is the plainest sign that the answer is not here;
* *weight*: the best passage's BM25 score, as a share of the highest that the question allows;
* *near*: how much nearer the best passage is to the question than text about something else is.  Small models squeeze
  every cosine into a narrow band (multilingual-e5-small: 0.7 to 0.9) that moves with the language, so a few sentences
  about nothing in particular, in several languages, say where zero is;
* *stands out*: by how many standard deviations the best passage is nearer than a sample of the whole index.  In a
  collection about one thing every passage is near, and only this tells;
* *words*: short questions share all their words with something by chance.

The weights are logistic regressions over questions of COVID-QA and XQuAD (en, de, ar), asked with their document in the
index, and without it: alone, half of all, or six of seven documents left out.  How they were fitted, and what they
reach on documents that they have not seen, is in ADR 0013.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from workers.query.ports import Embedder
from workers.query.values import Background, Vector

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

SAME = 0.55
"""Closeness from which two texts are taken to mean the same."""

LEAST_SAMPLE = 64
"""Stored vectors from which a mean and a spread say something."""

MOST_WORDS = 15
K1 = 1.2
"""BM25's saturation: a word counts at most K1 + 1 times its rarity (qdrant/bm25's default)."""

_ALL = (2.9, 1.9, 2.4, 1.6, 3.2, -10.7)  # cover, weight, near, stands out, words, constant
_NEAR = (0.3, 6.5, 7.7, 2.7, -7.7)  # cover, weight, near, words, constant: an index too small for a sample
_WORDS = (0.0, 9.6, 3.5, -5.0)  # cover, weight, words, constant: no vectors

_FITS = (7.4, 10.6, -8.7)  # a sentence: coverage of its passage, closeness, constant
_FITS_BY_WORDS = (8.0, 2.6, -5.2)  # coverage of its passage, its own coverage, constant


class Weights:
    """How much each word of a question counts: by its rarity in the index, in whatever form it stands there.

    ``words`` has the token ids of each word's forms; ``rarity`` those tokens that some chunk has; a word of which no
    form is stored counts ``unknown``.
    """

    def __init__(self, words: Iterable[Collection[int]], rarity: Mapping[int, float], unknown: float) -> None:
        self._words = [
            (frozenset(ids), max((rarity[t] for t in ids if t in rarity), default=unknown)) for ids in words if ids
        ]
        self._total = sum(weight for _, weight in self._words)

    @property
    def count(self) -> int:
        """How many words there are."""
        return len(self._words)

    def coverage(self, tokens: Collection[int]) -> float:
        """Return the share of the question's words among ``tokens``; 0 when it has none that count."""
        if not self._total:
            return 0.0
        return sum(weight for ids, weight in self._words if not ids.isdisjoint(tokens)) / self._total

    def bm25(self, tokens: Mapping[int, float]) -> float:
        """Return the BM25 score of a stored text (its sparse vector), as a share of the highest there can be."""
        if not self._total:
            return 0.0
        found = (weight * max((tokens[t] for t in ids if t in tokens), default=0.0) for ids, weight in self._words)
        return min(1.0, sum(found) / ((K1 + 1.0) * self._total))


@dataclass(frozen=True, slots=True)
class Signs:
    """What speaks for the question being answered in the index; None: it could not be told."""

    cover: float
    weight: float
    words: int
    near: float | None = None
    stands_out: float | None = None

    @property
    def confidence(self) -> float:
        """How likely it is, between 0 and 1."""
        words = min(self.words, MOST_WORDS) / MOST_WORDS
        if self.near is None:
            return _logistic(_WORDS, self.cover, self.weight, words)
        if self.stands_out is None:
            return _logistic(_NEAR, self.cover, self.weight, self.near, words)
        return _logistic(_ALL, self.cover, self.weight, self.near, self.stands_out, words)


def rarest(points: int) -> float:
    """Return the rarity of a word that none of ``points`` chunks has (Qdrant's IDF)."""
    return math.log((points + 0.5) / 0.5 + 1.0)


def standing_out(question: Vector, best: float, background: Background) -> float | None:
    """Return by how many standard deviations a cosine lies above those of the index; None: too few to tell."""
    if len(background.vectors) < LEAST_SAMPLE:
        return None
    usual = background.vectors @ question
    return (best - float(usual.mean())) / max(1e-6, float(usual.std()))


def nearness(question: Vector, best: float, unrelated: Sequence[Vector]) -> float:
    """Return where a cosine stands between that of the nearest unrelated text (0) and the question itself (1)."""
    zero = max(float(question @ other) for other in unrelated)
    return (best - zero) / max(1e-6, 1.0 - zero)


def closeness(question: Vector, sentence: Vector, unrelated: Sequence[Vector]) -> float:
    """Return how near a sentence is to the question, as `nearness` measures it."""
    return nearness(question, float(question @ sentence), unrelated)


def fits(passage: float, sentence: float, close: float | None) -> float:
    """Return how well a sentence answers, between 0 and 1, given that its passage does.

    ``passage`` and ``sentence`` are coverages; ``close`` is None when meaning could not be compared.
    """
    if close is None:
        return _logistic(_FITS_BY_WORDS, passage, sentence)
    return _logistic(_FITS, passage, close)


def means_the_same(one: str, other: str, embedder: Embedder) -> bool:
    """Tell whether two texts mean the same, as far as their vectors tell.

    Raises:
        EmbedderUnavailable, EmbedderMisconfigured, InputRefused
    """
    first, second = embedder.passages([one, other])
    return closeness(first, second, embedder.landmarks(UNRELATED)) >= SAME


def _logistic(weights: Sequence[float], *signs: float) -> float:
    value = weights[-1] + sum(weight * sign for weight, sign in zip(weights, signs, strict=False))
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, value))))
