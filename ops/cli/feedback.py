"""What people thought of hits and answers (`POST /v1/feedback`), made into questions with judged documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ops.cli.client import Api
from ops.cli.errors import Refused
from ops.cli.judgements import Question

PAGE = 1000
Asked = tuple[str, str]
"""A query's words, and its filters as JSON: the same words with other filters are another question."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """The questions, how many hits and answers were liked or not, and hits whose document is no longer there."""

    questions: tuple[Question, ...]
    hits_up: int
    hits_down: int
    answers_up: int
    answers_down: int
    gone: int

    def as_json(self) -> dict[str, Any]:
        """Return the counts, and the share of judged answers that are good (None: none was judged)."""
        answers = self.answers_up + self.answers_down
        return {
            "hits": {"up": self.hits_up, "down": self.hits_down, "gone": self.gone},
            "answers": {
                "up": self.answers_up,
                "down": self.answers_down,
                "share": self.answers_up / answers if answers else None,
            },
        }


def read_feedback(api: Api) -> Feedback:
    """Return what people judged, as far as the documents are still there."""
    names: dict[str, str | None] = {}

    def name(document: str) -> str | None:
        if document not in names:
            names[document] = _name(api, document)
        return names[document]

    return collected(api.pages("/v1/feedback", "feedback", limit=PAGE), name)


def collected(judgements: Iterable[Mapping[str, Any]], name: Callable[[str], str | None]) -> Feedback:
    """Add judgements up.  Pure.

    Of several judgements of one thing the last counts.  A document is relevant when one of its chunks is, and judged
    not relevant when only others were.  ``name`` says what a document is called now; None: it is gone.
    """
    hits: dict[tuple[Asked, str, str], bool] = {}
    answers: dict[tuple[Asked, str], bool] = {}
    for each in judgements:
        asked = " ".join(each["query"].split()), json.dumps(each.get("filters") or {}, sort_keys=True)
        good = each["vote"] == "up"
        if each["kind"] == "answer":
            answers[asked, each.get("answer") or ""] = good
        elif each.get("doc_id"):
            hits[asked, each["doc_id"], each.get("chunk_id") or ""] = good
    grades: dict[Asked, dict[str, float]] = {}
    gone = 0
    for (asked, document, _), good in hits.items():
        known = name(document)
        if known is None:
            gone += 1
            continue
        judged = grades.setdefault(asked, {})
        judged[known] = max(judged.get(known, 0.0), float(good))
    questions = [
        Question(f"f{number}", query, found, filters=json.loads(filters) or None)
        for number, ((query, filters), found) in enumerate(grades.items(), 1)
    ]
    return Feedback(
        tuple(questions),
        hits_up=sum(hits.values()),
        hits_down=len(hits) - sum(hits.values()),
        answers_up=sum(answers.values()),
        answers_down=len(answers) - sum(answers.values()),
        gone=gone,
    )


def _name(api: Api, document: str) -> str | None:
    """Return SOURCE/PATH, which outlives a rebuilt index; None: there is no such document any more."""
    try:
        found = api.get(f"/v1/documents/{document}")
    except Refused as exc:
        if exc.status == 404:
            return None
        raise
    return None if found["state"] == "deleted" else f"{found['source']}/{found['path']}"
