"""Questions whose right documents, or answers, are known: read from BEIR folders, JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ops.cli.errors import CliError

SEPARATOR = "|"


@dataclass(frozen=True, slots=True)
class Question:
    """A query, the grades of the documents that answer it (by path or id), and texts that answer it.

    ``marked`` is what the file says of whether the documents answer it; None: nothing.
    """

    key: str
    text: str
    grades: Mapping[str, float] = field(default_factory=dict)
    spans: tuple[str, ...] = ()
    filters: Mapping[str, Any] | None = None
    marked: bool | None = None

    @property
    def answerable(self) -> bool | None:
        """Whether the documents answer it; None: nobody knows, as where only wrong hits were judged."""
        if self.marked is not None:
            return self.marked
        return True if self.spans or any(grade > 0 for grade in self.grades.values()) else None


def read_questions(place: Path) -> list[Question]:
    """Return the questions of a BEIR folder (queries.jsonl, qrels.tsv), of a .jsonl or of a .csv file.

    Raises:
        CliError: there is none, or a line cannot be read; the text says which.
    """
    if place.is_dir():
        found = list(_beir(place))
    elif not place.exists():
        raise CliError(f"{place} does not exist. Name a BEIR folder, a .jsonl or a .csv file.")
    elif place.suffix == ".csv":
        found = list(_csv(place))
    else:
        found = [_without_any(_question(row, f"{place} line {n}", str(n))) for n, row in _lines(place)]
    if not found:
        raise CliError(f"{place} holds no question.")
    return found


def names_of(metadata: Mapping[str, Any], doc_id: str) -> Iterator[str]:
    """Yield what a document may be called in judgements: its id, path, file name, with and without the ending."""
    path = str(metadata.get("path") or "")
    name = path.rpartition("/")[2]
    yield doc_id
    yield path
    yield f"{metadata.get('source')}/{path}"
    yield name
    for each in (path, name):
        stem, dot, _ = each.rpartition(".")
        if dot and stem:
            yield stem


def _beir(folder: Path) -> Iterator[Question]:
    queries, judged = folder / "queries.jsonl", _qrels(folder)
    if not queries.exists():
        raise CliError(f"{folder} has no queries.jsonl, so it is not in BEIR layout.")
    for number, row in _lines(queries):
        question = _question(row, f"{queries} line {number}", str(number))
        grades = judged.get(question.key, {}) if judged is not None else question.grades
        if grades or question.spans or question.marked is not None:  # others belong to another split
            yield replace(question, grades=grades)


def _qrels(folder: Path) -> dict[str, dict[str, float]] | None:
    file = next((p for p in (folder / "qrels.tsv", folder / "qrels" / "test.tsv") if p.exists()), None)
    if file is None:
        return None
    found: dict[str, dict[str, float]] = {}
    for number, line in enumerate(_text(file).split("\n"), 1):
        parts = line.removesuffix("\r").split("\t")
        if parts == [""]:
            continue
        if number == 1 and not parts[-1].lstrip("-").replace(".", "").isdigit():
            continue  # the header
        try:
            query, document, grade = parts
            found.setdefault(query, {})[document] = float(grade)
        except ValueError:
            raise CliError(f"{file} line {number} is not: query, document, grade, with tabs between.") from None
    return found


def _csv(file: Path) -> Iterator[Question]:
    for number, row in enumerate(csv.DictReader(io.StringIO(_text(file), newline="")), 2):
        if not row.get("query"):
            raise CliError(f"{file} line {number} has no query. Columns: query, documents, answers.")
        named = _split(row.get("documents") or row.get("document"))
        answers = _split(row.get("answers") or row.get("answer"))
        yield _without_any(Question(str(number), row["query"], dict.fromkeys(named, 1.0), tuple(answers)))


def _question(row: Mapping[str, Any], where: str, number: str) -> Question:
    text = row.get("query") or row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise CliError(f"{where} has no query (or text).")
    facts = row.get("metadata") if isinstance(row.get("metadata"), dict) else {}
    documents = row.get("documents", row.get("document", facts.get("doc") if facts else None))
    answers = row.get("answers") or (facts.get("answers") if facts else None) or []
    return Question(
        str(row.get("_id", row.get("id", number))),
        text,
        _grades(documents, where),
        _spans(answers, where),
        _filters(row.get("filters"), where),
        _mark(row.get("answerable", facts.get("answerable") if facts else None), where),
    )


def _without_any(question: Question) -> Question:
    """Mark a question that names neither documents nor answers: there is none."""
    return question if question.answerable is not None or question.grades else replace(question, marked=False)


def _mark(value: Any, where: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise CliError(f"{where}: answerable is true or false.")
    return value


def _grades(documents: Any, where: str) -> dict[str, float]:
    if documents is None:
        return {}
    try:
        if isinstance(documents, dict):
            return {str(name): float(grade) for name, grade in documents.items()}
        return dict.fromkeys([documents] if isinstance(documents, str) else map(str, documents), 1.0)
    except (TypeError, ValueError):
        raise CliError(f"{where}: documents are a name, a list of names, or names with grades.") from None


def _spans(answers: Any, where: str) -> tuple[str, ...]:
    texts: list[Any] = [each.get("text") if isinstance(each, dict) else each for each in _listed(answers)]
    if not all(isinstance(text, str) for text in texts):
        raise CliError(f"{where}: answers are a text, or a list of texts.")
    return tuple(texts)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _filters(value: Any, where: str) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise CliError(f"{where}: filters are an object. See the manual: ops/docs/search.md")
    return value


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise CliError(f"{file} is not UTF-8. Save it as UTF-8.") from None
    except OSError as exc:
        raise CliError(f"{file} cannot be read: {exc.strerror}. Check the path and its permissions.") from exc


def _lines(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Not splitlines(): JSON may hold the rarer line separators of Unicode as they are.
    for number, line in enumerate(_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise CliError(f"{file} line {number} is no JSON object.")
        yield number, row


def _split(cell: str | None) -> list[str]:
    return [part.strip() for part in (cell or "").split(SEPARATOR) if part.strip()]
