"""`upwell contract check` sees what a stranger would see, and says which promise is broken."""

from __future__ import annotations

import json

import numpy as np
import pytest
from qdrant_client import models as m
from typer.testing import CliRunner

from ops.cli.contract import Reader, examine
from ops.cli.errors import CliError
from ops.cli.main import command_line
from tests.contract.test_index import point
from workers.adapters import qdrant
from workers.contract.settings import IndexSettings

VECTOR = np.array([1.0, 0.0, 0.0], dtype=np.float32)


@pytest.fixture
def index(qdrant_url, collection):
    client = qdrant.connect(IndexSettings(qdrant_url=qdrant_url))
    physical = f"{collection}-r1"
    qdrant.create_collection(client, physical, 3, qdrant_url)
    qdrant.point_alias(client, collection, physical, qdrant_url)
    yield qdrant.QdrantIndex(client, physical, qdrant_url), client
    client.delete_collection(physical)


def verdicts(url: str, collection: str) -> dict[str, str]:
    checks, _, _ = examine(Reader(url, None), collection)
    return {check.name: check.verdict for check in checks}


def test_what_upwell_writes_keeps_every_promise(qdrant_url, collection, index):
    index[0].put([point(0, vector=VECTOR)], 1)

    assert set(verdicts(qdrant_url, collection).values()) == {"ok"}


def test_points_that_wait_for_vectors_are_a_warning(qdrant_url, collection, index):
    assert verdicts(qdrant_url, collection)["points"] == "warn"
    index[0].put([point(0)], 1)

    assert verdicts(qdrant_url, collection)["vectors"] == "warn"


@pytest.mark.parametrize(
    ("payload", "broken"),
    [({"content": "x"}, "payload"), ({"_node_type": "x", "node_info": {}}, "other keys")],
)
def test_a_point_of_another_hand_is_found(qdrant_url, collection, index, payload, broken):
    made = point(0).payload | {"embedded": True, "token": 1} if broken == "other keys" else {}
    one = m.PointStruct(id=7, vector={"": [1.0, 0.0, 0.0]}, payload=made | payload)
    index[1].upsert(index[0].collection, [one], wait=True)

    assert verdicts(qdrant_url, collection)[broken] == "fail"


def test_a_collection_of_another_shape_is_told_apart(qdrant_url, collection):
    client = qdrant.connect(IndexSettings(qdrant_url=qdrant_url))
    client.create_collection(collection, {"text": m.VectorParams(size=3, distance=m.Distance.COSINE)})
    try:
        found = verdicts(qdrant_url, collection)
    finally:
        client.delete_collection(collection)

    assert (found["dense vector"], found["sparse vector"], found["collection"]) == ("fail", "fail", "warn")


def test_the_command_prints_settings_and_ends_with_1_when_something_fails(qdrant_url, collection, index, monkeypatch):
    monkeypatch.setenv("UPWELL_COLLECTION", collection)
    index[0].put([point(0, vector=VECTOR)], 1)
    done = CliRunner().invoke(command_line(), ["contract", "check", qdrant_url, "--json"])

    assert done.exit_code == 0
    assert (
        f'collectionName: "{collection}-r1"' in json.loads(done.stdout)["readers"]["LangChain.js (@langchain/qdrant)"]
    )
    monkeypatch.setenv("UPWELL_COLLECTION", "nothing-of-this-name")
    assert CliRunner().invoke(command_line(), ["contract", "check", qdrant_url]).exit_code == 1


def test_an_address_that_does_not_answer_is_said():
    with pytest.raises(CliError, match="UPWELL_QDRANT_URL"):
        examine(Reader("http://127.0.0.1:9", None), "upwell")
