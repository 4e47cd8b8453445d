"""Collections in BEIR layout as folders of files, with questions whose documents, and places in them, are known."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[3] / "shared" / "data" / "retrieval"
SHARE = 0.5
"""The part of a span that one text must have of it to count as having found it."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the grades of documents, and the places (start, end) in one of them that answer it."""

    key: str
    text: str
    grades: Mapping[str, float]
    document: str | None = None
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Collection:
    """Files by name, and groups of questions about them."""

    name: str
    files: Mapping[str, str]
    groups: Mapping[str, Sequence[Question]]

    def write(self, folder: Path) -> None:
        """Make the folder have exactly these files."""
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if old.name not in self.files:
                old.unlink()
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")


def read(name: str, most: int | None = None) -> list[Collection]:
    """Return a collection of DATA with its first ``most`` documents; xquad is one for each of its languages."""
    folder = DATA / name
    if not folder.is_dir():
        raise SystemExit(f"There is no collection {name} in {DATA}.")
    rows = _rows(folder / "corpus.jsonl")
    asked = _rows(folder / "queries.jsonl")
    grades = _grades(folder / "qrels.tsv")
    if name != "xquad":
        files = {f"{row['_id']}.txt": str(row["text"]) for row in rows[:most] if str(row["text"]).strip()}
        return [Collection(name, files, {name: _questions(asked, grades, files)})]
    found = []
    to_english = _grades(folder / "qrels.to_english.tsv")
    for language in dict.fromkeys(row["_id"].partition("-")[0] for row in rows):
        mine = [row for row in rows if row["_id"].startswith(f"{language}-")][:most]
        files = {f"{row['_id']}.md": f"# {row['title'].replace('_', ' ')}\n\n{row['text']}\n" for row in mine}
        groups = {}
        for other in ["en", "de", "es", "zh", "ar"] if language == "en" else [language]:
            rows_of = [row for row in asked if row["_id"].startswith(f"{other}-")]
            title = f"xquad {other}" if other == language else f"xquad {other} to {language}"
            groups[title] = _questions(rows_of, grades if other == language else to_english, files)
        found.append(Collection(f"xquad-{language}", files, groups))
    return found


def _questions(
    rows: Sequence[Mapping[str, Any]], grades: Mapping[str, Mapping[str, float]], files: Mapping[str, str]
) -> list[Question]:
    """Return the questions that some of the documents answer."""
    there = {name.rpartition(".")[0] for name in files}
    found = []
    for row in rows:
        known = {document: grade for document, grade in grades.get(row["_id"], {}).items() if document in there}
        if any(grade > 0 for grade in known.values()):
            facts = row.get("metadata") or {}
            found.append(Question(row["_id"], row["text"], known, facts.get("doc"), _spans(facts)))
    return found


def _spans(facts: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    spans = [(start, end) for start, end in facts.get("spans", ())]
    spans += [(one["start"], one["start"] + len(one["text"])) for one in facts.get("answers", ()) if "start" in one]
    return tuple(spans)


def _grades(file: Path) -> dict[str, dict[str, float]]:
    grades: dict[str, dict[str, float]] = defaultdict(dict)
    for line in file.read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        grades[query][document] = float(grade)
    return grades


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


class Places:
    """Finds where in a document a text stands, white space aside: parsers and splitters set it as they like."""

    def __init__(self, text: str) -> None:
        self._kept = [index for index, sign in enumerate(text) if not sign.isspace()]
        self._text = _squeezed(text)

    def has(self, content: str, spans: Sequence[tuple[int, int]]) -> bool:
        """Tell whether a text of this document has at least half of one of the spans."""
        squeezed = _squeezed(content)
        at = self._text.find(squeezed) if squeezed else -1
        if at < 0:  # made of parts (a table's header repeated before a later row): look for the span in it
            return any(wanted and wanted in squeezed for wanted in (self._of(span) for span in spans))
        first, last = self._kept[at], self._kept[at + len(squeezed) - 1] + 1
        return any(min(last, end) - max(first, start) >= SHARE * (end - start) for start, end in spans)

    def knows(self, content: str) -> bool:
        """Tell whether the text stands in the document as it is."""
        return _squeezed(content) in self._text

    def _of(self, span: tuple[int, int]) -> str:
        return "".join(self._text[i] for i, at in enumerate(self._kept) if span[0] <= at < span[1])


def _squeezed(text: str) -> str:
    return "".join(text.split())
