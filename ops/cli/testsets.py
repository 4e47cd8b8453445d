"""Writes a test set as a folder in BEIR layout, so that people can keep it, correct it and use it again.

BEIR: Thakur and others, "BEIR: a heterogeneous benchmark for zero-shot evaluation of information retrieval models",
2021.  The documents themselves are not copied (no corpus.jsonl): judgements name them as the index does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ops.cli.errors import CliError
from ops.cli.judgements import Question


def require_new(folder: Path) -> None:
    """Make sure that nothing is overwritten, before questions cost anything.

    Raises:
        CliError: there is something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CliError(f"{folder} is not empty, and a test set is not overwritten. Name a new folder.")


def save_questions(folder: Path, questions: Sequence[Question]) -> None:
    """Write queries.jsonl and qrels/test.tsv; `read_questions` gives the same questions back.

    Raises:
        CliError: the folder has something in it already, or cannot be written.
    """
    rows, judged = "".join(map(_line, questions)), "".join(_judged(questions))
    require_new(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "qrels").mkdir()
        (folder / "queries.jsonl").write_text(rows, encoding="utf-8")
        (folder / "qrels" / "test.tsv").write_text(judged, encoding="utf-8")
    except OSError as exc:
        raise CliError(f"{folder} cannot be written: {exc.strerror}. Name another folder.") from exc


def _line(one: Question) -> str:
    row: dict[str, Any] = {"_id": one.key, "text": one.text}
    if one.spans:
        row["metadata"] = {"answers": [{"text": span} for span in one.spans]}
    if one.filters:
        row["filters"] = dict(one.filters)
    if one.marked is not None:
        row["answerable"] = one.marked
    return json.dumps(row, ensure_ascii=False) + "\n"


def _judged(questions: Sequence[Question]) -> Iterator[str]:
    yield "query-id\tcorpus-id\tscore\n"
    for one in questions:
        for document, grade in one.grades.items():
            # A name with a tab or a line break in it would end its line.
            if any(char in document for char in "\t\r\n"):
                raise CliError("The name of a judged document has a tab or line break in it. Rename the file.")
            yield f"{one.key}\t{document}\t{grade:g}\n"
