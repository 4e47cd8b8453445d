"""Whoever reads while documents are edited finds what an edit does not touch, and a complete edition, at any moment."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import httpx
import pytest

from tests.support.endpoint import Endpoint
from tests.support.product import Product

SECTIONS = [
    f"# Part {number}\n\nThe {word} stays as it is.\n" for number, word in enumerate(("boiler", "kettle", "sail"))
]


class Reader:
    """Reads all texts over and over: which untouched words did it always see, how often was no edition complete?"""

    def __init__(self, product: Product) -> None:
        self._url = f"{product.checker.qdrant_url}/collections/{product.collection}/points/scroll"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.reads = 0
        self.fewest: set[str] = {"boiler", "kettle", "sail"}
        self.gaps = 0
        self.last: set[str] = set()

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
                editions = set(re.findall(r"Edition (\d+)\.", texts))
                self.gaps += not editions & set(re.findall(r"End of (\d+)\.", texts))
                self.last = editions
                self.reads += 1


def edit(product: Product, number: int) -> None:
    first, last = f"# Changed {number}\n\nEdition {number}.\n", f"# Last {number}\n\nEnd of {number}.\n"
    product.write("guide.md", "\n".join([first, *SECTIONS, last]))
    product.scan()
    product.settle()


@pytest.fixture
def product(tmp_path, qdrant_url, collection):
    with Endpoint() as endpoint:
        product = Product(tmp_path, qdrant_url, collection, endpoint)
        edit(product, 0)
        yield product
        product.close()


def test_a_reader_finds_what_an_edit_does_not_touch_and_a_complete_edition_of_what_it_does_all_the_while(product):
    with Reader(product) as reader:
        for number in range(1, 20):
            edit(product, number)
        before = reader.reads
        while reader.reads < before + 2:  # one that began after the last edit was done
            time.sleep(0.001)

    assert reader.reads > 20
    assert reader.fewest == {"boiler", "kettle", "sail"}
    assert reader.gaps == 0
    assert reader.last == {"19"}
    assert product.checker.check().findings == []
