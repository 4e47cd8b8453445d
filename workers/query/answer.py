"""Answers a question from the passages that a search finds: written by a model if there is one, else in their words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from workers.adapters.embeddings import InputRefused
from workers.adapters.tokens import estimate_tokens
from workers.errors import ChatMisconfigured, ChatUnavailable, EmbedderMisconfigured, EmbedderUnavailable
from workers.query.evidence import is_weak
from workers.query.extractive import Extract, extract
from workers.query.followup import changes_the_subject, standalone
from workers.query.listening import Cancelled, Writer
from workers.query.ports import Embedder, Reranker, SearchIndex
from workers.query.prompt import prompt
from workers.query.questions import write_question
from workers.query.relevance import means_the_same
from workers.query.requests import AnswerRequest, ExplainRequest, QuestionRequest, SearchRequest
from workers.query.search import Hit, SearchResult, search_many
from workers.query.sentences import Span
from workers.query.standing import Catalogue, Standing
from workers.query.why import explain_document
from workers.query.written import DIFFERENT, Checked, Said, joined

__all__ = ["REFUSAL", "Answering", "Cancelled"]

log = structlog.get_logger()

REFUSAL = "I don't know: nothing in the indexed documents answers this."
Emit = Callable[[str, dict[str, Any]], None]
"""Takes an event and its data, as soon as it is known: hits; delta (more text); restart (what came before is void)."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer before the last look: what it says, and the passages that its citations number."""

    said: tuple[Said, ...]
    passages: tuple[Hit, ...]
    by: str
    grounded: bool = True
    refused: bool = False
    notes: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answering:
    """What answering needs, once per process."""

    index: SearchIndex
    embedder: Embedder
    writer: Writer | None
    catalogue: Catalogue | None
    context_tokens: int
    answer_tokens: int
    threshold: float
    reranker: Reranker | None = None

    def search(self, requests: Sequence[SearchRequest]) -> list[SearchResult]:
        """Return the result of each search.

        Raises:
            IndexUnavailable, IndexMisconfigured: there is nothing to search in.
        """
        results = search_many(requests, index=self.index, embedder=self.embedder, reranker=self.reranker)
        return [
            replace(result, weak=is_weak(request.query, result, index=self.index, embedder=self.embedder))
            if request.judge
            else result
            for request, result in zip(requests, results, strict=True)
        ]

    def explain(self, request: ExplainRequest) -> dict[str, Any]:
        """Return why a document is, or is not, among the hits.

        Raises:
            IndexUnavailable, IndexMisconfigured: there is nothing to look in.
        """
        return explain_document(request, index=self.index, embedder=self.embedder, reranker=self.reranker)

    def question(self, request: QuestionRequest) -> dict[str, Any]:
        """Return a question that a passage answers.

        Raises:
            ChatUnavailable, ChatMisconfigured: no model writes one.
        """
        return write_question(request, self.writer)

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
        question = standalone(
            request.query, request.history, writer=self.writer, budget=self.context_tokens, cancelled=cancelled
        )
        asked, result = self._understood(request, question)
        emit("hits", {"hits": [hit.as_json() for hit in result.hits], "mode": result.mode})
        draft = self._draft(asked, result, emit, cancelled)
        body = self._settled(draft)
        if asked is not request:
            body["question"] = question
        if result.note:
            body["note"] = f"{result.note} {body.get('note', '')}".strip()
        return body | {
            "hits": [hit.as_json() for hit in result.hits],
            "mode": result.mode,
            "degraded": result.degraded,
            "took_ms": round((time.monotonic() - started) * 1000, 1),
        }

    def _understood(self, request: AnswerRequest, question: str) -> tuple[AnswerRequest, SearchResult]:
        """Return the request as it is asked and what it finds: with ``question``, unless that mixes two subjects."""
        if question == request.query:
            return request, self.search([request])[0]
        asked = request.model_copy(update={"query": question})
        if not question.endswith(request.query):  # not joined by rule: a model has understood it
            return asked, self.search([asked])[0]
        together, alone = self.search([asked, request])
        best = [result.hits[0].found.content if result.hits else "" for result in (together, alone)]
        return (request, alone) if changes_the_subject(request.query, question, *best) else (asked, together)

    # ------------------------------------------------------------------------------------------------------ drafts

    def _draft(self, request: AnswerRequest, result: SearchResult, emit: Emit, cancelled: Callable[[], bool]) -> Draft:
        if not result.hits:
            return _refused("extractive", emit)
        if self.writer is None:
            return self._extractive(request, result, emit)
        try:
            draft = self._written(self.writer, request, result, emit, cancelled)
        except (ChatUnavailable, ChatMisconfigured) as exc:
            log.warning("answer.chat_failed", error=type(exc).__name__)
            note = f"{exc} Answered in the documents' own words instead."
        else:
            if draft.refused or draft.said:
                return draft
            note = "No passage backs what the model wrote. Answered in the documents' own words instead."
        emit("restart", {"reason": note})
        return replace(self._extractive(request, result, emit), notes=(note,))

    def _written(
        self, writer: Writer, request: AnswerRequest, result: SearchResult, emit: Emit, cancelled: Callable[[], bool]
    ) -> Draft:
        """Return what the model says and the passages back; without ``said`` they back nothing of it."""
        passages = prompt(request.query, result.hits, request.history, budget=self.context_tokens)
        checked = Checked(passages.hits, self._near)
        budget = _Budget(self.answer_tokens)
        with closing(writer.write(passages.messages, cancelled=cancelled)) as pieces:
            for piece in checked.take(budget.within(pieces)):
                emit("delta", {"text": piece})
        if checked.says_none:
            return replace(_refused(writer.model, emit), passages=passages.hits)
        if checked.refused:
            return Draft((), passages.hits, writer.model)
        notes = []
        if checked.removed:
            notes.append(f"{_counted(checked.removed, 'sentence')} left out: no passage backs what it says.")
        if budget.spent:
            notes.append(f"Cut off after {self.answer_tokens} tokens (UPWELL_ANSWER_TOKENS).")
        return Draft(
            tuple(checked.said),
            passages.hits,
            writer.model,
            grounded=checked.grounded,
            notes=tuple(notes),
            more={"removed": checked.removed},
        )

    def _extractive(self, request: AnswerRequest, result: SearchResult, emit: Emit) -> Draft:
        found = extract(request.query, result, index=self.index, embedder=self.embedder, threshold=self.threshold)
        more = {"confidence": round(found.confidence, 3)}
        if not found.statements:
            return replace(_refused("extractive", emit), more=more)
        said, passages = _quoted(found)
        emit("delta", {"text": joined(said)})
        return Draft(tuple(said), tuple(passages), "extractive", more=more)

    def _near(self, statement: str, quote: str) -> bool:
        """Tell whether two texts mean the same; what cannot be compared does not."""
        try:
            return means_the_same(statement, quote, self.embedder)
        except (EmbedderUnavailable, EmbedderMisconfigured, InputRefused):
            return False

    # --------------------------------------------------------------------------------------------------- last look

    def _settled(self, draft: Draft) -> dict[str, Any]:
        """Look again at what is cited: a document that went away since the search is not cited, nor what it said."""
        cited = {number: draft.passages[number - 1] for each in draft.said for number, _ in each.quotes}
        standing = (
            self.catalogue.standing({hit.found.doc_id for hit in cited.values()}) if self.catalogue and cited else {}
        )
        gone = self._gone(cited, standing)
        said = _remaining(draft.said, gone)
        notes = list(draft.notes)
        if gone:
            notes.append(f"{_counted(len(gone), 'passage')} deleted or changed while this was answered.")
        quotes: dict[int, list[Span]] = {}
        for each in said:
            for number, span in each.quotes:
                quotes.setdefault(number, []).append(span)
        text = joined(said)
        refused = draft.refused or not quotes
        if refused and self.catalogue and (waiting := self.catalogue.waiting()):
            left = _counted(waiting, "document", now=True)
            notes.append(f"{left} not wholly indexed yet, and may answer it: ask again when upwell status says ready.")
        body: dict[str, Any] = {
            "answer": REFUSAL if refused else text,
            "citations": []
            if refused
            else [_citation(n, cited[n], spans, standing.get(cited[n].found.doc_id)) for n, spans in quotes.items()],
            "grounded": draft.grounded,
            "refused": refused,
            "generated_by": draft.by,
            "missing": [each.text.strip() for each in said if each.fate == "missing"],
            "conflicts": _conflicts(said),
        }
        return body | dict(draft.more) | ({"note": " ".join(notes)} if notes else {})

    def _gone(self, cited: Mapping[int, Hit], standing: Mapping[str, Standing]) -> set[int]:
        if not cited:
            return set()
        present = self.index.present([hit.found.id for hit in cited.values()])
        return {
            number
            for number, hit in cited.items()
            if hit.found.id not in present or (hit.found.doc_id in standing and standing[hit.found.doc_id].gone)
        }


