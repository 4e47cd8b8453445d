"""What `GET /v1/status` may tell twice, and what it must look up for everybody who asks."""

from __future__ import annotations

import pytest

from ops.api.ledger_views import LedgerViews
from ops.api.settings import ApiSettings
from ops.api.status import SHARED_S, Status
from workers.contract import schema
from workers.contract.intake import Observation, Stat, observe, register_source
from workers.contract.schema import documents


@pytest.fixture
def ledger(tmp_path):
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    register_source(engine, "docs", "folder", "/docs")
    with engine.begin() as connection:
        connection.execute(schema.sources.update().values(scanned_at=1.0))
    yield engine
    engine.dispose()


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def status(ledger, clock, tmp_path):
    nobody = "127.0.0.1:9"
    settings = ApiSettings(
        qdrant_url=f"http://{nobody}", broker_url=f"redis://{nobody}/0", data_dir=tmp_path, api_expects_watcher=False
    )
    found = Status(settings, LedgerViews(ledger), ledger, clock=lambda: clock[0])
    yield found
    found.close()


def told(status):
    answer = status.status()
    return answer["converged"], answer["documents"]


def note(ledger, name):
    observe(ledger, [Observation("docs", name, Stat(1, 2, 3))])


def finish(ledger):
    with ledger.begin() as connection:
        connection.execute(documents.update().values(state="ready"))


def test_who_asks_soon_after_another_has_the_same_figures_while_documents_are_on_their_way(status, ledger, clock):
    note(ledger, b"a.md")
    assert told(status) == (False, {"queued": 1})

    note(ledger, b"b.md")

    assert told(status) == (False, {"queued": 1})
    clock[0] += SHARED_S
    assert told(status) == (False, {"queued": 2})


def test_that_all_is_done_is_said_at_once_with_figures_as_young(status, ledger):
    note(ledger, b"a.md")
    told(status)

    finish(ledger)

    assert told(status) == (True, {"ready": 1})


def test_the_first_document_on_its_way_after_a_rest_shows_at_once(status, ledger):
    note(ledger, b"a.md")
    told(status)
    finish(ledger)
    told(status)

    note(ledger, b"b.md")

    assert told(status) == (False, {"ready": 1, "queued": 1})
