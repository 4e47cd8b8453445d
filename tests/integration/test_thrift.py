"""No text is paid for twice, and an edit costs what it changed: real files, parser, ledger and Qdrant."""

from __future__ import annotations

import random
import shutil

import pytest
from sqlalchemy import update

from tests.support.endpoint import Endpoint
from tests.support.road import Road
from workers.adapters import qdrant
from workers.contract.schema import documents
from workers.contract.settings import IndexSettings
from workers.contract.states import State

WORDS = ["".join(random.Random(n).choices("abcdefghijklm", k=2 + n % 8)) for n in range(500)]
PAGE = "# Boiler\n\nIt must be bled every second winter.\n\n## Pump\n\nThe pump stands beside it and hums.\n"
OTHER = "# Garden\n\nThe hedge is cut in June.\n"


@pytest.fixture
def endpoint():
    with Endpoint(dimensions=8) as running:
        yield running


@pytest.fixture
def road(tmp_path, endpoint, qdrant_url, collection):
    client = qdrant.connect(IndexSettings(qdrant_url=qdrant_url))
    qdrant.create_collection(client, collection, 8, qdrant_url)
    made = Road(tmp_path, endpoint, index=qdrant.QdrantIndex(client, collection, qdrant_url))
    yield made
    made.close()
    client.delete_collection(collection)
    client.close()


def write(road, name: str, text: str, source: str = "docs") -> None:
    path = road.home / source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    road.see([name], source=source)


def embedded(road) -> int:
    """Return the stored points, all of which must have their vector."""
    assert road.states() <= {State.READY, State.DELETED}
    return road.index.count()


def test_a_copy_costs_nothing(road, endpoint):
    write(road, "a.md", PAGE)
    paid = endpoint.counters.paid_texts
    assert paid == 2

    write(road, "b.md", PAGE)

    assert endpoint.counters.requests == 1
    assert (embedded(road), endpoint.counters.paid_texts) == (4, paid)


def test_a_rename_and_a_moved_tree_cost_nothing(road, endpoint):
    write(road, "old/a.md", PAGE)
    write(road, "old/b.md", OTHER)
    requests = endpoint.counters.requests

    (road.root / "old").rename(road.root / "new")
    road.see(["new/a.md", "new/b.md", "old/a.md", "old/b.md"])

    assert endpoint.counters.requests == requests
    assert embedded(road) == 3


def test_a_revert_costs_nothing(road, endpoint):
    write(road, "a.md", PAGE)
    write(road, "a.md", OTHER)
    requests = endpoint.counters.requests

    write(road, "a.md", PAGE)

    assert endpoint.counters.requests == requests
    assert embedded(road) == 2


def test_a_move_between_sources_costs_nothing(road, endpoint):
    write(road, "a.md", PAGE)
    requests = endpoint.counters.requests

    shutil.move(road.root / "a.md", road.home / "other" / "a.md")
    road.see(["a.md"], source="other")
    road.see(["a.md"])

    assert endpoint.counters.requests == requests
    assert embedded(road) == 2


def test_a_file_that_comes_back_costs_nothing(road, endpoint):
    write(road, "a.md", PAGE)
    requests = endpoint.counters.requests
    (road.root / "a.md").unlink()
    road.see(["a.md"])
    assert road.index.count() == 0

    write(road, "a.md", PAGE)

    assert endpoint.counters.requests == requests
    assert embedded(road) == 2


def test_a_rebuilt_qdrant_costs_nothing(road, endpoint, qdrant_url, collection):
    write(road, "a.md", PAGE)
    write(road, "b.md", OTHER)
    requests = endpoint.counters.requests
    client = qdrant.connect(IndexSettings(qdrant_url=qdrant_url))
    client.delete_collection(collection)
    qdrant.create_collection(client, collection, 8, qdrant_url)
    client.close()

    assert road.worker.ledger.dirty_all("c") == 2
    for document, _ in road.worker.ledger.due("recipe", 10):
        road.worker.look(document)
    road.embedding.drain()

    assert endpoint.counters.requests == requests
    assert embedded(road) == 3


