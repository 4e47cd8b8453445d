"""What crosses the broker is a hint of a known shape; anything else is dropped, and never repeated in an error."""

from __future__ import annotations

from uuid import uuid4

import pytest

from workers.contract.messages import (
    EmbeddingsPending,
    LookAtDocument,
    LookAtDocuments,
    MessageRejected,
    Queue,
    decode,
    encode,
    route,
)
from workers.indexing.tasks import _decoded

LOOK = LookAtDocument(document_id=uuid4())
LOOK_TOGETHER = LookAtDocuments(document_ids=(uuid4(), uuid4()))


@pytest.mark.parametrize(
    "message", [LOOK, LookAtDocument(document_id=uuid4(), bulk=True), LOOK_TOGETHER, EmbeddingsPending()]
)
def test_a_message_comes_out_as_it_went_in(message):
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "raw",
    [
        encode(LOOK) | {"v": 2},
        encode(LOOK) | {"added_in_a_later_release": True},
        encode(LOOK) | {"document_id": "../../etc/passwd"},
        encode(LOOK_TOGETHER) | {"document_ids": ["../../etc/passwd"]},
        encode(LOOK_TOGETHER) | {"document_ids": []},
        encode(LOOK_TOGETHER) | {"document_ids": [str(uuid4())] * 1000},
        {"kind": "document.drop"},
        {},
        [],
        "text",
        None,
    ],
    ids=[
        "a later version",
        "a later field",
        "no id",
        "no ids",
        "no document",
        "too many",
        "another kind",
        "empty",
        "a list",
        "a text",
        "nothing",
    ],
)
def test_what_no_release_of_this_contract_sends_is_rejected_and_costs_no_worker(raw):
    with pytest.raises(MessageRejected) as rejected:
        decode(raw)

    assert "passwd" not in str(rejected.value)
    assert _decoded(raw) is None


def test_a_backfill_has_a_queue_of_its_own():
    bulk = LookAtDocument(document_id=uuid4(), bulk=True)
    routes = [route(message)[1] for message in (LOOK, bulk, LOOK_TOGETHER, EmbeddingsPending())]

    assert routes == [Queue.LIVE, Queue.BULK, Queue.BULK, Queue.EMBED]
