"""Answers in the documents' own words: when are they refused, and does every citation say what it quotes?

    python -m tests.bench.answers COLLECTION [--documents N] [--questions N] [--about-from N] [--mode M] [--vectors F]

COLLECTION is one of ../shared/data/retrieval with answer spans: covidqa, xquad.  Documents go through the parser,
the chunker, the embedding model and the embedded Qdrant; questions go through search and answering, as in the query
worker.  Every question is asked with its document in the index and without it, in four ways: alone left out (by a
filter, so words and spread of the whole index still know it), half of all left out, six of seven left out, and all
left out (abstracts of cranfield in their place).  `--vectors` keeps vectors in a file for the next run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import numpy as np

from ops.embedded.e5 import E5
from tests.conftest import HOST, ROOT, answers, free_port, module, running
from workers.adapters import qdrant
from workers.adapters.qdrant_search import QdrantSearch
from workers.contract.settings import IndexSettings
from workers.indexing.chunk import ChunkOptions, chunk
from workers.indexing.parse.text import read_text
from workers.indexing.ports import Point
from workers.query.answer import Answering
from workers.query.relevance import UNRELATED
from workers.query.requests import AnswerRequest
from workers.query.sentences import sentences

DATA = ROOT.parent / "shared" / "data" / "retrieval"
THRESHOLD = 0.5
CURVE = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the documents that answer it, and the words that do."""

    key: str
    text: str
    gold: frozenset[str]
    spans: tuple[str, ...]


class Vectors:
    """The bundled model behind a file; stands for the query worker's embedder."""

    def __init__(self, path: Path, mode: str) -> None:
        self.mode = mode
        self._db = sqlite3.connect(path)
        self._db.execute("create table if not exists v(k text primary key, v blob)")
        self._model: E5 | None = None

    def queries(self, texts: Sequence[str]) -> list[Any]:
        return [self._vector(text, is_query=True) for text in texts]

    def query(self, text: str) -> Any:
        return self._vector(text, is_query=True)

    def passages(self, texts: Sequence[str]) -> list[Any]:
        return [self._vector(text, is_query=False) for text in texts]

    def landmarks(self) -> list[Any]:
        return self.passages(UNRELATED)

    def unrelated(self) -> float:
        vectors = np.stack(self.queries(UNRELATED))
        return float((vectors @ vectors.T)[np.triu_indices(len(vectors), 1)].mean())

    def _vector(self, text: str, *, is_query: bool) -> Any:
        key = hashlib.sha256(("q" if is_query else "p").encode() + text.encode("utf-8", "replace")).hexdigest()
        row = self._db.execute("select v from v where k = ?", (key,)).fetchone()
        if row is None:
            if self._model is None:
                self._model = E5()
            [made] = self._model.embed([self._model.tokens(text.replace("\0", " "), is_query=is_query)])
            row = (made.astype("<f4").tobytes(),)
            with self._db:
                self._db.execute("insert or ignore into v values (?, ?)", (key, row[0]))
        return np.frombuffer(row[0], dtype="<f4")


class Indexed:
    """Chunks of documents in a collection of the embedded Qdrant."""

    def __init__(self, url: str, documents: dict[str, str], vectors: Vectors) -> None:
        self.documents = frozenset(documents)
        self.url = url
        self.settings = IndexSettings(qdrant_url=url, collection=f"bench-{uuid4().hex}")
        self.client = qdrant.connect(self.settings)
        qdrant.create_collection(self.client, self.settings.collection, 384, url)
        index = qdrant.QdrantIndex(self.client, self.settings.collection, url)
        for name, text in documents.items():
            index.put([_point(name, each, vectors) for each in chunk(name, read_text(text.encode(), name), OPTIONS)], 1)
        self.search = QdrantSearch(self.settings, timeout=60)

    def content(self, chunk_id: str) -> str:
        """Return the stored text of a chunk."""
        [record] = self.client.retrieve(self.settings.collection, [chunk_id], with_payload=True)
        return str((record.payload or {}).get("content"))


OPTIONS = ChunkOptions()


