"""`upwell evaluate`: how good the search is on questions whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ops.cli.client import Api, find_api
from ops.cli.output import JSON_OPTION, clean, print_json, remark
from ops.cli.search import Mode

if TYPE_CHECKING:
    from ops.cli.judgements import Question

BATCH = 16
LEAST = 30
"""Hits that are asked for at least: several chunks may be of one document."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One question under one mode; None: it could not be measured."""

    key: str
    query: str
    ndcg: float | None
    recall: float | None
    mrr: float | None
    span: float | None
    first: str | None
    took_ms: float


def evaluate(
    questions: Path = typer.Argument(
        ..., metavar="QUERIES", help="A BEIR folder (queries.jsonl, qrels.tsv), or a .jsonl or .csv file of questions."
    ),
    mode: Mode = typer.Option(Mode.HYBRID, help="How to search."),
    versus: Mode | None = typer.Option(None, "--compare", help="Another mode, to compare with query by query."),
    k: int = typer.Option(10, "-k", min=1, max=100, help="Documents that count for nDCG and recall."),
    span_k: int = typer.Option(5, "--span-k", min=1, max=100, help="Chunks that count for span recall."),
    most: int | None = typer.Option(None, "--first", min=1, help="Only the first so many questions."),
    per_query: Path | None = typer.Option(
        None, "--per-query", help="Write each question's figures here, as JSON lines."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure nDCG, recall, reciprocal rank, span recall and latency of the running search.

    A document is named by its path, its file name (with or without ending) or its id.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    from ops.cli.judgements import read_questions

    asked = read_questions(questions)[:most]
    api = find_api()
    runs = {one.value: _run(api, asked, one, k, span_k) for one in dict.fromkeys([mode, versus or mode])}
    report: dict[str, Any] = {
        "questions": len(asked),
        "k": k,
        "span_k": span_k,
        "runs": {name: _summary(rows) for name, rows in runs.items()},
    }
    if versus is not None and versus != mode:
        report["comparison"] = _comparison(runs[mode.value], runs[versus.value])
    if per_query is not None:
        lines = [json.dumps({"mode": name, **asdict(row)}, ensure_ascii=False) for name in runs for row in runs[name]]
        per_query.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if as_json:
        print_json(report)
    else:
        _show(report, mode.value, versus.value if versus else None)


def _run(api: Api, asked: Sequence[Question], mode: Mode, k: int, span_k: int) -> list[Measured]:
    rows: list[Measured] = []
    limit = min(100, max(LEAST, 3 * k, span_k))
    for batch in _slices(asked, BATCH):
        searches = [
            {"query": one.text, "mode": mode.value, "limit": limit, "filters": dict(one.filters or {})} for one in batch
        ]
        answer = api.post("/v1/search/batch", {"searches": searches}, headers={"X-Upwell-Log": "off"})
        for one, result in zip(batch, answer["results"], strict=True):
            if result.get("mode") != mode.value:
                remark(f"upwell: searched {result.get('mode')}, not {mode.value}. {clean(result.get('degraded'))}")
            rows.append(_measured(one, result, k, span_k))
    return rows


def _measured(one: Question, result: dict[str, Any], k: int, span_k: int) -> Measured:
    from ops.cli.judgements import names_of
    from workers.query import evaluation as e

    ranked: list[str] = []
    seen: set[str] = set()
    for hit in result["hits"]:
        if hit["doc_id"] in seen:
            continue
        seen.add(hit["doc_id"])
        names = list(names_of(hit["metadata"], hit["doc_id"]))
        ranked.append(next((name for name in names if name in one.grades), names[1] or names[0]))
    contents = [hit["content"] for hit in result["hits"]]
    span = e.holds_span(contents, one.spans, span_k)
    return Measured(
        key=one.key,
        query=one.text,
        ndcg=e.ndcg(ranked, one.grades, k),
        recall=e.recall(ranked, one.grades, k),
        mrr=e.reciprocal_rank(ranked[:k], one.grades),
        span=None if span is None else float(span),
        first=ranked[0] if ranked else None,
        took_ms=float(result.get("took_ms") or 0.0),
    )


def _summary(rows: Sequence[Measured]) -> dict[str, Any]:
    from workers.query import evaluation as e

    times = [row.took_ms for row in rows]
    return {
        "ndcg": e.mean([row.ndcg for row in rows]),
        "recall": e.mean([row.recall for row in rows]),
        "mrr": e.mean([row.mrr for row in rows]),
        "span_recall": e.mean([row.span for row in rows]),
        "p50_ms": e.percentile(times, 0.5),
        "p95_ms": e.percentile(times, 0.95),
        "p99_ms": e.percentile(times, 0.99),
    }


def _comparison(one: Sequence[Measured], other: Sequence[Measured]) -> dict[str, Any]:
    from workers.query import evaluation as e

    return {
        name: asdict(e.compare([getattr(row, name) for row in one], [getattr(row, name) for row in other]))
        for name in ("ndcg", "recall", "mrr", "span")
        if any(getattr(row, name) is not None for row in one)
    }


def _show(report: dict[str, Any], mode: str, versus: str | None) -> None:
    k, span_k = report["k"], report["span_k"]
    print(f"{report['questions']} questions")
    print(f"{'':<10} nDCG@{k:<4} recall@{k:<3} MRR     span@{span_k:<3} p50 ms  p95 ms")
    for name, run in report["runs"].items():
        shown = [_figure(run[key]) for key in ("ndcg", "recall", "mrr", "span_recall")]
        figures = f"{shown[0]:<9} {shown[1]:<10} {shown[2]:<7} {shown[3]:<8}"
        print(f"{name:<10} {figures} {run['p50_ms']:<7.1f} {run['p95_ms']:.1f}")
    for name, found in report.get("comparison", {}).items():
        better = mode if found["difference"] >= 0 else versus
        print(
            f"{name}: {better} is better by {abs(found['difference']):.4f}"
            f" (95 %: {found['low']:+.4f} to {found['high']:+.4f}; chance makes as much in {found['p']:.1%})"
        )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _slices(items: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
