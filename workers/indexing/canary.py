"""A sentence whose vector is known: when it comes back as another one, another model answers under the same name."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from workers.errors import ModelSwapped
from workers.indexing.ports import Embedder, Vector

CANARY = "Upwell checks with this sentence that the embedding model is still the same."
SAME_MODEL = 0.999
CHECK_EVERY_S = 300.0


def likeness(one: Vector, other: Vector) -> float:
    """Return the cosine of two vectors; 0 when they are not of one length."""
    if one.shape != other.shape:
        return 0.0
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


class Canary:
    """Asks for the sentence now and then while texts are being embedded."""

    def __init__(self, vector: Vector, clock: Callable[[], float] = time.monotonic) -> None:
        self._vector = vector
        self._clock = clock
        self._due_at = clock() + CHECK_EVERY_S

    def doubt(self) -> None:
        """Have it checked before the next request: the endpoint was away, and something else may have come back."""
        self._due_at = self._clock()

    def check(self, embedder: Embedder) -> None:
        """Ask for the sentence when it is due.

        Raises:
            ModelSwapped: its vector is another now.
        """
        if self._clock() < self._due_at:
            return
        if likeness(embedder.embed([CANARY], kind="passage").vectors[0], self._vector) < SAME_MODEL:
            raise ModelSwapped(
                "The embedding endpoint (UPWELL_EMBEDDINGS_URL) still answers to the name of its model"
                " (UPWELL_EMBEDDINGS_MODEL), but it is another one: the same sentence gets another vector. Nothing is"
                " stored until the old one is back."
            )
        self._due_at = self._clock() + CHECK_EVERY_S