def key_of(name: str) -> str:
    """Return the id that a document has in the index."""
    return str(uuid5(NAMESPACE_URL, name))


def _point(name: str, made: Any, vectors: Vectors) -> Point:
    key = str(uuid5(NAMESPACE_URL, f"{name}\x1f{made.index}"))
    vector = vectors.passages([made.embedded_text])[0] if vectors.mode == "hybrid" else None
    payload = {
        "content": made.content,
        "metadata": {"source": "bench", "path": name, "heading": made.heading, "page": made.page, "chunk": made.index},
        "doc_id": key_of(name),
        "version": "1",
        "chunk_index": made.index,
        "digest": hashlib.sha256(made.embedded_text.encode()).hexdigest(),
        "tenant": "default",
        "embedded": vector is not None,
    }
    return Point(key, made.embedded_text, payload, vector)


@dataclass(slots=True)
class Asked:
    """What came of a set of questions."""

    confidences: list[float]
    refused: int = 0
    citations: int = 0
    quoted: int = 0  # citations whose chunk has the quoted words
    answered: int = 0
    right: int = 0  # answers that have the words of a right one
    placed: int = 0  # answers that quote a sentence of a right one, or the one before or after it
    differing: int = 0  # answers that say that documents contradict each other

    def add(self, answer: dict[str, Any], index: Indexed, question: Question) -> None:
        self.confidences.append(float(answer.get("confidence", 0.0)))
        self.refused += bool(answer["refused"])
        if answer["refused"]:
            return
        self.answered += 1
        self.right += _has(answer["answer"], question.spans)
        self.differing += bool(answer["conflicts"])
        contents = [index.content(citation["chunk_id"]) for citation in answer["citations"]]
        self.placed += any(
            _touches(content, quote, question.spans)
            for citation, content in zip(answer["citations"], contents, strict=True)
            for quote in citation["quotes"]
        )
        for citation, content in zip(answer["citations"], contents, strict=True):
            self.citations += len(citation["quotes"])
            self.quoted += sum(quote in content for quote in citation["quotes"])


def main(argv: list[str]) -> int:
    """Print a table for each way of leaving documents out."""
    parser = argparse.ArgumentParser(prog="answers")
    parser.add_argument("collection")
    parser.add_argument("--documents", type=int, default=98)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--about-from", type=int, default=0, help="ask about documents from this one on; the weights saw the first 30"
    )
    parser.add_argument("--mode", choices=("hybrid", "lexical"), default="hybrid", help="lexical: without any vector")
    parser.add_argument("--vectors", type=Path)
    args = parser.parse_args(argv)
    documents, questions = _read(args.collection, args.documents)
    about = set(list(documents)[args.about_from :])
    questions = [question for question in questions if question.gold <= about]
    random.Random(args.seed).shuffle(questions)
    questions = questions[: args.questions]
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch, _qdrant(Path(scratch)) as url:
        vectors = Vectors(args.vectors or Path(scratch) / "vectors.db", mode=args.mode)
        others = {f"cranfield-{row['_id']}": row["text"] for row in rows("cranfield", "corpus.jsonl")[:60]}
        _run(url, documents, questions, others, vectors)
    return 0


