"""Adds up what was measured, compares two systems question by question, and shows both as one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ops.cli.measures import Answered, Measured
from workers.query import evaluation as e

SEARCH = ("ndcg", "recall", "mrr", "span")
ANSWER = ("answered", "right", "holds_answer", "refused_rightly", "supported")
"""What two systems are compared by: more is better for each of them."""


def of_searches(rows: Sequence[Measured]) -> dict[str, Any]:
    """Return the means and the latency of searches."""
    return {
        "ndcg": e.mean([row.ndcg for row in rows]),
        "recall": e.mean([row.recall for row in rows]),
        "mrr": e.mean([row.mrr for row in rows]),
        "span_recall": e.mean([row.span for row in rows]),
        **_latency([row.took_ms for row in rows]),
    }


def of_answers(rows: Sequence[Answered]) -> dict[str, Any]:
    """Return the rates and the latency of answers; a rate without a question to measure it on is None."""
    answered = e.mean([row.answered for row in rows])
    given = [row for row in rows if not row.refused]
    sentences = sum(row.sentences for row in rows)
    written = sentences + sum(row.left_out for row in rows)
    return {
        "answerable": sum(row.answered is not None for row in rows),
        "unanswerable": sum(row.refused_rightly is not None for row in rows),
        "answered": answered,
        "refused_answerable": None if answered is None else 1 - answered,
        "refused_unanswerable": e.mean([row.refused_rightly for row in rows]),
        "cites_right": e.mean([row.cites_right for row in rows]),
        "right": e.mean([row.right for row in rows]),
        "holds_answer": e.mean([row.holds_answer for row in rows]),
        "sentences": sentences,
        "sentences_supported": sum(row.sentences_supported for row in rows) / sentences if sentences else None,
        "sentences_left_out": sum(row.left_out for row in rows) / written if written else None,
        "grounded": e.mean([float(row.grounded) for row in given]),
        "generated_by": dict(Counter(row.by for row in given).most_common()),
        **_latency([row.took_ms for row in rows]),
    }


def compared(one: Sequence[Any], other: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the paired comparison of each figure that both have for some question."""
    columns = {name: ([getattr(row, name) for row in one], [getattr(row, name) for row in other]) for name in names}
    return {
        name: asdict(e.compare(mine, yours))
        for name, (mine, yours) in columns.items()
        if any(a is not None and b is not None for a, b in zip(mine, yours, strict=True))
    }


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the report as lines: a figure a line, a system a column, then how they compare."""
    names, k, span_k = list(report["runs"]), report["k"], report["span_k"]
    against = report.get("comparison", {})
    wide = max(12, *(len(name) + 2 for name in names))
    head = f"{'':<36}" + "".join(f"{name:>{wide}}" for name in names)
    lines = [head + ("   difference (95 % interval)        p  better/worse/equal" if against else "")]

    def say(label: str, values: Sequence[Any], shown: str, compared_by: str = "") -> None:
        if all(value is None for value in values):
            return
        line = f"{label:<36}" + "".join(f"{'–' if value is None else format(value, shown):>{wide}}" for value in values)
        found = against.get(compared_by)
        lines.append(line + (_told(found) if found else ""))

    runs = list(report["runs"].values())
    for label, name, by in (
        (f"nDCG@{k}", "ndcg", "ndcg"), (f"recall@{k}", "recall", "recall"), ("MRR", "mrr", "mrr"),
        (f"span@{span_k}", "span_recall", "span"),
    ):  # fmt: skip
        say(label, [run[name] for run in runs], ".4f", by)
    for name in ("p50_ms", "p95_ms", "p99_ms"):
        say(f"search {name[:3]}, ms", [run[name] for run in runs], ".1f")
    answers = [run["answers"] for run in runs if "answers" in run]
    if not answers:
        return lines
    for label, name, by in (
        (f"answered, of {answers[0]['answerable']} answerable", "answered", "answered"),
        ("  from a right document", "right", "right"),
        ("  with a known answer in it", "holds_answer", "holds_answer"),
        (f"refused, of {answers[0]['unanswerable']} unanswerable", "refused_unanswerable", "refused_rightly"),
        ("given answers that cite a right one", "cites_right", ""),
        ("sentences that their quotes hold", "sentences_supported", "supported"),
        ("sentences left out by the check", "sentences_left_out", ""),
    ):
        say(label, [each[name] for each in answers], ".1%", by)
    for name in ("p50_ms", "p95_ms", "p99_ms"):
        say(f"answer {name[:3]}, ms", [each[name] for each in answers], ".0f")
    return lines


def _told(found: Mapping[str, Any]) -> str:
    interval = f"({found['low']:+.4f} to {found['high']:+.4f})"
    counts = f"{found['better']}/{found['worse']}/{found['equal']}"
    return f"   {found['difference']:+.4f} {interval:<21} {found['p']:>7.4f}  {counts}"


def _latency(times: Sequence[float]) -> dict[str, float]:
    return {f"p{share}_ms": e.percentile(times, share / 100) for share in (50, 95, 99)}
