"""`upwell evaluate` against the api over real HTTP, with the code of the query worker behind it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from ops.api.app import make_app
from ops.api.settings import ApiSettings
from ops.cli import main as cli
from ops.cli.judgements import read_questions
from tests.support.answering import Index, Near, answering
from tests.support.chat import ChatServer, says
from tests.support.endpoint import Endpoint
from tests.support.faces import InProcess, served
from tests.support.product import Product
from workers.adapters.qdrant_search import QdrantSearch
from workers.contract import asked, schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.settings import IndexSettings
from workers.query.values import Found

DOC = "6d3f9c0e-5a5b-5d0e-9a41-6f1f6b8a7c1"
TEXTS = (
    "The boiler code is 4711.",
    "The hedge is cut in June by Meyer Gardens.",
    "The gutter was repaired in 2019 for 800 euros.",
)


class House(Index):
    """Documents with ids as real ones have them: 0.md, 1.md and 2.md."""

    def __init__(self, *contents: str) -> None:
        super().__init__(*(contents or TEXTS))
        for number, chunk in enumerate(self.chunks):
            chunk.payload["doc_id"] = f"{DOC}{number}"

    def find(self, *asked: Any, **more: Any) -> list[Found]:
        """Return what is found with scores that fall with the place, as an index's do."""
        found = super().find(*asked, **more)
        return [replace(each, score=1.0 / place) for place, each in enumerate(found, 1)]


def api_settings(home: Path, **more: str) -> ApiSettings:
    away = {"broker_url": "redis://127.0.0.1:9/0", "qdrant_url": "http://127.0.0.1:9"}
    return ApiSettings(ledger_url=f"sqlite:///{home}/ledger.db", data_dir=home, api_key="s3cret", **away | more)


@pytest.fixture
def settings(tmp_path: Path) -> ApiSettings:
    return api_settings(tmp_path)


@pytest.fixture
def engine(settings: ApiSettings) -> Iterator[Any]:
    engine = schema.open_ledger(settings.ledger_url.get_secret_value())
    yield engine
    engine.dispose()


