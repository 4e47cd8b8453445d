"""The only module of the workers that computes BM25 vectors: Qdrant's own model, in process, without a download.

Words become the token ids of Qdrant's `qdrant/bm25` with its defaults, so a reader that lets Qdrant infer its query
finds our points.  That model takes a run of Chinese, Japanese or Thai as one word; those runs go through Qdrant's
multilingual tokenizer instead (which in turn loses numbers, so it gets nothing else).  Figures in ADR 0012.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

from qdrant_edge import Bm25, Bm25Config, TokenizerType

BM25_VERSION = "qdrant/bm25 english word+multilingual 2"
"""Part of the recipe: other token ids need other points."""

_UNSPACED = re.compile(
    "["
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"  # CJK
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ede\u1000-\u109f\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
    "\U00020000-\U0003ffff"
    "]+"
)


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Token ids and their weights."""

    indices: list[int]
    values: list[float]


def document_vector(text: str) -> SparseVector:
    """Return the sparse vector of a stored text."""
    return _vector(text, "embed_document")


def query_vector(text: str) -> SparseVector:
    """Return the sparse vector of a query: each of its words once.  Empty when it has only stop words."""
    return _vector(text, "embed_query")


@lru_cache(maxsize=1 << 16)
def word_ids(word: str) -> tuple[int, ...]:
    """Return the token ids of one word; none for a stop word.  Equal ids: search takes the words for the same."""
    return tuple(query_vector(word).indices)


def unspaced_runs(text: str) -> Iterator[tuple[int, str]]:
    """Yield (start, run) of every stretch of a script that puts no spaces between words."""
    for run in _UNSPACED.finditer(text):
        yield run.start(), run.group()


def _vector(text: str, how: Literal["embed_document", "embed_query"]) -> SparseVector:
    text = _clean(text)
    runs = _UNSPACED.findall(text)
    words = getattr(_words(), how)(_UNSPACED.sub(" ", text) if runs else text)
    weights: dict[int, float] = dict(zip(words.indices, words.values, strict=True))
    if runs:
        found = getattr(_segments(), how)(" ".join(runs))
        weights |= dict(zip(found.indices, found.values, strict=True))
    return SparseVector(list(weights), list(weights.values()))


def _clean(text: str) -> str:
    """One spelling for what looks the same (NFC); a lone surrogate cannot cross into Rust."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "replace").decode()


@cache
def _words() -> Any:
    return Bm25()


@cache
def _segments() -> Any:
    """Costs 50 MB for its dictionaries, and only those who need it pay."""
    return Bm25(Bm25Config(tokenizer=TokenizerType.Multilingual))
