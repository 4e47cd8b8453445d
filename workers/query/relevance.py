"""Decides whether passages answer a question: how sure are we, from words and meaning together.  Pure.

Two figures go into it, both between 0 and 1 whatever the model and the size of the index:

* *coverage*: the share of the question's words that a passage has, rare words counting more;
* *closeness*: how much nearer a sentence is to the question than text about something else is.  Small models squeeze
  every cosine into a narrow band (multilingual-e5-small: 0.7 to 0.9), and the band moves with the language; so a few
  sentences about nothing in particular, in several languages, say where zero is.

The weights are a logistic regression over questions whose answer is, or is not, in the index (ADR 0013).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

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

SAME = 0.55
"""Closeness from which two texts are taken to mean the same."""

COMMON = 2.0
"""Added to every rarity: in an index of ten chunks, one unlucky word must not outweigh all the others."""

_BOTH = (7.4, 10.6, -8.7)  # coverage, closeness, constant
_WORDS = (8.0, 2.6, -5.2)  # coverage of the passage, of the sentence, constant


class Weights:
    """How much each word of a question counts."""

    def __init__(self, rarity: Mapping[int, float]) -> None:
        self._weights = {token: value + COMMON for token, value in rarity.items()}
        self._total = sum(self._weights.values())

    def coverage(self, tokens: Collection[int]) -> float:
        """Return the share of the question's words among ``tokens``; 0 when it has none that count."""
        if not self._total:
            return 0.0
        return sum(weight for token, weight in self._weights.items() if token in tokens) / self._total


def closeness(question: Vector, sentence: Vector, unrelated: Sequence[Vector]) -> float:
    """Return where the sentence stands between the nearest unrelated text (0) and the question itself (1)."""
    zero = max(float(question @ other) for other in unrelated)
    return (float(question @ sentence) - zero) / max(1e-6, 1.0 - zero)


def confidence(passage: float, sentence: float, close: float | None) -> float:
    """Return how likely it is that the question is answered here.

    ``passage`` and ``sentence`` are coverages; ``close`` is None when meaning could not be compared.
    """
    if close is None:
        a, b, constant = _WORDS
        return _logistic(a * passage + b * sentence + constant)
    a, b, constant = _BOTH
    return _logistic(a * passage + b * close + constant)


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, value))))


def means_the_same(one: str, other: str, embedder: Embedder) -> bool:
    """Tell whether two texts mean the same, as far as their vectors tell.

    Raises:
        EmbedderUnavailable, EmbedderMisconfigured, InputRefused
    """
    first, second, *unrelated = embedder.passages([one, other, *UNRELATED])
    return closeness(first, second, unrelated) >= SAME


def normalised(vector: Vector) -> Vector:
    """Return ``vector`` at length 1."""
    return (vector / np.linalg.norm(vector)).astype(np.float32)
