"""Questions with known answers are read from BEIR folders, JSON lines and CSV."""

from __future__ import annotations

import json

import pytest

from ops.cli.errors import CliError
from ops.cli.feedback import collected
from ops.cli.judgements import Question, names_of, read_questions
from ops.cli.testsets import save_questions


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
    [
        ("q.jsonl", "{not json"),
        ("q.jsonl", '{"documents": []}'),
        ("q.csv", "documents\na\n"),
        ("q.jsonl", ""),
        ("q.jsonl", '{"query": "x?", "filters": ["a"]}'),
        ("q.jsonl", '{"query": "x?", "answers": [{"start": 7}]}'),
        ("q.jsonl", '{"query": "x?", "answers": 7}'),
        ("q.jsonl", "caf\xe9"),
        ("q.csv", "caf\xe9"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode("latin-1"))

    with pytest.raises(CliError, match=name):
        read_questions(tmp_path / name)


def test_a_document_may_be_named_by_path_name_stem_or_id():
    names = set(names_of({"path": "laws/a.b.md", "source": "docs"}, "id-1"))

    assert names == {"id-1", "laws/a.b.md", "docs/laws/a.b.md", "a.b.md", "laws/a.b", "a.b"}


def test_one_answer_needs_no_list_and_a_byte_order_mark_is_no_text(tmp_path):
    lines, table = tmp_path / "q.jsonl", tmp_path / "q.csv"
    lines.write_text('\ufeff{"query": "boiler?", "answers": "the code is 4711"}')
    table.write_text('\ufeffquery,answers\n"boiler,\ncode?",4711\n')

    assert [one.spans for one in read_questions(lines)] == [("the code is 4711",)]
    assert [one.text for one in read_questions(table)] == ["boiler,\ncode?"]


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


ODD = "what is a\u2028line \x85 here?"


def test_a_saved_test_set_is_read_as_it_was(tmp_path):
    questions = [
        Question("f1", "boiler code?", {"docs/a b.md": 1.0, "docs/c.md": 0.0}, ("4711", "the code\nis 4711")),
        Question("f2", ODD, {"docs/a b.md": 2.0}, (), {"source": "docs"}),
        Question("f3", "how far is the moon?", marked=False),
    ]
    save_questions(tmp_path / "set", questions)

    assert read_questions(tmp_path / "set") == questions
    assert (tmp_path / "set/qrels/test.tsv").read_text().splitlines()[0] == "query-id\tcorpus-id\tscore"


def test_a_test_set_overwrites_nothing_and_names_fit_into_their_line(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(CliError, match="not empty"):
        save_questions(tmp_path, [Question("1", "x?", {"a": 1.0})])
    with pytest.raises(CliError, match="tab or line break"):
        save_questions(tmp_path / "new", [Question("1", "x?", {"a\tb": 1.0})])
    assert not (tmp_path / "new").exists()


def vote(query: str, good: bool, document: str | None = "d1", chunk: str | None = "c1", **more):
    found = {"kind": "hit", "query": query, "vote": "up" if good else "down", "doc_id": document, "chunk_id": chunk}
    return found | more


def test_judgements_become_questions_and_the_last_word_counts():
    votes = [
        vote("boiler", True),
        vote("boiler", False, "d2", "c2"),
        vote(" boiler ", True, "d2", "c3"),  # one good chunk makes a good document
        vote("hedge", True, "d3"),
        vote("hedge", False, "d3", filters={}),
        vote("hedge", True, "d3", filters={"kind": "law", "year": 2015}),
        vote("hedge", True, "d1", filters={"year": 2015, "kind": "law"}),
        vote("boiler", True, "gone"),
        vote("boiler", True, None),  # which document it was is not known
    ]
    found = collected(votes, lambda document: None if document == "gone" else f"docs/{document}.md")

    assert [(one.text, one.grades, one.answerable) for one in found.questions] == [
        ("boiler", {"docs/d1.md": 1.0, "docs/d2.md": 1.0}, True),
        ("hedge", {"docs/d3.md": 0.0}, None),  # that nothing answers it, nobody said
        ("hedge", {"docs/d3.md": 1.0, "docs/d1.md": 1.0}, True),  # with filters it is another question
    ]
    assert [one.filters for one in found.questions] == [None, None, {"kind": "law", "year": 2015}]
    assert (found.hits_up, found.hits_down, found.gone) == (5, 2, 1)


def test_votes_on_answers_are_a_rate_of_their_own():
    said = {"kind": "answer", "doc_id": None, "chunk_id": None}
    votes = [
        vote("a", True, answer="x", **said),
        vote("a", False, answer="x", **said),
        vote("b", True, answer="y", **said),
    ]
    found = collected(votes, lambda document: document)

    assert found.questions == ()
    assert found.as_json()["answers"] == {"up": 1, "down": 1, "share": 0.5}
