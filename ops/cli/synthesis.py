"""Questions that a model writes about passages of the index, spread over its documents: a test set from nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ops.cli.client import Api
from ops.cli.errors import CliError, Refused
from ops.cli.judgements import Question
from ops.cli.output import remark

PAGE = 1000
LEAST = 60
"""Characters, white space aside, below which a passage says too little to be asked about."""

LONGEST = 20_000
UNAVAILABLE = 503
PATIENCE = 3
"""Passages that are tried for each question that is wanted."""


@dataclass(slots=True)
class Synthesis:
    """Questions, each with its document and the sentence that answers it, and why other passages gave none."""

    questions: list[Question] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    model: str = ""

    def take(self, document: str, reply: dict[str, Any]) -> None:
        """Add a question about a document, or the reason why there is none."""
        self.model = reply["generated_by"]
        question = reply["question"]
        if question is None:
            self.faults[reply["fault"]] += 1
        elif any(question.casefold() == one.text.casefold() for one in self.questions):
            self.faults["asked already"] += 1
        else:
            key = f"s{len(self.questions) + 1}"
            self.questions.append(Question(key, question, {document: 1.0}, (reply["span"],)))

    @property
    def why(self) -> str:
        """Why passages gave no question, most frequent reason first."""
        return "; ".join(f"{fault}: {count}" for fault, count in self.faults.most_common())

    def as_json(self) -> dict[str, Any]:
        """Return what happened."""
        return {"written": len(self.questions), "faults": dict(self.faults), "generated_by": self.model}


def synthesize(api: Api, wanted: int, *, seed: int, parallel: int) -> Synthesis:
    """Have up to ``wanted`` questions written; fewer when too few passages give one.

    Raises:
        Refused: no chat model is set, or it fails; the text says what to do.
        CliError: there is nothing to ask about.
    """
    made = Synthesis()
    offered = islice(passages(api, seed), PATIENCE * wanted)
    with ThreadPoolExecutor(parallel) as pool:
        try:
            while len(made.questions) < wanted and (batch := list(islice(offered, parallel))):
                replies = pool.map(lambda one: api.post("/v1/questions", _body(*one)), batch)
                for (document, _), reply in zip(batch, replies, strict=True):
                    made.take(f"{document['source']}/{document['path']}", reply)
        except Refused as exc:
            if exc.status != UNAVAILABLE or not made.questions:
                raise
            remark(f"upwell: stopped after {len(made.questions)} questions. {exc}")  # they were paid for: keep them
    del made.questions[wanted:]
    if not made.questions:
        raise CliError(
            f"No question came out of {made.faults.total()} passages ({made.why})."
            if made.faults
            else "No document has a passage that says enough to be asked about. What is indexed: upwell documents list"
        )
    return made


def passages(api: Api, seed: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield (document, chunk), one of every document before the second of any; a ``seed`` gives its order again."""
    ready = api.pages("/v1/documents", "documents", state="ready", limit=PAGE)
    waiting = sorted((document for document in ready if document["chunks"]), key=lambda document: str(document["id"]))
    random.Random(seed).shuffle(waiting)  # noqa: S311 - a sample, no secret
    seen: set[str] = set()
    turn = 0
    while waiting:
        more = []
        for document in waiting:
            chunks = [c for c in api.get(f"/v1/documents/{document['id']}/chunks")["chunks"] if _says_enough(c)]
            random.Random(f"{seed} {document['id']}").shuffle(chunks)  # noqa: S311
            if turn + 1 < len(chunks):
                more.append(document)
            if turn < len(chunks) and (text := " ".join(chunks[turn]["content"].split())) not in seen:
                seen.add(text)  # of copies, one is enough
                yield document, chunks[turn]
        waiting = more
        turn += 1


def _says_enough(chunk: dict[str, Any]) -> bool:
    return len("".join(chunk["content"].split())) >= LEAST


def _body(document: dict[str, Any], chunk: dict[str, Any]) -> dict[str, Any]:
    known = {"title": document.get("title"), "heading": chunk.get("heading")}
    return {"text": chunk["content"][:LONGEST]} | {name: str(value)[:1000] for name, value in known.items() if value}
