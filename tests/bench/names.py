"""Is a file found by its name, and do names mislead whoever asks for something else?

    python -m tests.bench names [--contracts N] [--files N] [--vectors F]

Contracts of CUAD under their real names and the abstracts of Cranfield under names made of words that occur in other
abstracts, so that none says what its file is about, in one index in memory, searched as by the query worker.  A file's
name is typed in several ways; counted is how often it is first.  Cranfield's own questions, whole and cut to their
rarest words, then show what misleading names cost, and the same files under their numbers what those do.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from tests.bench.answers import Vectors, rows
from tests.bench.beir import Question, read
from tests.bench.memory import Memory
from tests.bench.remembered import VECTORS
from workers.query.evaluation import mean, ndcg
from workers.query.requests import SearchRequest
from workers.query.search import search_many

SEED = 5
ASKED = 150
DEEP = 50
_APART = re.compile(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z])(?=[0-9])|[^A-Za-z0-9]+")
_WORD = re.compile("[a-z]{4,}")


def main(argv: Sequence[str]) -> int:
    """Print two tables."""
    parser = argparse.ArgumentParser(prog="names", description=__doc__)
    parser.add_argument("--contracts", type=int, default=24)
    parser.add_argument("--files", type=int, help="of Cranfield; all unless given")
    parser.add_argument("--vectors", type=Path, default=VECTORS, help="where vectors are remembered")
    options = parser.parse_args(argv)
    dice = random.Random(SEED)
    contracts = {row["metadata"]["file"].replace("/", "_"): row["text"] for row in rows("cuad", "corpus.jsonl")}
    contracts = dict(list(contracts.items())[: options.contracts])
    [abstracts, *_] = read("cranfield", options.files)
    paths = made_names(abstracts.files, dice)
    asked = {
        "contract": queries(list(contracts), dice),
        "made": queries(dice.sample(sorted(paths.values()), min(ASKED, len(paths))), dice),
    }
    misled = {paths[name]: text for name, text in abstracts.files.items()}
    documents = contracts | misled
    vectors = {mode: Vectors(options.vectors, mode=mode) for mode in ("hybrid", "lexical")}
    print(f"{len(documents)} files\n{'first of all':32} {'asked':>6}" + "".join(f"{n:>20}" for n in _HEADS))
    indexes = [Memory(documents, vectors["hybrid"], ("english",), named=named) for named in (False, True)]
    numbered = [Memory(abstracts.files, vectors["hybrid"], ("english",), named=named) for named in (False, True)]
    for kind, spellings in asked.items():
        for spelling, pairs in spellings.items():
            shares = [_first(index, one, pairs) for one in vectors.values() for index in indexes]
            _tell(f"{kind}: {spelling}", len(pairs), shares)
    pairs = [(name, name) for name in dice.sample(sorted(abstracts.files), min(ASKED, len(abstracts.files)))]
    _tell("number: whole name", len(pairs), [_first(i, one, pairs) for one in vectors.values() for i in numbered])
    print(f"\n{'nDCG@10 of questions':32} {'asked':>6}" + "".join(f"{n:>20}" for n in _HEADS))
    alone = [Memory(misled, vectors["hybrid"], ("english",), named=named) for named in (False, True)]
    [group] = abstracts.groups.values()
    for title, most in (("whole", None), ("three rarest words", 3), ("two rarest words", 2), ("rarest word", 1)):
        short = [(cut(one, most, abstracts.files), one) for one in group]
        for kind, pair, named in (("made", alone, paths), ("number", numbered, {n: n for n in paths})):
            found = [_graded(index, one, short, named) for one in vectors.values() for index in pair]
            _tell(f"{title}, {kind} names", len(short), found)
    return 0


def _tell(title: str, asked: int, values: Sequence[float]) -> None:
    print(f"{title:32} {asked:6}" + "".join(f"{value:20.4f}" for value in values), flush=True)


_HEADS = ("hybrid, nameless", "hybrid", "lexical, nameless", "lexical")


def made_names(files: Mapping[str, str], dice: random.Random) -> dict[str, str]:
    """Return a path for each file: words as frequent as in the texts, in the styles that people use."""
    words = [word for text in files.values() for word in _WORD.findall(text)]
    paths = {}
    for name in files:
        one, two, three = dice.sample(words, 3)
        year = 2000 + dice.randint(10, 24)
        number = dice.choice(
            [str(dice.randint(1, 12)), f"{dice.randrange(10_000):04d}", f"{year}-{dice.randint(1, 12):02d}"]
        )
        stem = dice.choice(
            [
                f"{one}-{two}_{three}_{number}",
                f"{one.title()}{two.title()}{three.title()} {number}",
                f"{one} {two} {three} {number}",
                f"{one.upper()}_{two}{number}",
            ]
        )
        folders = dice.sample(words, dice.randrange(3))
        paths[name] = "/".join([*folders, stem + dice.choice([".txt", ".pdf", ".docx"])])
    return paths


def queries(paths: Sequence[str], dice: random.Random) -> dict[str, list[tuple[str, str]]]:
    """Return (query, path) of each file, by the way its name is spelled."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path in paths:
        for spelling, query in _spellings(path, dice):
            found[spelling].append((query, path))
    return found


