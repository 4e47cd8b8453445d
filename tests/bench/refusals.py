"""Whether a question is answered at all: measures the signs of `workers.query.relevance`, and fits their weights.

    python -m tests.bench refusals COLLECTION… [--from N] [--to N] [--questions N] [--left-out WAY…] [--fit] …

COLLECTION is covidqa or xquad:LANGUAGE of ../shared/data/retrieval.  Questions go through search and
the signs as in the query worker, over an index in memory, once with their document in it and once without, in three
ways: it alone is left out; half of all documents are, one half or the other; 70 % are, the same for many questions.
A fourth way, `only`: nothing but its document is there, or nothing but the next one (in XQuAD, of the same article).
What is left out is gone from rarity and sample too.
`--from` and `--to` bound the documents asked about, in the order of the file.  `--fit` prints weights for all that was
asked (logistic regression, ridge of 3 on standardized signs).  `--vectors` keeps vectors in a file for the next run.
`--weak` asks for hits instead of answers, and prints how often it is said that nothing is about the question.
`--named WAY` gives each document a name of words that occur in others, and has each question name its document.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from tests.bench.answers import Question, Vectors, questions_of, rows
from tests.bench.memory import Memory
from tests.bench.names import made_names, words_of
from workers.query.evidence import is_weak
from workers.query.extractive import HITS_READ, candidates
from workers.query.relevance import Signs, Weights
from workers.query.requests import AnswerRequest, SearchRequest
from workers.query.search import search_many
from workers.query.signs import signs
from workers.query.words import Terms

LANGUAGES = {"en": "english", "de": "german", "es": "spanish", "ar": "arabic"}
WAYS = ("alone", "half", "most", "only")
RIDGE = 3.0
ROUNDS = 40

NAMED: Mapping[str, Callable[[str, str], str]] = {
    "unnamed": lambda question, path: question,
    "in": lambda question, path: f"In {words_of(_stem(path))}, {question}",
    "say": lambda question, path: f"What does {_stem(path)} say: {question}",
    "after": lambda question, path: f"{question} ({path.rpartition('/')[2]})",
}
"""How a question names the file that it is about."""

Left = Callable[[Question], frozenset[str]]


@dataclass(frozen=True, slots=True)
class Row:
    """The signs of one question in one index; ``known``: its document is there."""

    known: bool
    signs: Signs


def main(argv: list[str]) -> int:
    """Print a line for each collection and way."""
    parser = argparse.ArgumentParser(prog="refusals")
    parser.add_argument("collections", nargs="+")
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--to", dest="last", type=int)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--left-out", nargs="+", choices=WAYS, default=WAYS[:3])
    parser.add_argument("--mode", choices=("hybrid", "lexical"), default="hybrid")
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--named", choices=NAMED)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--weak", action="store_true")
    args = parser.parse_args(argv)
    gathered: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch:
        vectors = Vectors(args.vectors or Path(scratch) / "vectors.db", mode=args.mode)
        heads = ("asked", 6), ("refused with", 13), ("without", 8), ("at 10 %", 8), ("area", 6)
        print(f"{'collection':12} {'left out':9}", *(f"{head:>{width}}" for head, width in heads))
        for name in args.collections:
            documents, questions = read(name)
            if args.named:
                documents, questions = _named(documents, questions, NAMED[args.named])
            about = set(list(documents)[args.first : args.last])
            questions = [question for question in questions if question.gold <= about]
            random.Random(1).shuffle(questions)
            index = Memory(documents, vectors, tuple(LANGUAGES[lang] for lang in [name.partition(":")[2] or "en"]))
            for way in args.left_out:
                with_it, without = ways(sorted(documents))[way]
                if args.weak:
                    shares = [weak(index, vectors, questions[: args.questions], each) for each in (with_it, without)]
                    print(f"{name:12} {way:9} weak with {shares[0]:.1%}, without {shares[1]:.1%}", flush=True)
                    continue
                inside = ask(index, vectors, questions[: args.questions], with_it)
                outside = ask(index, vectors, questions[: args.questions], without)
                _tell(name, way, inside, outside)
                gathered += [*inside, *outside]
    if args.fit:
        _fit(gathered)
    return 0


def _named(
    documents: Mapping[str, str], questions: list[Question], ask_in: Callable[[str, str], str]
) -> tuple[Mapping[str, str], list[Question]]:
    """Return both under names that say nothing about the texts; a question of several documents names the first."""
    paths = made_names(documents, random.Random(5))
    renamed = {paths[name]: text for name, text in documents.items()}
    return renamed, [
        replace(one, text=ask_in(one.text, paths[min(one.gold)]), gold=frozenset(paths[name] for name in one.gold))
        for one in questions
    ]


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def ways(names: list[str]) -> dict[str, tuple[Left, Left]]:
    """Return which documents are left out so that a question's is in the index, and so that it is not."""

    def some(seed: int, share: float) -> frozenset[str]:
        mixed = list(names)
        random.Random(seed).shuffle(mixed)
        return frozenset(mixed[: int(len(mixed) * share)])

    one = some(7, 0.5)
    halves = (one, frozenset(names) - one)
    most = [some(seed, 0.7) for seed in range(6)]
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    return {
        "alone": (lambda _: frozenset(), lambda question: question.gold),
        "half": (
            lambda question: next(half for half in halves if not question.gold & half),
            lambda question: next(half for half in halves if question.gold & half),
        ),
        "most": (
            lambda question: next((each for each in most if not question.gold & each), frozenset[str]()),
            lambda question: next((each for each in most if question.gold <= each), question.gold),
        ),
        "only": (
            lambda question: frozenset(names) - question.gold,
            lambda question: frozenset(names) - {following[min(question.gold)]},
        ),
    }


