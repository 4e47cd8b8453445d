"""Questions with known answers are read from BEIR folders, JSON lines and CSV; the evaluation adds them up."""

from __future__ import annotations

import json

import pytest

from ops.cli import evaluate
from ops.cli.errors import CliError
from ops.cli.judgements import Question, names_of, read_questions
from ops.cli.search import Mode


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


class Api:
    """A running search that always finds b before a."""

    def __init__(self) -> None:
        self.bodies = []

    def post(self, route, body, headers):
        self.bodies.append((route, body, headers))
        hits = [
            {"doc_id": "1", "metadata": {"path": "b.md"}, "content": "The code is 4711."},
            {"doc_id": "1", "metadata": {"path": "b.md"}, "content": "Again."},
            {"doc_id": "2", "metadata": {"path": "a.md"}, "content": "Other."},
        ]
        mode = body["searches"][0]["mode"]
        return {"results": [{"hits": hits, "mode": mode, "took_ms": 4.0} for _ in body["searches"]]}


def test_the_evaluation_counts_documents_once_and_stays_out_of_the_query_log(monkeypatch, tmp_path, capsys):
    api = Api()
    monkeypatch.setattr(evaluate, "find_api", lambda: api)
    rows = [{"query": f"q{n}", "documents": ["a"], "answers": ["code is 4711"]} for n in range(20)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))

    evaluate.evaluate(
        tmp_path / "q.jsonl", mode=Mode.HYBRID, versus=Mode.LEXICAL, k=10, span_k=1, most=None,
        per_query=tmp_path / "out.jsonl", as_json=True,
    )  # fmt: skip
    report = json.loads(capsys.readouterr().out)

    assert report["runs"]["hybrid"] == pytest.approx(
        {"ndcg": 0.6309, "recall": 1.0, "mrr": 0.5, "span_recall": 1.0, "p50_ms": 4.0, "p95_ms": 4.0, "p99_ms": 4.0},
        abs=1e-4,
    )
    assert report["comparison"]["ndcg"]["p"] == 1.0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 40
    assert [len(body["searches"]) for _, body, _ in api.bodies] == [16, 4, 16, 4]
    assert all(headers == {"X-Upwell-Log": "off"} for _, _, headers in api.bodies)
