"""The layers of the bundled model as onnxruntime runs them: dense steps in 8 bits, the rest in float32 (ADR 0046).

Weights are rounded once, each output by a scale of its own; what they are multiplied with is rounded by its range at
each step (`DynamicQuantizeMatMul`).  The marks at both ends of a text have values in the inner dense steps up to ten
times as large as any word's (Sun et al., Massive Activations in Large Language Models, 2024), and words rounded by that
range would lose most of their digits; so the two marks stand first, and take those steps by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime

from ops.embedded.graph import LAST, Graph
from ops.embedded.weights import Model

MARKS = 2
LARGEST = 63
"""Weights are whole numbers from -63 to 63: two products with values up to 255 then fit into the 16 bits in which
processors without VNNI add them, so every processor computes the same."""


def layers(model: Model) -> onnxruntime.InferenceSession:
    """Return the layers; "rows", (1, MARKS + words, width), in and out, on the caller's thread alone."""
    graph = Graph(model.width)
    rows = _Norm(graph, model, "emb.ln").alone(graph.rows())
    for number in range(model.layers):
        rows = _layer(graph, model, f"l{number}.", rows)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.model(rows), options, providers=["CPUExecutionProvider"])


def _layer(graph: Graph, model: Model, name: str, rows: str) -> str:
    """Attention and two dense steps, each added to what came in and normalized (Vaswani et al., 2017; BERT)."""
    width, inner = model.width, model.inner
    asked = _Dense(graph, model, [f"{name}{part}" for part in "qkv"], (width, width))
    read = _Dense(graph, model, [f"{name}ao"], (width, width))
    up, down = _Dense(graph, model, [f"{name}fi"], (inner, width)), _Dense(graph, model, [f"{name}fo"], (width, inner))
    after_attention, after_dense = _Norm(graph, model, f"{name}aln"), _Norm(graph, model, f"{name}oln")

    attention = graph.step("MultiHeadAttention", *graph.thirds(asked.of(rows)), num_heads=model.heads)
    rows = after_attention.of(rows, read.of(attention))
    parts = graph.between(rows, 0, MARKS), graph.between(rows, MARKS, LAST)
    return graph.together(*(after_dense.of(part, down.of(graph.step("FastGelu", up.of(part)))) for part in parts))


class _Dense:
    """Rows times 8-bit weights, plus a bias; several matrices of one shape, (outputs, inputs), side by side."""

    def __init__(self, graph: Graph, model: Model, names: Sequence[str], shape: tuple[int, int]) -> None:
        weights = np.concatenate([model.matrix(f"{name}.w", *shape) for name in names]).T
        scales = np.abs(weights).max(axis=0) / np.float32(LARGEST)
        bias = np.concatenate([model.floats(f"{name}.b", -1) for name in names])
        self._graph = graph
        self._whole = graph.weights(np.rint(weights / scales).astype(np.int8))
        self._scales, self._bias = graph.weights(scales), graph.weights(bias)

    def of(self, rows: str) -> str:
        zeros = ""  # the weights' zero points: none, they are symmetric
        return self._graph.step("DynamicQuantizeMatMul", rows, self._whole, self._scales, zeros, self._bias)


class _Norm:
    """Layer normalization (Ba et al., 2016)."""

    def __init__(self, graph: Graph, model: Model, name: str) -> None:
        self._graph = graph
        self._weights = [graph.weights(model.floats(f"{name}.{part}", -1)) for part in "wb"]
        self._epsilon = model.epsilon

    def alone(self, rows: str) -> str:
        return self._graph.step("LayerNormalization", rows, *self._weights, axis=-1, epsilon=self._epsilon, domain="")

    def of(self, rows: str, more: str) -> str:
        return self._graph.step("SkipLayerNormalization", rows, more, *self._weights, epsilon=self._epsilon)
