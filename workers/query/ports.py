"""What searching and answering need of the outside, in their own words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, Protocol

from workers.adapters.bm25 import SparseVector
from workers.errors import IndexMisconfigured
from workers.query.filters import EVERYTHING, Condition
from workers.query.values import Background, Found, Vector

Role = Literal["system", "user", "assistant"]


class VectorRefused(IndexMisconfigured):
    """The query's dense vector does not fit the collection; its words still do."""


class SearchIndex(Protocol):
    """The index as readers see it.

    Every method raises IndexUnavailable when there is no answer, and IndexMisconfigured when it makes no sense there.
    """

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
        """Return the best points, best first, ties by id.

        With both vectors their two lists are fused; a point without a dense vector is found by its words alone.
        ``unrelated`` is the cosine that counts as nothing for this query (None: not known).

        Raises:
            VectorRefused: the dense vector does not fit the collection.
        """

    def facts(
        self, words: SparseVector, *, limit: int, filters: Condition = EVERYTHING, fields: Sequence[str] = ()
    ) -> list[Found]:
        """Return up to ``limit`` of the points that have one of the words, best first, with their document's id and
        these fields only."""

    def neighbours(self, found: Sequence[Found], reach: int) -> Mapping[str, list[Found]]:
        """Return, by id, the chunks up to ``reach`` places before and after each, of the same version, in order."""

    def unknown(self, fields: Collection[str]) -> Mapping[str, str | None]:
        """Return those fields that no chunk has a value of, each with the known one that is spelled most like it."""

    def fields(self) -> Sequence[str]:
        """Return the fields that some chunk has, as people name them, in the order of the alphabet."""

    def chunks_of(self, document: str, *, limit: int) -> list[Found]:
        """Return a document's chunks in reading order."""

    def languages(self) -> tuple[str, ...]:
        """Return the languages of most chunks (English names), for queries whose words do not tell theirs."""

    def rarity(self, tokens: Sequence[int]) -> Mapping[int, float]:
        """Return the inverse document frequency of each token that some stored chunk has."""

    def background(self) -> Background:
        """Return what the index is like as a whole; may be some minutes old."""

    def present(self, ids: Sequence[str]) -> frozenset[str]:
        """Return which of these points are stored right now."""

    def has_vectors(self) -> bool:
        """Tell whether any point has a dense vector yet."""


class Embedder(Protocol):
    """Turns queries into vectors, quickly or not at all."""

    def query(self, text: str) -> Vector:
        """Return the vector of a query, normalised.

        Raises:
            EmbedderUnavailable, EmbedderMisconfigured, InputRefused
        """

    def queries(self, texts: Sequence[str]) -> list[Vector]:
        """Return the vectors of several queries, normalised, with one call for those that are not remembered.

        Raises:
            EmbedderUnavailable, EmbedderMisconfigured, InputRefused
        """

    def unrelated(self) -> float | None:
        """Return the mean cosine of texts that have nothing to do with each other; None when it cannot be had."""

    def passages(self, texts: Sequence[str]) -> list[Vector]:
        """Return the vectors of a few sentences, normalised.

        Raises:
            EmbedderUnavailable, EmbedderMisconfigured, InputRefused
        """

    def landmarks(self) -> list[Vector]:
        """Return the vectors of `relevance.UNRELATED`, with which every question is compared; asked for once.

        Raises:
            EmbedderUnavailable, EmbedderMisconfigured, InputRefused
        """


class Chat(Protocol):
    """A model that writes."""

    @property
    def model(self) -> str:
        """Its name."""

    def stream(self, messages: Sequence[tuple[Role, str]]) -> Iterator[str]:
        """Yield the text as it is written; closing the iterator stops the model.

        Raises:
            ChatUnavailable, ChatMisconfigured
        """


class Reranker(Protocol):
    """A model that reads query and passage together."""

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """Return how well each passage answers the query; only the order means something.

        Raises:
            RerankerUnavailable, RerankerMisconfigured
        """