class _Budget:
    """Ends a text that does not end by itself."""

    def __init__(self, tokens: int) -> None:
        self._left = tokens
        self.spent = False

    def within(self, pieces: Iterator[str]) -> Iterator[str]:
        for piece in pieces:
            self._left -= estimate_tokens(piece)
            if self._left < 0:
                self.spent = True
                return
            yield piece


def _refused(by: str, emit: Emit) -> Draft:
    emit("delta", {"text": REFUSAL})
    return Draft((), (), by, refused=True)


def _quoted(found: Extract) -> tuple[list[Said], list[Hit]]:
    """Return an extractive answer as sentences with citations, and the hits that the citations number."""
    passages: list[Hit] = []
    said: list[Said] = []
    for statement in found.statements:
        if statement.hit not in passages:
            passages.append(statement.hit)
        number = passages.index(statement.hit) + 1
        opening = "" if not said else " "
        said.append(Said(f"{opening}{statement.text} [{number}]", "given", ((number, statement.span),)))
    if found.differ:
        said.insert(0, Said(f"{DIFFERENT} ", "differ"))
    return said, passages


def _remaining(said: Sequence[Said], gone: set[int]) -> list[Said]:
    if not gone:
        return list(said)
    kept = [left for each in said if (left := _without(each, gone)) is not None]
    if sum(bool(each.quotes) for each in kept) < 2:
        return [each for each in kept if each.fate != "differ"]
    return kept


