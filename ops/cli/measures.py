"""Asks a running Upwell every question of a test set, and measures hits and answers one by one."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ops.cli.client import Api
from ops.cli.judgements import Question, names_of
from ops.cli.output import clean, remark
from workers.query import evaluation as e
from workers.query.upheld import upheld

BATCH = 16
LEAST = 30
"""Hits that are asked for at least: several chunks may be of one document."""

UNLOGGED = {"X-Upwell-Log": "off"}


@dataclass(frozen=True, slots=True)
class System:
    """What is measured: a running Upwell, searched in one mode."""

    name: str
    api: Api
    mode: str


@dataclass(frozen=True, slots=True)
class Measured:
    """The hits of one question; None: it could not be measured."""

    key: str
    query: str
    ndcg: float | None
    recall: float | None
    mrr: float | None
    span: float | None
    first: str | None
    took_ms: float


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one question; a figure is None where the question has none.

    answered, right, holds_answer: of questions that the documents answer, was it answered, from a right document,
    with a known answer in it.  refused_rightly: of questions that they do not answer.  cites_right: of given answers.
    supported: share of the sentences that their quotes hold.
    """

    key: str
    query: str
    answer: str
    by: str
    refused: bool
    grounded: bool
    answered: float | None
    refused_rightly: float | None
    cites_right: float | None
    right: float | None
    holds_answer: float | None
    supported: float | None
    sentences: int
    sentences_supported: int
    left_out: int
    took_ms: float


def search_all(system: System, asked: Sequence[Question], k: int, span_k: int) -> list[Measured]:
    """Search every question and measure its hits."""
    rows: list[Measured] = []
    otherwise: Counter[str] = Counter()
    limit = min(100, max(LEAST, 3 * k, span_k))
    for batch in _slices(asked, BATCH):
        searches = [
            {"query": one.text, "mode": system.mode, "limit": limit, "filters": dict(one.filters or {})}
            for one in batch
        ]
        answer = system.api.post("/v1/search/batch", {"searches": searches}, headers=UNLOGGED)
        for one, result in zip(batch, answer["results"], strict=True):
            if result.get("mode") != system.mode:
                otherwise[f"{result.get('mode')}, not {system.mode}. {clean(result.get('degraded'))}"] += 1
            rows.append(_measured(one, result, k, span_k))
    for how, count in otherwise.items():
        remark(f"upwell: {count} of {len(asked)} questions were searched {how}")
    return rows


def answer_all(system: System, asked: Sequence[Question], parallel: int) -> list[Answered]:
    """Ask for the answer to every question, ``parallel`` at a time, and measure it."""

    def ask(one: Question) -> Answered:
        body = {"query": one.text, "mode": system.mode, "filters": dict(one.filters or {})}
        return _answered(one, system.api.post("/v1/answer", body, headers=UNLOGGED))

    with ThreadPoolExecutor(parallel) as pool:
        try:
            return list(_progress(pool.map(ask, asked), len(asked), f"answers, {system.name}"))
        finally:
            pool.shutdown(cancel_futures=True)


def _measured(one: Question, result: dict[str, Any], k: int, span_k: int) -> Measured:
    ranked: list[str] = []
    seen: set[str] = set()
    for hit in result["hits"]:
        if hit["doc_id"] in seen:
            continue
        seen.add(hit["doc_id"])
        names = list(names_of(hit["metadata"], hit["doc_id"]))
        # Two files of one name are not the judged document twice: the better one counts.
        judged = next((name for name in names if name in one.grades and name not in ranked), None)
        ranked.append(judged or names[0])
    contents = [hit["content"] for hit in result["hits"]]
    span = e.holds_span(contents, one.spans, span_k)
    return Measured(
        key=one.key,
        query=one.text,
        ndcg=e.ndcg(ranked, one.grades, k),
        recall=e.recall(ranked, one.grades, k),
        mrr=e.reciprocal_rank(ranked[:k], one.grades),
        span=None if span is None else float(span),
        first=_first(result["hits"]),
        took_ms=float(result.get("took_ms") or 0.0),
    )


def _first(hits: Sequence[dict[str, Any]]) -> str | None:
    return str(hits[0]["metadata"].get("path") or hits[0]["doc_id"]) if hits else None


def _answered(one: Question, body: dict[str, Any]) -> Answered:
    refused = bool(body["refused"])
    citations = body.get("citations") or []
    found = upheld(body["answer"], citations)
    relevant = {name for name, grade in one.grades.items() if grade > 0}
    cites = float(any(relevant.intersection(names_of(each, each["doc_id"])) for each in citations))
    holds = e.holds_span([body["answer"]], one.spans, 1)
    return Answered(
        key=one.key,
        query=one.text,
        answer=body["answer"],
        by=str(body.get("generated_by") or ""),
        refused=refused,
        grounded=bool(body.get("grounded")),
        answered=float(not refused) if one.answerable else None,
        refused_rightly=float(refused) if one.answerable is False else None,
        cites_right=cites if relevant and not refused else None,
        right=float(bool(cites) and not refused) if relevant else None,
        holds_answer=None if holds is None else float(holds and not refused),
        supported=None if refused or not found.sentences else found.supported / found.sentences,
        sentences=0 if refused else found.sentences,
        sentences_supported=0 if refused else found.supported,
        left_out=int(body.get("removed") or 0),
        took_ms=float(body.get("took_ms") or 0.0),
    )


def _slices(items: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _progress(rows: Iterable[Answered], total: int, what: str) -> Iterable[Answered]:
    """A model may write for seconds: on a terminal, show how far it is."""
    if not sys.stderr.isatty():
        return rows
    from rich.console import Console
    from rich.progress import track

    return track(rows, what, total, console=Console(stderr=True), transient=True)
