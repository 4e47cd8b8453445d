"""Questions with known answers are read from BEIR folders, JSON lines and CSV."""

from __future__ import annotations

import json

import pytest

from ops.cli.errors import CliError
from ops.cli.judgements import Question, names_of, read_questions


def test_a_beir_folder_is_read_with_its_grades_and_answers(tmp_path):
    rows = [
        {"_id": "q1", "text": "boiler?", "metadata": {"answers": [{"text": "4711"}]}},
        {"_id": "q2", "text": "unjudged"},
    ]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\ta\t2\nq1\tb\t0\n")

    assert read_questions(tmp_path) == [Question("q1", "boiler?", {"a": 2.0, "b": 0.0}, ("4711",))]


def test_json_lines_and_csv_are_read(tmp_path):
    lines, table = tmp_path / "q.jsonl", tmp_path / "q.csv"
    lines.write_text('{"query": "boiler?", "documents": {"a.md": 2}, "filters": {"source": "inbox"}}\n\n')
    table.write_text("query,documents,answers\nboiler?,a.md|b.md,4711\n")

    assert read_questions(lines) == [Question("1", "boiler?", {"a.md": 2.0}, (), {"source": "inbox"})]
    assert read_questions(table) == [Question("2", "boiler?", {"a.md": 1.0, "b.md": 1.0}, ("4711",))]


@pytest.mark.parametrize(
    ("name", "text"),
    [("q.jsonl", "{not json"), ("q.jsonl", '{"documents": []}'), ("q.csv", "documents\na\n"), ("q.jsonl", "")],
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)

    with pytest.raises(CliError, match=name):
        read_questions(tmp_path / name)


def test_a_document_may_be_named_by_path_name_stem_or_id():
    names = set(names_of({"path": "laws/a.b.md", "source": "docs"}, "id-1"))

    assert names == {"id-1", "laws/a.b.md", "docs/laws/a.b.md", "a.b.md", "laws/a.b", "a.b"}


def test_whether_a_question_has_an_answer_is_said_known_or_open(tmp_path):
    (tmp_path / "q.jsonl").write_text(
        '{"query": "boiler?", "documents": ["a.md"]}\n{"query": "moon?"}\n{"query": "x?", "documents": {"a.md": 0}}\n'
    )
    assert [one.answerable for one in read_questions(tmp_path / "q.jsonl")] == [True, False, None]

    # In a BEIR folder an unjudged question belongs to another split, unless it says that it has no answer.
    rows = [{"_id": "1", "text": "a"}, {"_id": "2", "text": "b", "answerable": False}, {"_id": "3", "text": "c"}]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "qrels.tsv").write_text("1\ta\t1\n")
    assert [(one.key, one.answerable) for one in read_questions(tmp_path)] == [("1", True), ("2", False)]


def test_a_mark_that_is_no_truth_value_is_told_with_its_line(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"query": "boiler?", "answerable": "no"}')

    with pytest.raises(CliError, match="line 1: answerable is true or false"):
        read_questions(tmp_path / "q.jsonl")
