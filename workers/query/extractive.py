"""Answers without a model that writes: the sentences that answer, in their document's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from workers.adapters.bm25 import document_vector
from workers.adapters.embeddings import InputRefused
from workers.errors import EmbedderMisconfigured, EmbedderUnavailable
from workers.indexing.chunk import embedded_text
from workers.query.conflicts import contradict, narrows
from workers.query.ports import Embedder, SearchIndex
from workers.query.relevance import Weights, closeness, fits
from workers.query.search import Hit, SearchResult
from workers.query.sentences import Span, sentences
from workers.query.signs import place_of, signs, stored
from workers.query.values import Found
from workers.query.words import Terms

log = structlog.get_logger()

HITS_READ = 5
SENTENCES_COMPARED = 12
"""Sentences whose meaning is compared: each costs the embedding endpoint, and somebody waits."""

MOST_SENTENCES = 3
ADDS = 0.15
"""Coverage that a further sentence must add to be worth saying."""

FITTING = 0.1
"""Fit from which a further sentence is worth saying: one in ten of them has the answer."""

ALIKE = 0.05
"""Fits nearer than this to the best are not told apart: under "How to stop" the first sentence says how to stop."""

_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|ignoriere?|vergiss|missachte|ignorez|oubliez?|ignora|olvida)\b[^.!?]{0,60}"
    r"\b(?:instructions?|prompts?|anweisungen|anweisung|vorgaben|consignes|instrucciones)\b"
    r"|(?:忽略|无视)[^。！？]{0,20}(?:指令|指示)",
    re.IGNORECASE,
)
"""A sentence for the model that reads it, and not for people.  It is near to each question that it names, and would be
quoted before the sentence that answers.  No guard, which there cannot be: nothing here obeys it (ADR 0013)."""

_FIGURES = re.compile(r"\d+")
_ITEM = re.compile(r"^(?:[-*•‣–·]|\(?\d{1,3}[.)])\s+")
_REFERENCE = re.compile(r"\[(\d{1,4})\]")
_QUESTION = re.compile(r"[?？؟][\"'»”’)」』]*$")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of a hit, read under its heading; ``fit``: how well it answers, beside the other sentences."""

    hit: Hit
    span: Span
    tokens: frozenset[int]
    passage: float
    sentence: float
    fit: float

    @property
    def quote(self) -> str:
        """The exact words of the chunk."""
        return self.hit.found.content[self.span[0] : self.span[1]]

    @property
    def read(self) -> str:
        """What a reader has in mind: "List them in a file." says how to leave files out, for that is its heading."""
        return embedded_text(self.hit.found.metadata.get("heading"), self.quote)

    @property
    def text(self) -> str:
        """The words as they are said in an answer: on one line, without the mark of a list; "[1]" is ours."""
        return _REFERENCE.sub(r"(\1)", _ITEM.sub("", " ".join(self.quote.split())))


@dataclass(frozen=True, slots=True)
class Extract:
    """What the documents say to a question: nothing when ``confidence`` is below the threshold."""

    statements: tuple[Statement, ...]
    confidence: float
    differ: bool = False  # the statements contradict each other


def extract(
    question: str, result: SearchResult, *, index: SearchIndex, embedder: Embedder, threshold: float
) -> Extract:
    """Return the one to three statements that answer ``question``; none when nothing does.

    Whether it is answered is decided by the passages, before any sentence is sent to the embedding endpoint.
    """
    terms = Terms(question, index.languages())
    weights = Weights(terms.forms, index.rarity(sorted(terms.ids)), index.background().points)
    read = candidates(result.hits[:HITS_READ], weights, terms)
    if not read:
        return Extract((), 0.0)
    best = max(one.sentence for one in read)
    confidence = signs(terms, result, weights, best, embedder).confidence
    if confidence < threshold:
        beginning = _beginning(question, result.hits, terms)
        return Extract(tuple(beginning), 1.0 if beginning else confidence)
    compared = _compared(read, result, embedder)
    if sides := _others(compared, weights, partial(_contradicts, question, weights)):
        return Extract((compared[0], *sides), confidence, differ=True)
    if wider := _others(compared, weights, lambda one, other: narrows(question, other.text, one.text)):
        return Extract((wider[0], compared[0]), confidence)
    if parts := _others(compared, weights, lambda one, other: narrows(question, one.text, other.text)):
        return Extract((compared[0], *parts), confidence)
    return Extract(tuple(_chosen(compared, weights)), confidence)


