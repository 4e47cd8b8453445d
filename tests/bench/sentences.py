"""Which sentence of the hits is said first, and which ones after it: how likely each is to have the answer.

    python -m tests.bench sentences COLLECTION… [--questions N] [--vectors F]

COLLECTION is covidqa or xquad:LANGUAGE of ../shared/data/retrieval.  Every question is asked with its document in the
index.  A sentence has the answer when it is in the document that is asked about and has the marked words, or is a part
of them.  Prints how often a sentence of each fit has it, what is said first and after, and weights for `fits`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.answers import Question, Vectors
from tests.bench.memory import Memory
from tests.bench.refusals import LANGUAGES, read, regression
from workers.query.extractive import FITTING, HITS_READ, MOST_SENTENCES, candidates
from workers.query.relevance import Weights, closeness, fits
from workers.query.requests import AnswerRequest
from workers.query.search import search_many
from workers.query.words import Terms

LONG = 20
"""Characters from which a sentence inside of a marked answer counts as a part of it, and not as a chance word."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sentence: coverage of its passage, its own, its closeness, and whether it has the answer."""

    passage: float
    sentence: float
    close: float
    right: bool


def main(argv: list[str]) -> int:
    """Print figures for each collection, and weights for all of them."""
    parser = argparse.ArgumentParser(prog="sentences")
    parser.add_argument("collections", nargs="+")
    parser.add_argument("--questions", type=int, default=220)
    parser.add_argument("--vectors", type=Path)
    args = parser.parse_args(argv)
    gathered: list[Candidate] = []
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch:
        vectors = Vectors(args.vectors or Path(scratch) / "vectors.db", mode="hybrid")
        for name in args.collections:
            documents, questions = read(name)
            random.Random(1).shuffle(questions)
            index = Memory(documents, vectors, (LANGUAGES[name.partition(":")[2] or "en"],))
            asked = [_candidates(index, vectors, question) for question in questions[: args.questions]]
            for way, by_meaning in (("by meaning", True), ("by words", False)):
                _tell(f"{name}, {way}", [each for each in asked if each], by_meaning=by_meaning)
            gathered += [one for each in asked for one in each]
    right = np.array([float(one.right) for one in gathered])
    for names in (("passage", "close"), ("passage", "sentence")):
        weights, constant = regression(np.array([[getattr(one, n) for n in names] for one in gathered]), right)
        print(" ".join(f"{n} {w:.1f}" for n, w in zip(names, weights, strict=True)), f"constant {constant:.1f}")
    return 0


def _candidates(index: Memory, vectors: Vectors, question: Question) -> list[Candidate]:
    [result] = search_many([AnswerRequest(query=question.text[:4000])], index=index, embedder=vectors)
    terms = Terms(question.text, index.languages())
    weights = Weights(terms.forms, index.rarity(sorted(terms.ids)), index.background().points)
    found = candidates(result.hits[:HITS_READ], weights, terms)
    unrelated = vectors.landmarks()
    close = [closeness(result.meaning, each, unrelated) for each in vectors.passages([one.read for one in found])]
    return [
        Candidate(one.passage, one.sentence, near, one.hit.found.doc_id in question.gold and _has(one.quote, question))
        for one, near in zip(found, close, strict=True)
    ]


def _has(quote: str, question: Question) -> bool:
    said = " ".join(quote.casefold().split())
    marked = [" ".join(span.casefold().split()) for span in question.spans]
    return any(span in said or (len(said) > LONG and said in span) for span in marked if span)


def _tell(what: str, asked: list[list[Candidate]], *, by_meaning: bool) -> None:
    def fit(one: Candidate) -> float:
        return fits(one.passage, one.sentence, one.close if by_meaning else None)

    every = [one for each in asked for one in each]
    rates = []
    for low in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5):
        high = {0.0: 0.05, 0.05: 0.1, 0.1: 0.2, 0.2: 0.3, 0.3: 0.5, 0.5: 1.1}[low]
        inside = [one.right for one in every if low <= fit(one) < high]
        rates.append(f"{low}: {np.mean(inside):.2f} of {len(inside)}" if inside else f"{low}: none")
    ranked = [sorted(each, key=lambda one: -fit(one)) for each in asked]
    after = [[one for one in each[1:] if fit(one) >= FITTING][: MOST_SENTENCES - 1] for each in ranked]
    first = np.mean([each[0].right for each in ranked])
    said = np.mean([each[0].right or any(one.right for one in more) for each, more in zip(ranked, after, strict=True)])
    print(f"{what}: {len(asked)} questions; has the answer, by fit: {', '.join(rates)}")
    print(f"  first sentence {first:.1%}; with those after it {said:.1%}, {np.mean([len(a) for a in after]):.2f} each")
