"""Questions that are asked in a loop look only at the documents that they are about, however many others there are."""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, insert

from ops.api import ledger_views
from ops.api.ledger_views import LedgerViews
from ops.api.seldom import Seldom
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents
from workers.contract.states import State
from workers.housekeeping.books import Books
from workers.indexing.handback import Ended, hand_back
from workers.indexing.ledger import Ledger

RECIPE = "m"
TIMES = st.sampled_from([None, 1.0, 4e9])  # never, long ago, far ahead
ROWS = st.fixed_dictionaries(
    {
        "state": st.sampled_from([str(state) for state in State]),
        "wanted": st.sampled_from(["present", "absent"]),
        "desired_generation": st.integers(1, 2),
        "indexed_generation": st.integers(1, 2),
        "recipe": st.sampled_from([None, "a", RECIPE, "z"]),
        "lease_until": TIMES,
        "verify_at": TIMES,
        "next_try_at": TIMES,
        "bulk": st.booleans(),
        "observed_at": st.sampled_from([1.0, 2.0]),
        "vectors_pending": st.integers(0, 1),
    }
)


@pytest.fixture
def engine(either_ledger_url):
    engine = schema.open_ledger(either_ledger_url)
    register_source(engine, "docs", "folder", "/docs")
    yield engine
    engine.dispose()


def fill(engine, rows):
    fixed = {"source": "docs", "raw_path": b"x", "token": 1, "attempts": 0, "chunks": 0, "bytes": 0, "tokens": 0}
    with engine.begin() as connection:
        connection.execute(delete(documents))
        for number, values in enumerate(rows):
            connection.execute(insert(documents).values(id=f"d{number}", path=f"p{number}", **fixed, **values))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=8), recipe=st.sampled_from([None, RECIPE]))
def test_what_the_sweep_finds_is_what_a_worker_may_claim(engine, rows, recipe):
    fill(engine, rows)
    ledger = Ledger(engine, "worker")

    due = dict(ledger.due(recipe, 100))

    if recipe is not None:  # a claim is made under a recipe
        claimable = {f"d{number}" for number in range(len(rows)) if ledger.claim(f"d{number}", recipe) is not None}
        assert set(due) == claimable
    assert list(due.values()) == sorted(due.values()), "live ones come first"
    assert all(due[key] == rows[int(key[1:])]["bulk"] for key in due)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=4))
def test_the_index_is_converged_when_every_document_is_in_a_final_state_and_has_its_vectors(engine, rows):
    fill(engine, rows)
    with engine.begin() as connection:
        connection.execute(schema.sources.update().values(scanned_at=1.0))
    final = {"ready", "parked", "empty", "skipped", "held", "deleted"}

    expected = all(each["state"] in final and each["vectors_pending"] == 0 for each in rows)

    assert LedgerViews(engine).converged() == expected


@contextmanager
def statements(engine):
    found = []

    def note(_connection, _cursor, statement, parameters, *_):
        found.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


def test_no_question_of_a_loop_reads_every_document(tmp_path):
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    register_source(engine, "docs", "folder", "/docs")
    observe(engine, [Observation("docs", b"a.md", Stat(1, 2, 3))])
    ledger, views = Ledger(engine, "worker"), LedgerViews(engine)
    with statements(engine) as asked:
        ledger.due(RECIPE, 10)
        ledger.live_due(10)
        ledger.has_embeddings_due()
        ledger.claim_embeddings(10)
        hand_back(engine, Ended(lives=("a1/index/1",), runs=("a0",)))  # at each start
        Books(engine).at_rest()
        views.converged()
        views.by_path("a.md")
        views.documents(limit=10)
        views.documents(limit=10, path="a")
    questions = [(text, values) for text, values in asked if "documents" in text and text.startswith(("SELECT", "UPD"))]
    assert len(questions) >= 10

    with engine.connect() as connection:
        for text, values in questions:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
            assert not [step for step in plan if step.startswith("SCAN documents") and "INDEX" not in step], text
            assert "path >=" not in text or "path>? AND path<?" in plan[0], "a beginning is looked up, not looked for"

    engine.dispose()


PATHS = ["Übersicht.md", "a/Invoice 7.pdf", "a/invoice_8.pdf", "b/50%.md", "b/5000.md", "invoices/x.md"]
FOUND = [
    ({"contains": "INVOICE"}, [1, 2, 5]),
    ({"contains": "übersicht"}, [0]),
    ({"contains": "invoice_"}, [2]),
    ({"contains": "50%"}, [3]),
    ({"contains": "pdf", "path": "a/Inv"}, [1]),
    ({"contains": "zebra"}, []),
    ({"path": "a/"}, [1, 2]),
    ({"path": "A/"}, []),
    ({"path": "b/50%*"}, [3]),
    ({"path": "invoices/x.md"}, [5]),
]


@pytest.mark.parametrize("looked_at", [2, 100])
def test_documents_are_found_by_a_piece_or_the_beginning_of_their_path_page_after_page(engine, monkeypatch, looked_at):
    monkeypatch.setattr(ledger_views, "LOOKED_AT", looked_at)
    observe(engine, [Observation("docs", path.encode(), Stat(1, 2, 3)) for path in PATHS])
    views = LedgerViews(engine)
    for asked, found in FOUND:
        told, cursor, pages = [], None, 0
        while cursor is not None or not pages:
            page, cursor = views.documents(limit=1, cursor=cursor, **asked)
            told += [each["path"] for each in page]
            pages += 1

        assert sorted(told) == sorted(PATHS[number] for number in found), asked
        assert pages <= len(PATHS) + 1


def test_what_is_cheap_to_count_is_counted_for_every_reader():
    answers = itertools.count()
    figures = Seldom(lambda: next(answers), clock=lambda: 7.0)

    assert [figures(), figures(), figures()] == [0, 1, 2]


def test_what_is_dear_to_count_is_counted_for_at_most_a_fiftieth_of_the_time():
    now = [100.0]
    answers = itertools.count()

    def ask():
        now[0] += 2.0
        return next(answers)

    figures = Seldom(ask, clock=lambda: now[0])

    assert figures() == 0
    now[0] += 99.0
    assert figures() == 0
    now[0] += 1.5
    assert figures() == 1


@pytest.mark.parametrize("before", ["queued", "ready"], ids=["while it was being done", "before it was known"])
def test_counts_beside_the_verdict_that_all_is_done_were_not_taken_before_it_was(tmp_path, before):
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    register_source(engine, "docs", "folder", "/docs")
    observe(engine, [Observation("docs", b"a.md", Stat(1, 2, 3))])
    ticks = itertools.count()
    views = LedgerViews(engine)
    views.states = Seldom(views._states, clock=lambda: next(ticks))  # every count is dear
    with engine.begin() as connection:
        connection.execute(documents.update().values(state=before))
    assert not views.converged()
    assert views.counted(converged=False)[0] == {before: 1}

    observe(engine, [Observation("docs", b"b.md", Stat(1, 2, 3))])
    with engine.begin() as connection:
        connection.execute(schema.sources.update().values(scanned_at=1.0))
        connection.execute(documents.update().values(state="ready"))

    assert views.states() == {before: 1}
    assert views.converged()
    assert views.counted(converged=True)[0] == {"ready": 2}
    engine.dispose()


def test_an_answer_that_failed_is_asked_for_again():
    answers = iter([ZeroDivisionError(), 5])

    def ask():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    figures = Seldom(ask)
    with pytest.raises(ZeroDivisionError):
        figures()
    assert figures() == 5