def _conflicts(said: Sequence[Said]) -> list[dict[str, Any]]:
    """Return where the documents contradict each other: the citations of each side, and how it is said."""
    if any(each.fate == "differ" for each in said):
        return [{"citations": [n for each in said for n, _ in each.quotes], "text": joined(said)}]
    return [
        {"citations": [n for n, _ in each.quotes], "text": each.text.strip()}
        for each in said
        if each.fate == "conflict"
    ]


def _without(said: Said, gone: set[int]) -> Said | None:
    """Return ``said`` without citations of what is gone; None when nothing else speaks for it."""
    if not said.quotes or not gone & {number for number, _ in said.quotes}:
        return said
    kept = tuple((number, span) for number, span in said.quotes if number not in gone)
    if not kept or said.fate == "conflict":  # a contradiction needs all its sides
        return None
    text = said.text
    for number in gone:
        text = text.replace(f"[{number}]", "")
    return replace(said, text=text, quotes=kept)


def _citation(number: int, hit: Hit, spans: Sequence[Span], standing: Standing | None) -> dict[str, Any]:
    """Return where a statement comes from; each quote is, letter for letter, part of the chunk."""
    facts, payload = hit.found.metadata, hit.found.payload
    quotes = list(dict.fromkeys(hit.found.content[start:end] for start, end in spans))
    return {
        "n": number,
        "doc_id": hit.found.doc_id,
        "chunk_id": hit.found.id,
        "source": facts.get("source"),
        "path": facts.get("path"),
        "title": facts.get("title"),
        "page": facts.get("page"),
        "quote": quotes[0],
        "quotes": quotes,
        "version": payload.get("version"),
        "indexed_at": payload.get("indexed_at"),
        "modified": facts.get("modified"),
        "state": standing.state if standing else None,
        "reindexing": standing.reindexing if standing else False,
    }


def _counted(count: int, what: str, *, now: bool = False) -> str:
    be = ("is", "are") if now else ("was", "were")
    return f"1 {what} {be[0]}" if count == 1 else f"{count} {what}s {be[1]}"