def _run(
    url: str, documents: dict[str, str], questions: list[Question], others: dict[str, str], vectors: Vectors
) -> None:
    whole = Indexed(url, documents, vectors)
    inside, alone = Asked([]), Asked([])
    started = time.monotonic()
    for question in questions:
        inside.add(_ask(whole, question, vectors), whole, question)
        filters = {"not": {"doc_id": [key_of(name) for name in question.gold]}}
        alone.add(_ask(whole, question, vectors, filters), whole, question)
    print(f"{len(documents)} documents, {len(questions)} questions, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{'left out':28} {'refused with it':>16} {'refused without':>16}")
    _tell("alone (by a filter)", inside, alone)
    citations, quoted, answered = inside.citations, inside.quoted, inside.answered
    right, placed = inside.right, inside.placed
    for share, name in ((2, "half"), (7, "six of seven")):
        kept, left = Asked([]), Asked([])
        for part in range(share):
            index = Indexed(url, {key: documents[key] for key in sorted(documents)[part::share]}, vectors)
            for number, question in enumerate(questions):
                if question.gold & index.documents:
                    kept.add(_ask(index, question, vectors), index, question)
                elif (number + part) % (share - 1) == 0:  # each question once without its document
                    left.add(_ask(index, question, vectors), index, question)
        _tell(name, kept, left)
        citations, quoted, answered = citations + kept.citations, quoted + kept.quoted, answered + kept.answered
    foreign, nothing = Indexed(url, others, vectors), Asked([])
    for question in questions:
        nothing.add(_ask(foreign, question, vectors), foreign, question)
    _tell("all (cranfield instead)", inside, nothing)
    print(f"answers with most words of a right one: {right} of {inside.answered} (whole collection)")
    print(f"answers that quote a right one or the sentence beside it: {placed} of {inside.answered}")
    print(f"answers that say that documents differ: {inside.differing} of {inside.answered}")
    print(f"quotes that their chunk has: {quoted} of {citations}, in {answered} answers")


def _tell(name: str, inside: Asked, outside: Asked) -> None:
    asked_in, asked_out = len(inside.confidences), len(outside.confidences)
    print(f"{name:28} {inside.refused / asked_in:16.1%} {outside.refused / asked_out:16.1%}", end="   ")
    curve = [
        f"{share:.0%}/{np.mean(np.array(outside.confidences) < np.quantile(inside.confidences, share)):.0%}"
        for share in CURVE
    ]
    print(f"trade-off {' '.join(curve)}", flush=True)


def _ask(index: Indexed, question: Question, vectors: Vectors, filters: dict[str, Any] | None = None) -> dict[str, Any]:
    answering = Answering(index.search, vectors, None, None, 6000, 1500, THRESHOLD)
    return answering.answer(AnswerRequest(query=question.text, filters=filters or {}, mode=vectors.mode))


def _has(answer: str, spans: Sequence[str]) -> bool:
    """Tell whether the answer has most of a right answer's words, wherever they stand."""
    said = set(answer.casefold().split())
    return any(len(words & said) >= 0.5 * len(words) for span in spans if (words := set(span.casefold().split())))


def _touches(content: str, quote: str, spans: Sequence[str]) -> bool:
    """Tell whether a quote, or the sentence before or after it, has a right answer, or is a part of one."""
    places = sentences(content)
    start = content.find(quote)
    near = [at for at, (first, last) in enumerate(places) if first < start + len(quote) and last > start]
    if not near:
        return False
    around = content[places[max(0, near[0] - 1)][0] : places[min(len(places) - 1, near[-1] + 1)][1]]
    said, plain = _plain(quote), _plain(around)
    return any(right in plain or said in right for right in map(_plain, spans) if right)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _read(collection: str, most: int) -> tuple[dict[str, str], list[Question]]:
    wanted = [row for row in rows(collection, "corpus.jsonl") if collection != "xquad" or row["_id"].startswith("en-")]
    documents = {row["_id"]: row["text"] for row in wanted[:most]}
    return documents, questions_of(collection, documents)


def questions_of(collection: str, documents: Mapping[str, str]) -> list[Question]:
    """Return the questions that these documents answer."""
    relevant: dict[str, set[str]] = {}
    for line in (DATA / collection / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            relevant.setdefault(query, set()).add(document)
    return [
        Question(row["_id"], row["text"], frozenset(gold), tuple(a["text"] for a in row["metadata"].get("answers", [])))
        for row in rows(collection, "queries.jsonl")
        if (gold := relevant.get(row["_id"], set())) and gold <= documents.keys()
    ]


def rows(collection: str, name: str) -> list[dict[str, Any]]:
    """Return the lines of one of a collection's files."""
    return [json.loads(line) for line in (DATA / collection / name).read_text().splitlines()]


@contextmanager
def _qdrant(directory: Path) -> Iterator[str]:
    url = f"http://{HOST}:{(port := free_port())}"
    command = module("ops.embedded.qdrant", port, "--path", str(directory / "qdrant"))
    with running(command, lambda: answers(url + "/readyz")):
        yield url
