"""Whoever searches while documents are edited finds what an edit does not touch, at every moment."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from tests.support.endpoint import Endpoint
from tests.support.product import Product

SECTIONS = [
    f"# Part {number}\n\nThe {word} stays as it is.\n" for number, word in enumerate(("boiler", "kettle", "sail"))
]


class Reader:
    """Reads the texts of the collection over and over, and keeps the fewest of the untouched ones that it ever saw."""

    def __init__(self, product: Product) -> None:
        self._url = f"{product.checker.qdrant_url}/collections/{product.collection}/points/scroll"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.reads = 0
        self.fewest: set[str] = {"boiler", "kettle", "sail"}
        self.both_versions = 0

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                points = client.post(self._url, json={"limit": 100, "with_payload": True}).json()["result"]["points"]
                texts = " ".join(point["payload"]["content"] for point in points)
                self.fewest = {word for word in self.fewest if word in texts}
                self.reads += 1


@pytest.fixture
def product(tmp_path, qdrant_url, collection):
    with Endpoint() as endpoint:
        product = Product(tmp_path, qdrant_url, collection, endpoint)
        product.write("guide.md", "\n".join(SECTIONS))
        product.scan()
        product.settle()
        yield product
        product.close()


def test_what_an_edit_does_not_touch_is_found_all_the_while(product):
    with Reader(product) as reader:
        for number in range(20):
            product.write("guide.md", "\n".join([f"# Changed {number}\n\nEdition {number}.\n", *SECTIONS]))
            product.scan()
            product.settle()

    assert reader.reads > 20
    assert reader.fewest == {"boiler", "kettle", "sail"}
    assert product.checker.check().findings == []
