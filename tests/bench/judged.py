"""Refused or answered rightly: what a reader says of the answers that are given although the gold document is left out.

    python -m tests.bench judged [--vectors F] [--unread FILE] [--left-out WAY…]

The 200 questions of the figures of `refusals` about articles that the weights were not fitted on.  Other articles speak
of the same virus, so an answer with the gold article left out may be right.  `verdicts_covidqa.csv` has what one reader
said of each answer, read beside its question and the marked answer: yes (the quoted sentences answer what was asked, by
what their own source says), partly (a part of it, or one case of it), no.  A verdict belongs to what was quoted (the
first digits of its SHA-256), so a new answer has none: it counts as no, and `--unread` writes it down to be judged.
`questions_covidqa.csv` says whether a question means something without its article (which virus? which study?).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.bench.answers import Question, Vectors
from tests.bench.memory import Memory
from tests.bench.refusals import Left, ask, read, ways
from workers.query.extractive import Extract, extract
from workers.query.requests import AnswerRequest
from workers.query.search import search_many

COLLECTION, FIRST, QUESTIONS, THRESHOLD = "covidqa", 49, 200, 0.5
HERE = Path(__file__).parent
SURE = 1.96


def main(argv: list[str]) -> int:
    """Print shares with their 95 % intervals, for each way of leaving documents out."""
    parser = argparse.ArgumentParser(prog="judged")
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--unread", type=Path)
    parser.add_argument("--left-out", nargs="+", choices=("alone", "half"), default=["alone", "half"])
    args = parser.parse_args(argv)
    documents, questions = read(COLLECTION)
    late = set(list(documents)[FIRST:])
    questions = [question for question in questions if question.gold <= late]
    random.Random(1).shuffle(questions)
    questions = questions[:QUESTIONS]
    verdicts = {(row["question"], row["left_out"], row["quoted"]): row["verdict"] for row in _rows("verdicts")}
    plain = {row["question"] for row in _rows("questions") if row["stands_alone"] == "yes"}
    unread: list[str] = []
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch:
        vectors = Vectors(args.vectors or Path(scratch) / "vectors.db", mode="hybrid")
        index = Memory(documents, vectors, ("english",))
        for way in args.left_out:
            with_it, without = ways(sorted(documents))[way]
            inside = [row.signs.confidence for row in ask(index, vectors, questions, with_it)]
            outside: list[float] = []
            fates: list[str] = []
            for question in questions:
                found = answered(index, vectors, question, without)
                fate = verdicts.get((question.key, way, quoted(found)), "unread") if found.statements else "refused"
                fates.append(fate)
                outside.append(found.confidence)
                if fate == "unread":
                    unread.append(_to_read(way, question, found))
            told = list(zip(inside, outside, fates, strict=True))
            _tell(f"{way} left out, all questions", told)
            kept = [one for one, question in zip(told, questions, strict=True) if question.key in plain]
            _tell(f"{way} left out, questions that stand alone", kept)
    if args.unread:
        args.unread.write_text("\n".join(unread))
    return 0


def answered(index: Memory, vectors: Vectors, question: Question, left_out: Left) -> Extract:
    """Return what is said to a question without these documents."""
    index.without(left_out(question))
    [result] = search_many([AnswerRequest(query=question.text[:4000])], index=index, embedder=vectors)
    return extract(question.text, result, index=index, embedder=vectors, threshold=THRESHOLD)


def quoted(found: Extract) -> str:
    """Return what tells an answer from others without repeating it."""
    return hashlib.sha256("\n".join(each.quote for each in found.statements).encode()).hexdigest()[:12]


def interval(right: int, asked: int) -> tuple[float, float]:
    """Return Wilson's interval for a share, at 95 %."""
    share, square = right / asked, SURE**2
    middle = share + square / (2 * asked)
    spread = SURE * math.sqrt(share * (1 - share) / asked + square / (4 * asked**2))
    return (middle - spread) / (1 + square / asked), (middle + spread) / (1 + square / asked)


def _rows(name: str) -> list[dict[str, str]]:
    with (HERE / f"{name}_{COLLECTION}.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def _to_read(way: str, question: Question, found: Extract) -> str:
    document = found.statements[0].hit.found.doc_id
    head = [f"{question.key},{way},{document},{quoted(found)}", f"  Q: {question.text}", f"  GOLD: {question.spans[0]}"]
    return "\n".join([*head, *(f"  - {each.text}" for each in found.statements)])


def _tell(what: str, told: Sequence[tuple[float, float, str]]) -> None:
    """Print shares of questions: each with its confidence with the document in, and out, and what became of it then."""
    said = Counter(fate for _, _, fate in told)
    print(f"{what}: {len(told)}; " + ", ".join(f"{name} {count}" for name, count in said.most_common()))
    tenth = float(np.quantile([inside for inside, _, _ in told], 0.1))
    right = said["refused"] + said["yes"]
    for name, count in (
        ("refused with the document in", sum(inside < THRESHOLD for inside, _, _ in told)),
        ("refused with it out", said["refused"]),
        ("refused or answered rightly", right),
        ("refused, or answered rightly or partly", right + said["partly"]),
        ("refused with it out, 10 % with it in", sum(outside < tenth for _, outside, _ in told)),
        ("the same, or answered rightly", sum(outside < tenth or fate == "yes" for _, outside, fate in told)),
        ("the same, or rightly or partly", sum(out < tenth or fate in {"yes", "partly"} for _, out, fate in told)),
    ):
        low, high = interval(count, len(told))
        print(f"  {name:40} {count / len(told):6.1%} ({low:.1%} to {high:.1%})", flush=True)