def _beginning(question: str, hits: Sequence[Hit], terms: Terms) -> list[Statement]:
    """Return how a file begins, where the question names it ("What is in house.md?") and asks for nothing else."""

    def is_meant(path: str) -> bool:
        return path.rpartition("/")[2].casefold() in question.casefold() and terms.only_name(path)

    meant = [hit for hit in hits if hit.found.path and is_meant(hit.found.path)]
    first = min(meant, key=lambda hit: hit.found.chunk_index, default=None)
    if first is None:
        return []
    spans = _answers(first.found.content, sentences(first.found.content))[:MOST_SENTENCES]
    return [Statement(first, span, frozenset(), 0.0, 0.0, 0.0) for span in spans]


def candidates(hits: Sequence[Hit], weights: Weights, terms: Terms) -> list[Statement]:
    """Return the sentences worth a closer look: those with the question's words first, in the order of the hits."""
    found: list[Statement] = []
    for hit in hits:
        place = place_of(terms, hit.found)
        passage = weights.coverage(stored(hit.found).keys() | terms.kin(hit.found.embedded_text), place)
        heading = frozenset(document_vector(str(hit.found.metadata.get("heading") or "")).indices)
        for span in _answers(hit.found.content, sentences(hit.found.content)):
            tokens = heading.union(document_vector(hit.found.content[span[0] : span[1]]).indices)
            sentence = weights.coverage(tokens | terms.kin(hit.found.content[span[0] : span[1]]), place)
            found.append(Statement(hit, span, tokens, passage, sentence, fits(passage, sentence, None)))
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
    """Return the candidates, best first, by meaning where the endpoint can tell; their own order where it cannot."""
    if len(candidates) > 1 and result.meaning is not None:
        try:
            unrelated = embedder.landmarks()
            meanings = embedder.passages([statement.read for statement in candidates])
        except (EmbedderUnavailable, EmbedderMisconfigured, InputRefused) as exc:
            log.info("answer.degraded", reason=str(exc))
        else:
            close = [closeness(result.meaning, meaning, unrelated) for meaning in meanings]
            candidates = [
                replace(one, fit=fits(one.passage, one.sentence, near))
                for one, near in zip(candidates, close, strict=True)
            ]
    candidates = _for_people(candidates)
    least = max(one.fit for one in candidates) - ALIKE
    others = sorted((one for one in candidates if one.fit < least), key=lambda one: -one.fit)
    return [*(one for one in candidates if one.fit >= least), *others]


def _for_people(candidates: list[Statement]) -> list[Statement]:
    """Put what is said to a model behind the rest, where something else has as much of the question."""
    orders = [one for one in candidates if _ORDERS.search(one.quote)]
    most = max((one.sentence for one in candidates if one not in orders), default=0.0)
    return [replace(one, fit=0.0) if one in orders and one.sentence <= most else one for one in candidates]


def _chosen(compared: list[Statement], weights: Weights) -> list[Statement]:
    """Return the best statement, and others that say something about the rest of the question."""
    chosen, said, covered = [compared[0]], {compared[0].text}, compared[0].tokens
    for one in compared[1:]:
        if len(chosen) == MOST_SENTENCES:
            break
        adds = weights.coverage(covered | one.tokens) - weights.coverage(covered)
        if adds >= ADDS and one.fit >= FITTING and one.text not in said:
            chosen.append(one)
            said.add(one.text)
            covered = covered | one.tokens
    return chosen


def _others(
    compared: Sequence[Statement], weights: Weights, related: Callable[[Statement, Statement], bool]
) -> list[Statement]:
    """Return statements of other documents that answer as well as the best one, and are related to it so."""

    def said(one: Statement) -> float:
        """Without the heading: what two sentences say differs, whatever each stands under."""
        return weights.coverage(document_vector(one.quote).indices)

    best, others = compared[0], list[Statement]()
    for one in compared[1:]:
        seen = {each.hit.found.doc_id for each in (best, *others)}
        as_good = said(one) >= said(best) - 1e-6
        if as_good and one.hit.found.doc_id not in seen and related(best, one):
            others.append(one)
    return others[: MOST_SENTENCES - 1]


def _contradicts(question: str, weights: Weights, one: Statement, other: Statement) -> bool:
    versions = _versions(one.hit.found, other.hit.found, weights)
    return contradict(question, one.text, other.text, versions=versions)


def _versions(one: Found, other: Found, weights: Weights) -> bool:
    """Tell whether two chunks are versions of one text: of documents with one name, and of much the same words.

    Names are compared without figures: contract-v1.docx and contract-v2.docx.
    """
    titles = [str(each.metadata.get("title") or "").casefold() for each in (one, other)]
    names = [_FIGURES.sub("", each.path.rpartition("/")[2]).casefold() for each in (one, other)]
    called_alike = (titles[0] and titles[0] == titles[1]) or names[0] == names[1]
    return bool(called_alike) and weights.twins(stored(one), stored(other))