def ask(index: Memory, vectors: Vectors, questions: list[Question], left_out: Left) -> list[Row]:
    found: list[Row] = []
    for question in questions:
        gone = left_out(question)
        index.without(gone)
        request = AnswerRequest(query=question.text[:4000], mode=vectors.mode)
        [result] = search_many([request], index=index, embedder=vectors)
        terms = Terms(question.text, index.languages())
        weights = Weights(terms.forms, index.rarity(sorted(terms.ids)), index.background().points)
        best = max((one.sentence for one in candidates(result.hits[:HITS_READ], weights, terms)), default=0.0)
        found.append(Row(not question.gold & gone, signs(terms, result, weights, best, vectors)))
    return found


def weak(index: Memory, vectors: Vectors, questions: list[Question], left_out: Left) -> float:
    """Return the share of searches whose hits are said to be only what is nearest."""
    found = 0
    for question in questions:
        index.without(left_out(question))
        request = SearchRequest(query=question.text[:4000], mode=vectors.mode, judge=True)
        [result] = search_many([request], index=index, embedder=vectors)
        found += is_weak(request.query, result, index=index, embedder=vectors)
    return found / len(questions)


def _tell(name: str, way: str, inside: list[Row], outside: list[Row]) -> None:
    with_it, without = (np.array([row.signs.confidence for row in each]) for each in (inside, outside))
    area = (with_it[:, None] > without).mean() + (with_it[:, None] == without).mean() / 2
    tenth = (without < np.quantile(with_it, 0.1)).mean()
    refused, refused_without = (with_it < 0.5).mean(), (without < 0.5).mean()
    print(
        f"{name:12} {way:9} {len(inside):6} {refused:13.1%} {refused_without:8.1%} {tenth:8.1%} {area:6.3f}", flush=True
    )


def _fit(gathered: list[Row]) -> None:
    """Print weights for each set of signs that can be told."""
    alone = ["cover", "sentence", "phrases"]
    for names in (
        alone,
        [*alone, "ahead_in_words"],
        [*alone, "near"],
        [*alone, "near", "ahead_in_words", "ahead_in_meaning"],
    ):
        told = [
            (values, row.known) for row in gathered if None not in (values := [asdict(row.signs)[n] for n in names])
        ]
        if told:
            signs_of, known = np.array([values for values, _ in told]), np.array([float(known) for _, known in told])
            weights, constant = regression(signs_of, known)
            shown = " ".join(f"{name} {weight:.2f}" for name, weight in zip(names, weights, strict=True))
            print(f"{len(told)} rows: {shown} constant {constant:.2f}")


def regression(signs_of: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the weights and the constant of a logistic regression."""
    mean, spread = signs_of.mean(0), signs_of.std(0) + 1e-9
    table = np.c_[(signs_of - mean) / spread, np.ones(len(known))]
    ridge = np.diag([*[RIDGE] * len(mean), 0.0])
    weights = np.zeros(table.shape[1])
    for _ in range(ROUNDS):  # Newton's method
        likely = 1 / (1 + np.exp(-np.clip(table @ weights, -30, 30)))
        slope = table.T @ (likely - known) + ridge @ weights
        curve = (table * (likely * (1 - likely))[:, None]).T @ table + ridge
        weights -= np.linalg.solve(curve, slope)
    return weights[:-1] / spread, float(weights[-1] - (weights[:-1] * mean / spread).sum())


def read(name: str) -> tuple[Mapping[str, str], list[Question]]:
    """Return a collection's documents, by name, and its questions."""
    collection, _, language = name.partition(":")
    documents = {
        row["_id"]: row["text"]
        for row in rows(collection, "corpus.jsonl")
        if not language or row["_id"].startswith(f"{language}-")
    }
    return documents, questions_of(collection, documents)
