"""Answers a question from the passages that a search finds: written by a model if there is one, else in their words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from workers.errors import ChatMisconfigured, ChatUnavailable
from workers.query.extractive import Statement, extract
from workers.query.ports import Chat, Embedder, SearchIndex
from workers.query.requests import AnswerRequest
from workers.query.search import Hit, SearchResult, search
from workers.query.written import Checked, prompt

log = structlog.get_logger()

REFUSAL = "I don't know: nothing in the indexed documents answers this."
QUOTE_CHARS = 400
Emit = Callable[[str, dict[str, Any]], None]
"""Takes an event (hits, delta) and its data, as soon as it is known."""


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Answering:
    """What answering needs, once per process."""

    index: SearchIndex
    embedder: Embedder
    chat: Chat | None
    context_chars: int
    threshold: float

    def answer(
        self,
        request: AnswerRequest,
        *,
        emit: Emit = lambda _event, _data: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """Return the answer as readers get it.

        Raises:
            IndexUnavailable, IndexMisconfigured: there is nothing to answer from.
            Cancelled: the caller went away.
        """
        started = time.monotonic()
        result = search(request, index=self.index, embedder=self.embedder)
        emit("hits", {"hits": [hit.as_json() for hit in result.hits], "mode": result.mode})
        made = self._made(request, result, emit, cancelled)
        return made | {
            "hits": [hit.as_json() for hit in result.hits],
            "mode": result.mode,
            "degraded": result.degraded,
            "took_ms": round((time.monotonic() - started) * 1000, 1),
        }

    def _made(
        self, request: AnswerRequest, result: SearchResult, emit: Emit, cancelled: Callable[[], bool]
    ) -> dict[str, Any]:
        if not result.hits:
            return _refused("extractive", emit)
        note = None
        if self.chat is not None:
            try:
                return self._written(self.chat, request, result, emit, cancelled)
            except (ChatUnavailable, ChatMisconfigured) as exc:
                note = f"{exc} Answered in the documents' own words instead."
                log.warning("answer.chat_failed", error=type(exc).__name__)
        return self._extractive(request, result, emit) | ({"note": note} if note else {})

    def _written(
        self, chat: Chat, request: AnswerRequest, result: SearchResult, emit: Emit, cancelled: Callable[[], bool]
    ) -> dict[str, Any]:
        passages = prompt(request.query, result.hits, request.history, most_chars=self.context_chars)
        checked = Checked(passages.hits)
        for piece in checked.take(_until(chat.stream(passages.messages), cancelled)):
            emit("delta", {"text": piece})
        if checked.refused:
            return _refused(chat.model, emit)
        return {
            "answer": checked.text,
            "citations": [_citation(n, passages.hits[n - 1], None) for n in checked.cited],
            "grounded": checked.grounded,
            "refused": False,
            "generated_by": chat.model,
        }

    def _extractive(self, request: AnswerRequest, result: SearchResult, emit: Emit) -> dict[str, Any]:
        statements = extract(request.query, result, index=self.index, embedder=self.embedder, threshold=self.threshold)
        if not statements:
            return _refused("extractive", emit)
        numbers: dict[str, int] = {}
        first: list[Statement] = []
        parts = []
        for statement in statements:
            key = statement.hit.found.id
            if key not in numbers:
                numbers[key] = len(numbers) + 1
                first.append(statement)
            parts.append(f"{statement.text} [{numbers[key]}]")
        text = " ".join(parts)
        emit("delta", {"text": text})
        return {
            "answer": text,
            "citations": [_citation(numbers[s.hit.found.id], s.hit, s.quote) for s in first],
            "grounded": True,
            "refused": False,
            "generated_by": "extractive",
            "extractive": True,
        }


def _refused(by: str, emit: Emit) -> dict[str, Any]:
    emit("delta", {"text": REFUSAL})
    return {"answer": REFUSAL, "citations": [], "grounded": True, "refused": True, "generated_by": by}


def _citation(number: int, hit: Hit, quote: str | None) -> dict[str, Any]:
    """Return where a statement comes from; the quote is, letter for letter, part of the chunk."""
    facts, payload = hit.found.metadata, hit.found.payload
    return {
        "n": number,
        "doc_id": hit.found.doc_id,
        "source": facts.get("source"),
        "path": facts.get("path"),
        "title": facts.get("title"),
        "page": facts.get("page"),
        "quote": quote if quote is not None else hit.found.content[:QUOTE_CHARS],
        "version": payload.get("version"),
        "indexed_at": payload.get("indexed_at"),
    }


def _until(pieces: Iterator[str], cancelled: Callable[[], bool]) -> Iterator[str]:
    for seen, piece in enumerate(pieces):
        if seen % 8 == 7 and cancelled():
            raise Cancelled
        yield piece
