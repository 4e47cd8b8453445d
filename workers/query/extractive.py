"""Answers without a model that writes: the sentences that answer, in their document's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from workers.adapters.bm25 import query_vector
from workers.adapters.embeddings import InputRefused
from workers.errors import EmbedderMisconfigured, EmbedderUnavailable
from workers.query.conflicts import contradict
from workers.query.ports import Embedder, SearchIndex
from workers.query.relevance import UNRELATED, Weights, closeness, confidence
from workers.query.search import Hit, SearchResult
from workers.query.sentences import Span, sentences

log = structlog.get_logger()

HITS_READ = 5
SENTENCES_COMPARED = 16
"""Sentences whose meaning is compared: each costs the embedding endpoint, and somebody waits."""

MOST_SENTENCES = 3
ADDS = 0.15
"""Coverage that a further sentence must add to be worth saying."""

_ITEM = re.compile(r"^(?:[-*•‣–·]|\(?\d{1,3}[.)])\s+")
_QUESTION = re.compile(r"[?？؟][\"'»”’)」』]*$")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of a hit, and how sure we are that it answers."""

    hit: Hit
    span: Span
    tokens: frozenset[int]
    passage: float
    sentence: float
    confidence: float

    @property
    def quote(self) -> str:
        """The exact words of the chunk."""
        return self.hit.found.content[self.span[0] : self.span[1]]

    @property
    def text(self) -> str:
        """The words as they are said in an answer: on one line, without the mark of a list."""
        return _ITEM.sub("", " ".join(self.quote.split()))


@dataclass(frozen=True, slots=True)
class Extract:
    """What the documents say to a question: nothing when ``confidence`` is below the threshold."""

    statements: tuple[Statement, ...]
    confidence: float
    differ: bool = False  # the statements contradict each other


def extract(
    question: str, result: SearchResult, *, index: SearchIndex, embedder: Embedder, threshold: float
) -> Extract:
    """Return the one to three statements that answer ``question``; none when nothing does."""
    tokens = query_vector(question).indices
    weights = Weights(index.rarity(tokens)) if result.hits else Weights({})
    candidates = _candidates(result.hits[:HITS_READ], weights)
    compared = _compared(candidates, result, embedder)
    if not compared or compared[0].confidence < threshold:
        return Extract((), compared[0].confidence if compared else 0.0)
    sides = _sides(question, compared, weights, threshold)
    if sides:
        return Extract((compared[0], *sides), compared[0].confidence, differ=True)
    return Extract(tuple(_chosen(compared, weights, threshold)), compared[0].confidence)


def _candidates(hits: Sequence[Hit], weights: Weights) -> list[Statement]:
    """Return the sentences worth a closer look: those with the question's words first, in the order of the hits."""
    found: list[Statement] = []
    for hit in hits:
        heading = str(hit.found.metadata.get("heading") or "")
        passage = weights.coverage(_tokens(f"{heading}\n{hit.found.content}"))
        for span in _answers(hit.found.content, sentences(hit.found.content)):
            tokens = _tokens(hit.found.content[span[0] : span[1]])
            sentence = weights.coverage(tokens)
            sure = confidence(passage, sentence, None)
            found.append(Statement(hit, span, tokens, passage, sentence, sure))
    best = sorted(range(len(found)), key=lambda i: (-found[i].sentence - found[i].passage, i))[:SENTENCES_COMPARED]
    return [found[i] for i in best]


def _answers(text: str, spans: Sequence[Span]) -> list[Span]:
    """A question in a document is answered by what follows it: they are one statement."""
    joined: list[Span] = []
    waiting: Span | None = None
    for start, end in spans:
        piece = text[start:end]
        if _QUESTION.search(piece) or piece.endswith((":", "：")):
            waiting = (waiting[0] if waiting else start, end)
            continue
        joined.append((waiting[0] if waiting else start, end))
        waiting = None
    return joined


def _compared(candidates: list[Statement], result: SearchResult, embedder: Embedder) -> list[Statement]:
    """Return the candidates, surest first, by meaning where the endpoint can tell."""
    if candidates and result.meaning is not None:
        try:
            vectors = embedder.passages([*UNRELATED, *(statement.quote for statement in candidates)])
        except (EmbedderUnavailable, EmbedderMisconfigured, InputRefused) as exc:
            log.info("answer.degraded", reason=str(exc))
        else:
            unrelated, meanings = vectors[: len(UNRELATED)], vectors[len(UNRELATED) :]
            close = [closeness(result.meaning, meaning, unrelated) for meaning in meanings]
            candidates = [
                replace(one, confidence=confidence(one.passage, one.sentence, near))
                for one, near in zip(candidates, close, strict=True)
            ]
    return sorted(candidates, key=lambda one: -one.confidence)  # stable: ties stay in the order of the hits


def _chosen(compared: list[Statement], weights: Weights, threshold: float) -> list[Statement]:
    """Return the best statement, and others that say something about the rest of the question."""
    chosen, said, covered = [compared[0]], {compared[0].text}, compared[0].tokens
    for one in compared[1:]:
        if len(chosen) == MOST_SENTENCES:
            break
        adds = weights.coverage(covered | one.tokens) - weights.coverage(covered)
        if adds >= ADDS and one.confidence >= threshold and one.text not in said:
            chosen.append(one)
            said.add(one.text)
            covered = covered | one.tokens
    return chosen


def _sides(question: str, compared: Sequence[Statement], weights: Weights, threshold: float) -> list[Statement]:
    """Return statements of other documents that answer as well and contradict the best one."""
    best, sides = compared[0], list[Statement]()
    for one in compared[1:]:
        seen = {each.hit.found.doc_id for each in (best, *sides)}
        as_good = one.confidence >= threshold and weights.coverage(one.tokens) >= weights.coverage(best.tokens) - 1e-6
        if as_good and one.hit.found.doc_id not in seen and contradict(question, best.text, one.text):
            sides.append(one)
    return sides[: MOST_SENTENCES - 1]


def _tokens(text: str) -> frozenset[int]:
    return frozenset(query_vector(text).indices)