@pytest.fixture
def serve(settings: ApiSettings, engine: Any) -> Callable[..., Any]:
    """Serve an api over chunks in memory."""

    def start(index: Index, **more: Any) -> Any:
        return served(make_app(settings, engine, queries=InProcess(answering(index, **more))))

    return start


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run the command in this process; returns (exit code, output, remarks)."""

    def run(address: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("UPWELL_API_URL", address)
        monkeypatch.setenv("UPWELL_API_KEY", "s3cret")
        monkeypatch.setattr(sys, "argv", ["upwell", "evaluate", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


def questions(tmp_path: Path, *rows: dict[str, Any]) -> str:
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "q.jsonl")


BOILER = {"query": "What is the boiler code?", "documents": ["0.md"], "answers": ["4711"]}
HEDGE = {"query": "Who cuts the hedge?", "documents": ["1.md"], "answers": ["Meyer Gardens"]}
MOON = {"query": "How far is the moon?"}


def lines(out: str) -> Sequence[str]:
    return [" ".join(line.split()) for line in out.splitlines()]


def test_hits_are_measured_and_the_questions_stay_out_of_the_query_log(serve, evaluate, tmp_path, engine):
    with serve(House()) as address:
        code, out, _ = evaluate(address, questions(tmp_path, BOILER, HEDGE), "--mode", "lexical", "--json")
    run = json.loads(out)["runs"]["lexical"]

    assert code == 0
    assert {name: run[name] for name in ("ndcg", "recall", "mrr", "span_recall")} == dict.fromkeys(
        ("ndcg", "recall", "mrr", "span_recall"), 1.0
    )
    assert "answers" not in run
    with engine.connect() as connection:
        assert connection.execute(schema.queries.select()).all() == []


def test_documents_that_are_not_in_the_index_are_named_before_anything_is_measured(serve, evaluate, tmp_path, engine):
    register_source(engine, "docs", "folder", str(tmp_path))
    observe(engine, [Observation("docs", b"notes/0.md", Stat(1, 1, 1))])
    with engine.begin() as connection:
        connection.execute(documents.update().values(chunks=1))
    asked = questions(tmp_path, BOILER, HEDGE, HEDGE | {"documents": ["1.md", "2.md", "3.md", "4.md"]})
    with serve(House()) as address:
        _, out, told = evaluate(address, asked, "--mode", "lexical", "--json")
        _, _, silent = evaluate(address, questions(tmp_path, BOILER), "--mode", "lexical")

    assert "4 of 5 documents that the questions name are not in the index (1.md, 2.md, 3.md, …)" in told
    assert json.loads(out)["documents"] == {"named": 5, "missing": ["1.md", "2.md", "3.md", "4.md"]}
    assert "not in the index" not in silent


def test_two_files_of_one_name_are_not_the_right_document_twice(serve, evaluate, tmp_path):
    house = House("The boiler code is 4711.", "The boiler code is 4712.")
    for number, chunk in enumerate(house.chunks):
        chunk.payload["metadata"] |= {"path": f"{number}/readme.md"}
    with serve(house) as address:
        asked = questions(tmp_path, BOILER | {"documents": ["readme.md"]})
        _, out, _ = evaluate(address, asked, "--mode", "lexical", "--json")

    assert json.loads(out)["runs"]["lexical"]["ndcg"] == 1.0


def test_a_search_that_was_not_what_was_asked_for_is_told_once(serve, evaluate, tmp_path):
    with serve(House()) as address:
        _, _, told = evaluate(address, questions(tmp_path, BOILER, HEDGE, MOON))

    assert told.count("3 of 3 questions were searched lexical, not hybrid. No answer from the embedding endpoint") == 1


def test_answers_are_measured_by_what_they_refuse_and_what_they_cite(serve, evaluate, tmp_path):
    place = questions(tmp_path, BOILER, HEDGE | {"documents": ["2.md"]}, MOON)
    with serve(House()) as address:
        _, out, _ = evaluate(
            address, place, "--answers", "--parallel", "2", "--mode", "lexical", "--per-query",
            str(tmp_path / "rows.jsonl"), "--json",
        )  # fmt: skip
    found = json.loads(out)["runs"]["lexical"]["answers"]
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]

    assert (found["answerable"], found["unanswerable"]) == (2, 1)
    assert (found["refused_answerable"], found["refused_unanswerable"]) == (0.0, 1.0)
    assert (found["right"], found["cites_right"]) == (0.5, 0.5)  # the second one cites 1.md, judged was 2.md
    assert (found["holds_answer"], found["sentences_supported"], found["sentences_left_out"]) == (1.0, 1.0, 0.0)
    assert found["generated_by"] == {"extractive": 2}
    assert found["p50_ms"] > 0
    assert [row["answer"]["refused"] for row in rows] == [False, False, True]
    assert rows[0]["answer"]["answer"] == "The boiler code is 4711. [1]"


def test_what_a_model_makes_up_shows_as_left_out(serve, evaluate, tmp_path):
    script = says("The boiler code is 4711. [1]", " It was bought in 1987. [1]")
    with ChatServer(script) as chat, serve(House(), chat=chat.url) as address:
        _, out, _ = evaluate(address, questions(tmp_path, BOILER), "--answers", "--mode", "lexical", "--json")
    found = json.loads(out)["runs"]["lexical"]["answers"]

    assert found["sentences_left_out"] == 0.5
    assert (found["sentences"], found["sentences_supported"]) == (1, 1.0)
    assert found["generated_by"] == {"gpt-4o-mini": 1}


def test_two_modes_are_compared_question_by_question(serve, evaluate, tmp_path):
    with serve(House(), embedder=Near()) as address:
        words = (questions(tmp_path, BOILER, HEDGE, MOON), "--against", "mode=lexical")
        _, out, _ = evaluate(address, *words)
        report = json.loads(evaluate(address, *words, "--answers", "--json")[1])

    assert lines(out)[0] == "3 questions"
    assert lines(out)[1] == "hybrid lexical difference (95 % interval) p better/worse/equal"
    assert lines(out)[2] == "nDCG@10 1.0000 1.0000 +0.0000 (+0.0000 to +0.0000) 1.0000 0/0/2"
    assert report["comparison"]["ndcg"]["equal"] == 2
    assert report["comparison"]["refused_rightly"]["equal"] == 1
    assert set(report["runs"]) == {"hybrid", "lexical"}


def test_another_upwell_is_compared_and_gets_a_key_of_its_own(serve, evaluate, tmp_path, monkeypatch):
    place = questions(tmp_path, BOILER, HEDGE)
    with serve(House()) as good, serve(House(TEXTS[2], TEXTS[2], TEXTS[2])) as empty:
        code, _, told = evaluate(good, place, "--mode", "lexical", "--against", empty, "--json")
        assert (code, "UPWELL_API_KEY" in told) == (1, True)  # ours does not go there by itself
        monkeypatch.setenv("UPWELL_AGAINST_API_KEY", "s3cret")
        _, out, _ = evaluate(good, place, "--mode", "lexical", "--against", empty, "--answers", "--json")
    found = json.loads(out)

    assert set(found["runs"]) == {good.removeprefix("http://"), empty.removeprefix("http://")}
    assert (found["comparison"]["ndcg"]["difference"], found["comparison"]["ndcg"]["better"]) == (1.0, 2)
    assert found["comparison"]["right"]["better"] == 2


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(evaluate, tmp_path):
    nowhere = str(tmp_path / "none" / "rows.jsonl")
    code, _, told = evaluate("http://127.0.0.1:9", questions(tmp_path, BOILER), "--per-query", nowhere)

    assert (code, "rows.jsonl cannot be written" in told) == (1, True)


@pytest.mark.parametrize(
    ("against", "told"),
    [
        ("mode=fast", "neither a mode nor an address"),
        ("mode=hybrid", "anyway"),
        ("http://", "--against must look like"),
    ],
)
def test_what_cannot_be_compared_is_told(serve, evaluate, tmp_path, against, told):
    code, _, err = evaluate("http://127.0.0.1:9", questions(tmp_path, BOILER), "--against", against)

    assert code == 2
    assert told in err


def test_without_a_question_of_a_kind_there_is_no_rate_of_it(serve, evaluate, tmp_path):
    with serve(House()) as address:
        _, out, _ = evaluate(address, questions(tmp_path, MOON), "--answers", "--mode", "lexical")

    assert any(line.startswith("refused, of 1 unanswerable 100.0%") for line in lines(out))
    assert not any(line.startswith(("nDCG", "answered", "sentences")) for line in lines(out))


def judged(engine: Any, query: str, vote: str, document: str | None, **more: Any) -> None:
    kind = "hit" if document else "answer"
    asked.judge(engine, asked.Judgement(kind=kind, vote=vote, query=query, doc_id=document, **more))


def indexed(engine: Any, tmp_path: Path, *names: str) -> list[str]:
    """Make documents known to the ledger; returns their ids."""
    root = tmp_path / "docs"
    root.mkdir()
    register_source(engine, "docs", "folder", str(root))
    for name in names:
        (root / name).write_text("x")
    observe(engine, [Observation("docs", name.encode(), Stat(1, 1, 1)) for name in names])
    with engine.connect() as connection:
        found = dict(connection.execute(select(documents.c.path, documents.c.id)).all())
    return [found[name] for name in names]


def test_what_people_judged_is_a_test_set_that_can_be_kept(serve, evaluate, engine, tmp_path, monkeypatch):
    ids = indexed(engine, tmp_path, "0.md", "1.md")
    monkeypatch.setattr("ops.cli.feedback.PAGE", 2)
    judged(engine, "What is the boiler code?", "down", ids[0])
    judged(engine, "What is the boiler code?", "up", ids[0])
    judged(engine, "What is the boiler code?", "down", ids[1])
    judged(engine, "Who cuts the hedge?", "up", ids[1])
    judged(engine, "Who cuts the hedge?", "up", f"{DOC}9")  # there is no such document any more
    judged(engine, "Who cuts the hedge?", "up", None, answer="Meyer Gardens")
    kept = tmp_path / "kept"
    with serve(House()) as address:
        words = ("--from-feedback", "--mode", "lexical", "--save", str(kept))
        code, out, told = evaluate(address, *words)
        again = json.loads(evaluate(address, str(kept), "--mode", "lexical", "--json")[1])

    assert code == 0
    assert lines(out)[0] == "2 questions"
    assert lines(out)[-1] == (
        "judged by people: hits 3 good, 1 not (1 of documents that are gone); answers 1 good, 0 not (100.0% good)"
    )
    assert str(kept) in told
    assert (kept / "qrels/test.tsv").read_text().splitlines()[1:] == [
        "f1\tdocs/0.md\t1",
        "f1\tdocs/1.md\t0",
        "f2\tdocs/1.md\t1",
    ]
    assert (again["questions"], again["runs"]["lexical"]["ndcg"]) == (2, 1.0)


def test_without_feedback_or_with_two_test_sets_there_is_nothing_to_measure(serve, evaluate, tmp_path):
    with serve(House()) as address:
        _, _, nobody = evaluate(address, "--from-feedback")
    _, _, neither = evaluate("http://127.0.0.1:9")
    _, _, both = evaluate("http://127.0.0.1:9", questions(tmp_path, BOILER), "--from-feedback")

    assert "Nobody has judged a hit" in nobody
    assert "one of the three" in neither
    assert neither == both


PARTS = {
    "boiler.md": "A boiler in the cellar is served every March by Heller and Sons, who keep the log in a red folder.",
    "hedge.md": "Meyer Gardens cut the hedge along the street in June, and carry the cuttings to the yard in Neuss.",
    "roof.md": "In autumn 2019 storm Eberhard tore eleven tiles from the roof, and an insurer paid for scaffolding.",
}
ASKED = {
    "boiler": "Which firm looks after the boiler?",
    "hedge": "Who trims the hedge?",
    "roof": "What did the storm do to the roof?",
}


def curious(messages: list[dict[str, str]]) -> Iterator[str]:
    """Asks what a person would ask about the passage that it is given."""
    yield next(question for word, question in ASKED.items() if word in messages[-1]["content"])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, qdrant_url):
    """Real files through the real pipeline; a search by words over them."""
    home, collection = tmp_path_factory.mktemp("corpus"), f"test-{uuid4().hex}"
    with Endpoint() as endpoint:
        product = Product(home, qdrant_url, collection, endpoint)
        for name, text in PARTS.items():
            product.write(name, f"# Notes\n\n{text}\n")
        product.write("short.md", "Too short.")
        product.scan()
        product.settle()
        where = {"qdrant_url": qdrant_url, "collection": collection}
        index = QdrantSearch(IndexSettings(**where), timeout=10)

        def start(chat: str | None) -> Any:
            queries = InProcess(answering(index, chat=chat))
            return served(make_app(api_settings(home, **where), product.engine, queries=queries))

        yield start
        product.close()


def test_a_model_writes_questions_about_passages_of_all_documents(corpus, evaluate, tmp_path):
    kept = tmp_path / "kept"
    words = ("--synthesize", "3", "--mode", "lexical", "--json")
    with ChatServer(curious) as chat, corpus(chat.url) as address:
        code, out, told = evaluate(address, *words, "--save", str(kept), "--parallel", "2")
        same = json.loads(evaluate(address, *words)[1])
    report = json.loads(out)
    saved = {one.text: one for one in read_questions(kept)}

    assert code == 0, told
    assert report["synthesis"] == {"written": 3, "faults": {}, "generated_by": "gpt-4o-mini"}
    assert report["runs"]["lexical"]["span_recall"] == 1.0
    assert same["runs"]["lexical"]["ndcg"] == report["runs"]["lexical"]["ndcg"]
    assert {(text, *one.grades) for text, one in saved.items()} == {
        (question, f"docs/{word}.md") for word, question in ASKED.items()
    }
    assert saved[ASKED["roof"]].spans == (PARTS["roof.md"],)
    assert "Too short" not in json.dumps(chat.asked)


def test_without_a_model_it_says_what_to_set(corpus, evaluate):
    with corpus(None) as address:
        code, _, told = evaluate(address, "--synthesize", "3")

    assert code == 1
    assert "UPWELL_CHAT_URL" in told
    assert "UPWELL_CHAT_MODEL" in told


def test_replies_that_are_no_questions_are_counted_by_what_is_wrong(corpus, evaluate):
    with ChatServer(says("I am happy to help.")) as chat, corpus(chat.url) as address:
        code, _, told = evaluate(address, "--synthesize", "3")

    assert code == 1
    assert "No question came out of 3 passages (no question: 3)" in told
    assert len(chat.asked) == 6  # each is tried twice


def test_a_model_that_goes_away_does_not_take_its_questions_along(corpus, evaluate, tmp_path):
    def tired(messages: list[dict[str, str]]) -> Iterator[str]:
        chat.status = 503
        yield from curious(messages)

    with ChatServer(tired) as chat, corpus(chat.url) as address:
        code, out, told = evaluate(
            address, "--synthesize", "3", "--mode", "lexical", "--json", "--save", str(tmp_path / "kept")
        )

    assert (code, json.loads(out)["synthesis"]["written"]) == (0, 1)
    assert "stopped after 1 questions" in told
    assert len(read_questions(tmp_path / "kept")) == 1


def test_a_folder_in_use_is_told_before_a_model_costs_anything(corpus, evaluate, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with ChatServer(curious) as chat, corpus(chat.url) as address:
        code, _, told = evaluate(address, "--synthesize", "3", "--save", str(tmp_path))

    assert (code, chat.asked) == (1, [])
    assert "not empty" in told
