"""When do two sentences mean the same? Closeness of translations, and of neighbours that say something else.

    python -m tests.bench meaning [--paragraphs N] [--from N] [--vectors F]

Paragraphs of XQuAD stand in several languages: where both have as many sentences, of a like length, one is taken for
the other's translation, and every other sentence of the paragraph for one that means something else.
Shares that `workers.query.relevance` takes for the same at different bounds.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import numpy as np

from tests.bench.answers import Vectors, rows
from workers.query.relevance import closeness
from workers.query.sentences import sentences

BOUNDS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65)
LENGTHS = {"de": (0.7, 1.8), "es": (0.7, 1.8), "ar": (0.5, 1.4), "zh": (0.15, 0.6)}
"""Length of a translation's sentence as a share of the English one's: what is outside was cut otherwise."""

LEAST_SENTENCES = 3


def main(argv: list[str]) -> int:
    """Print a line for each language."""
    parser = argparse.ArgumentParser(prog="meaning")
    parser.add_argument("--paragraphs", type=int, default=25)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--vectors", type=Path)
    args = parser.parse_args(argv)
    texts = {row["_id"]: row["text"] for row in rows("xquad", "corpus.jsonl")}
    numbers = sorted(name[3:] for name in texts if name.startswith("en-"))
    random.Random(5).shuffle(numbers)
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch:
        vectors = Vectors(args.vectors or Path(scratch) / "vectors.db", mode="hybrid")
        print(f"{'to':8} {'':14} {'pairs':>6}", *(f"{bound:>6}" for bound in BOUNDS))
        neighbours: dict[str, list[float]] = {}
        for language, lengths in LENGTHS.items():
            same, other, used = list[float](), list[float](), 0
            for number in numbers[args.first :]:
                english, theirs = _sentences(texts[f"en-{number}"]), _sentences(texts[f"{language}-{number}"])
                if used == args.paragraphs or not _alike(english, theirs, lengths):
                    continue
                used += 1
                unrelated = vectors.landmarks()
                ours, translated = vectors.passages(english), vectors.passages(theirs)
                for place, one in enumerate(ours):
                    each = [closeness(one, two, unrelated) for two in translated]
                    same.append(each.pop(place))
                    other += each
                neighbours[number] = [closeness(one, two, unrelated) for one in ours for two in ours if one is not two]
            _tell(language, "translations", same)
            _tell(language, "something else", other)
        _tell("en", "something else", [each for found in neighbours.values() for each in found])
    return 0


def _sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def _alike(ours: list[str], theirs: list[str], lengths: tuple[float, float]) -> bool:
    return len(ours) == len(theirs) >= LEAST_SENTENCES and all(
        lengths[0] < len(two) / len(one) < lengths[1] for one, two in zip(ours, theirs, strict=True)
    )


def _tell(language: str, what: str, close: list[float]) -> None:
    shares = (float(np.mean(np.array(close) >= bound)) for bound in BOUNDS)
    print(f"{language:8} {what:14} {len(close):6}", *(f"{share:6.1%}" for share in shares), flush=True)