def test_a_line_that_becomes_a_heading_and_back_costs_nothing_and_is_shown_as_it_is_now(road, endpoint):
    """The embedded text stays the same, heading path and all; which part of it is content does not."""
    plain, headed = "Boiler\n\nThe code of the boiler is 4711.\n", "# Boiler\n\nThe code of the boiler is 4711.\n"

    write(road, "house.md", plain)
    first = shown(road)
    write(road, "house.md", headed)
    second = shown(road)
    write(road, "house.md", plain)

    assert first == {(None, "Boiler\n\nThe code of the boiler is 4711.")}
    assert second == {("Boiler", "The code of the boiler is 4711.")}
    assert shown(road) == first
    assert endpoint.counters.paid_texts == 1


def shown(road) -> set[tuple[str | None, str]]:
    """Return heading and content of every stored chunk."""
    points, _ = road.index._client.scroll(road.index._collection, limit=100)
    return {(point.payload["metadata"]["heading"], point.payload["content"]) for point in points}


def test_a_lost_ledger_costs_nothing(road, endpoint, tmp_path):
    write(road, "a.md", PAGE)
    requests = endpoint.counters.requests
    with road.engine.begin() as connection:
        connection.execute(documents.delete())

    road.see(["a.md"])

    assert endpoint.counters.requests == requests
    assert embedded(road) == 2


def test_a_touch_and_a_new_place_in_the_document_cost_nothing(road, endpoint):
    write(road, "a.md", PAGE)
    requests = endpoint.counters.requests
    (road.root / "a.md").touch()
    road.see(["a.md"])
    boiler, pump = PAGE.split("\n## Pump")
    write(road, "a.md", OTHER + "\n" + boiler + "\n## Pump" + pump)

    assert endpoint.counters.requests == requests + 1
    assert endpoint.counters.paid_texts == 3
    assert embedded(road) == 3


def test_a_change_of_the_recipe_embeds_only_what_comes_out_differently(road, endpoint):
    write(road, "a.md", PAGE)
    requests = endpoint.counters.requests
    with road.engine.begin() as connection:
        connection.execute(update(documents).values(recipe="older", version=None))

    for document, _ in road.worker.ledger.due("recipe", 10):
        road.worker.look(document)
    road.embedding.drain()

    assert endpoint.counters.requests == requests
    assert embedded(road) == 2


def long_page(characters: int) -> str:
    """Return Markdown with a heading every 200,000 characters."""
    draw = random.Random(1)
    parts, size = [], 0
    while size < characters:
        if size // 200_000 >= len([part for part in parts if part.startswith("#")]):
            parts.append(f"# Part {size // 200_000}")
        sentences = (" ".join(draw.choices(WORDS, k=draw.randint(5, 20))).capitalize() + "." for _ in range(5))
        parts.append(" ".join(sentences))
        size += len(parts[-1])
    return "\n\n".join(parts) + "\n"


def test_an_edit_in_a_megabyte_and_an_insertion_at_its_top_embed_at_most_three_chunks_each(tmp_path, endpoint):
    road = Road(tmp_path, endpoint)
    try:
        text = long_page(1_000_000)
        write(road, "long.md", text)
        first = endpoint.counters.paid_texts
        assert first > 1000

        middle = text.index(". ", len(text) // 2)
        edited = text[:middle] + " and something else" + text[middle:]
        write(road, "long.md", edited)
        second = endpoint.counters.paid_texts
        assert 1 <= second - first <= 3

        write(road, "long.md", "A sentence that nobody expected comes first.\n\n" + edited)
        assert 1 <= endpoint.counters.paid_texts - second <= 3
        assert road.states() == {State.READY}
    finally:
        road.close()
