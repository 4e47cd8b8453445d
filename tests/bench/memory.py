"""The part of an index that answers need, in memory: finds what Qdrant finds; documents can be left out at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from tests.bench.answers import Vectors
from workers.adapters.bm25 import SparseVector
from workers.adapters.names import apart, chunk_vector
from workers.adapters.qdrant_fusion import (
    BM25_LEAST,
    BM25_POWER,
    BM25_WORD,
    DENSE_WEIGHT,
    NAME_POWER,
    NAME_SHARE,
    NAME_WEIGHT,
    rarest,
)
from workers.adapters.qdrant_search import PREFETCH, SAMPLE
from workers.indexing.chunk import ChunkOptions, chunk
from workers.indexing.parse.text import read_text
from workers.indexing.values import Parsed
from workers.query.filters import EVERYTHING, Condition
from workers.query.values import Background, Found, Vector

NOWHERE = -9.0


class Memory:
    """Chunks of documents; ``without`` leaves some of them out of everything, rarity and sample included."""

    def __init__(
        self,
        documents: Mapping[str, str],
        vectors: Vectors,
        languages: tuple[str, ...],
        *,
        named: bool = True,
        parse: Callable[[bytes, str], Parsed] = read_text,
    ) -> None:
        self._languages = languages
        made = [each for name, text in documents.items() for each in chunk(name, parse(text.encode(), name), _CUT)]
        self.documents = np.array([each.document_id for each in made])
        self._ids = [str(uuid5(NAMESPACE_URL, f"{each.document_id}\x1f{each.index}")) for each in made]
        self._payloads: list[dict[str, Any]] = [
            {
                "content": each.content,
                "doc_id": each.document_id,
                "chunk_index": each.index,
                "metadata": {"source": "bench", "path": each.document_id, "heading": each.heading},
                "version": "1",
            }
            for each in made
        ]
        self._at = {(each.document_id, each.index): number for number, each in enumerate(made)}
        held: dict[int, list[tuple[int, float]]] = {}
        for number, each in enumerate(made):
            vector = chunk_vector(each.embedded_text, each.document_id if named and each.first else None)
            for token, weight in zip(vector.indices, vector.values, strict=True):
                held.setdefault(token, []).append((number, weight))
        self._held = {
            t: (np.array([n for n, _ in pairs]), np.array([w for _, w in pairs])) for t, pairs in held.items()
        }
        dense = vectors.mode == "hybrid"
        self._vectors = np.stack(vectors.passages([each.embedded_text for each in made])) if dense else None
        self._order = np.argsort(self._ids)
        self.without(())

    def without(self, documents: Collection[str]) -> None:
        """Leave these documents out, and no others."""
        self._there = ~np.isin(self.documents, list(documents))
        self._points = int(self._there.sum())
        rows = [n for n in self._order if self._there[n]][:SAMPLE]
        empty = np.zeros((0, 0), dtype=np.float32)
        self._background = Background(self._points, empty if self._vectors is None else self._vectors[rows])

    def find(
        self,
        words: SparseVector | None,
        meaning: Vector | None,
        *,
        limit: int,
        filters: Condition = EVERYTHING,
        explain: bool = False,
        vectors: bool = False,
        unrelated: float | None = None,
    ) -> list[Found]:
        sums: dict[int, float] = {}
        of_texts, of_names = apart(words) if words is not None else (SparseVector([], []), SparseVector([], []))
        bm25, named = self._bm25(of_texts), self._bm25(of_names)
        if meaning is None or self._vectors is None or unrelated is None:
            both = bm25 + named
            sums = {n: float(both[n]) for n in self._first(both, max(PREFETCH, limit)) if both[n] > 0}
        else:
            cosines = np.where(self._there, self._vectors @ meaning, NOWHERE)
            unit = DENSE_WEIGHT / max(0.05, 1.0 - unrelated)
            for n in self._first(cosines, max(PREFETCH, limit)):
                sums[n] = unit * (float(cosines[n]) - unrelated)
            asked = sum(of_texts.values)
            for scores, half, power, most in (
                (bm25, max(BM25_LEAST, BM25_WORD * asked), BM25_POWER, 1.0),
                (named, NAME_SHARE * rarest(self._points) * asked, NAME_POWER, NAME_WEIGHT),
            ):
                for n in self._first(scores, max(PREFETCH, limit)):
                    if scores[n] > 0:
                        raised = float(scores[n]) ** power
                        sums[n] = sums.get(n, 0.0) + most * raised / (raised + half**power)
        best = sorted(sums, key=lambda n: (-sums[n], self._ids[n]))[:limit]
        dense = self._vectors
        return [
            Found(self._ids[n], sums[n], self._payloads[n], vector=None if dense is None else dense[n]) for n in best
        ]

    def rarity(self, tokens: Sequence[int]) -> Mapping[int, float]:
        return {token: rarity for token in tokens if (rarity := self._rarity(token)) is not None}

    def background(self) -> Background:
        return self._background

    def speaks(self, languages: tuple[str, ...]) -> None:
        """Say which languages most chunks are in, where it was not known before they were made."""
        self._languages = languages

    def languages(self) -> tuple[str, ...]:
        return self._languages

    def has_vectors(self) -> bool:
        return self._vectors is not None

    def neighbours(self, found: Sequence[Found], reach: int) -> Mapping[str, list[Found]]:
        around = [(one, range(one.chunk_index - reach, one.chunk_index + reach + 1)) for one in found]
        return {
            one.id: [
                Found(self._ids[n], 0.0, self._payloads[n])
                for index in indices
                if index != one.chunk_index and (n := self._at.get((one.doc_id, index))) is not None
            ]
            for one, indices in around
        }

    def fields(self) -> Sequence[str]:
        return ("source", "path", "heading")

    def unknown(self, fields: Collection[str]) -> Mapping[str, str | None]:
        return {}

    def chunks_of(self, document: str, *, limit: int) -> list[Found]:
        return []

    def present(self, ids: Sequence[str]) -> frozenset[str]:
        return frozenset(ids)

    def facts(self, *args: Any, **more: Any) -> list[Found]:
        return []

    def _first(self, scores: Any, count: int) -> list[int]:
        kept = min(count, self._points)
        if not kept:
            return []
        top = np.argpartition(-scores, kept - 1)[:kept]
        return [int(n) for n in top if scores[n] > NOWHERE]

    def _bm25(self, words: SparseVector) -> Any:
        scores = np.zeros(len(self._ids))
        for token, asked in zip(words.indices, words.values, strict=True):
            if (rarity := self._rarity(token)) is not None:
                numbers, weights = self._held[token]
                scores[numbers] += asked * weights * rarity
        return np.where(self._there, scores, 0.0)

    def _rarity(self, token: int) -> float | None:
        holders = int(self._there[self._held[token][0]].sum()) if token in self._held else 0
        return math.log((self._points - holders + 0.5) / (holders + 0.5) + 1.0) if holders else None


_CUT = ChunkOptions()