def _spellings(path: str, dice: random.Random) -> Iterator[tuple[str, str]]:
    name = path.rpartition("/")[2]
    stem = name.rpartition(".")[0]
    words = words_of(stem).split()
    yield "whole name", name
    yield "without its ending", stem
    yield "its words", " ".join(words)
    yield "its words, mixed", " ".join(dice.sample(words, len(words)))
    if len(words) > 3:
        yield "all words but one", " ".join(dice.choice([words[:-1], words[1:]]))
    if "/" in path:
        yield "with its folders", path
    yield "in a question", f"where is the file {stem}"


def words_of(stem: str) -> str:
    """Return the words that a name is made of, as somebody says them."""
    return " ".join(_APART.sub(" ", stem).lower().split())


def cut(question: Question, most: int | None, files: Mapping[str, str]) -> str:
    """Return the rarest words of a question, in its order."""
    if most is None:
        return question.text
    held = _held(tuple(files.values()))
    words = list(dict.fromkeys(word for word in _WORD.findall(question.text.lower()) if held[word]))
    kept = set(sorted(words, key=held.__getitem__)[:most])
    return " ".join(word for word in words if word in kept) or question.text


@lru_cache(maxsize=1)
def _held(texts: tuple[str, ...]) -> Counter[str]:
    """Return in how many texts each word is."""
    return Counter(word for text in texts for word in set(_WORD.findall(text)))


def _first(index: Memory, vectors: Vectors, pairs: Sequence[tuple[str, str]]) -> float:
    found = _found(index, vectors, [query for query, _ in pairs], 1)
    return sum(paths[:1] == [path] for paths, (_, path) in zip(found, pairs, strict=True)) / len(pairs)


def _graded(index: Memory, vectors: Vectors, asked: Sequence[tuple[str, Question]], paths: Mapping[str, str]) -> float:
    found = _found(index, vectors, [query for query, _ in asked], DEEP)
    names = {path: Path(name).stem for name, path in paths.items()}
    values = [ndcg([names[path] for path in each], one.grades) for each, (_, one) in zip(found, asked, strict=True)]
    return mean(values) or 0.0


def _found(index: Memory, vectors: Vectors, queries: Sequence[str], limit: int) -> list[list[str]]:
    """Return the documents that each query finds, best first."""
    requests = [SearchRequest(query=query, limit=limit, mode=vectors.mode) for query in queries]
    results = search_many(requests, index=index, embedder=vectors)
    return [list(dict.fromkeys(hit.found.doc_id for hit in result.hits)) for result in results]
