"""Folders of Markdown files made from real text, in three sizes, for benchmarks.

    python -m tests.bench.corpus FOLDER [--files 1000] [--text DIR]

The text is that of ``../shared/data`` (PEPs and research articles), or of every text file below ``--text``; where
there is neither, sentences of drawn words.  A file has a title, four to twelve sections and about 10 kB; the same seed
makes the same files.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

SIZES = {"small": 100, "medium": 1_000, "large": 10_000}
FILE_CHARS = 8_000
PARAGRAPH = range(120, 1_500)
PER_FOLDER = 10
SHARED = Path(__file__).parents[3] / "shared" / "data"


def make(folder: Path, files: int, *, text: Path | None = None, seed: int = 1) -> int:
    """Write ``files`` files into ``folder``, ten to a directory; returns their size in bytes."""
    draw = random.Random(seed)
    texts = list(paragraphs(text))
    written = 0
    for number in range(files):
        path = folder / f"part-{number // PER_FOLDER:04d}" / f"note-{number:05d}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = _document(number, draw, texts).encode()
        path.write_bytes(data)
        written += len(data)
    return written


def edit(folder: Path, share: float, *, seed: int = 1) -> list[Path]:
    """Rewrite one paragraph in this share of the files; returns which."""
    draw = random.Random(seed)
    paths = sorted(folder.rglob("*.md"))
    chosen = draw.sample(paths, max(1, round(len(paths) * share)))
    for path in chosen:
        parts = path.read_text().split("\n\n")
        places = [place for place, part in enumerate(parts) if len(part) > 200 and not part.startswith("#")]
        place = draw.choice(places)
        words = parts[place].split(" ")
        middle = len(words) // 2
        words[middle:middle] = ["which", "was", "revised", f"on-day-{draw.randrange(10_000)},"]
        parts[place] = " ".join(words)
        path.write_text("\n\n".join(parts))
    return chosen


def _document(number: int, draw: random.Random, texts: list[str]) -> str:
    sections = draw.randint(4, 12)
    parts = [f"# Note {number}: {_title(draw.choice(texts))}"]
    for section in range(sections):
        parts.append(f"## {section + 1}. {_title(draw.choice(texts))}")
        room = FILE_CHARS // sections
        while room > 0:
            # A mark of its own keeps equal paragraphs apart: every file is new text, as a first index has it.
            paragraph = f"{draw.choice(texts)} (n{number}.{draw.randrange(100_000)})"
            parts.append(paragraph)
            room -= len(paragraph)
    return "\n\n".join(parts) + "\n"


def _title(paragraph: str) -> str:
    return " ".join(re.findall(r"\w+", paragraph)[:6])


def paragraphs(text: Path | None) -> Iterator[str]:
    """Yield the paragraphs of the text that files are made of, without headings and tables."""
    found = 0
    for document in _documents(text):
        for part in re.split(r"\n\s*\n", document):
            paragraph = " ".join(part.split())
            if len(paragraph) in PARAGRAPH and not paragraph.startswith(("#", "..", "|", "=", "-")):
                found += 1
                yield paragraph
    if not found:
        yield from _drawn()


def _documents(text: Path | None) -> Iterator[str]:
    if text is not None:
        for path in sorted(text.rglob("*")):
            if path.suffix in (".md", ".txt", ".rst") and path.is_file():
                yield path.read_text(errors="replace")
        return
    edits = SHARED / "edits" / "peps2017.base.jsonl.gz"
    if edits.exists():
        with gzip.open(edits, "rt") as lines:
            for line in lines:
                yield json.loads(line)["content"]
    articles = SHARED / "retrieval" / "covidqa" / "corpus.jsonl"
    if articles.exists():
        with articles.open() as lines:
            for line in lines:
                yield json.loads(line)["text"]


def _drawn() -> Iterator[str]:
    draw = random.Random(0)
    syllables = tuple(a + b for a in "klmnprstvd" for b in "aeiou")
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(4_000)]
    for _ in range(2_000):
        sentences = (" ".join(draw.choices(words, k=draw.randint(6, 20))).capitalize() + "." for _ in range(4))
        yield " ".join(sentences)


def main() -> None:
    """Make one folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.corpus")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=SIZES["medium"])
    parser.add_argument("--text", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    size = make(args.folder, args.files, text=args.text, seed=args.seed)
    print(f"{args.files} files, {size:,} bytes")


if __name__ == "__main__":
    main()
