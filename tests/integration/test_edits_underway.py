"""A file is edited under the very attempt that indexes it, before each of its calls: the newest edition stays."""

from __future__ import annotations

import pytest

from tests.support.endpoint import Endpoint
from tests.support.fuse import Fuse
from tests.support.product import SOURCE, Product
from workers.contract.identity import document_id

RED, BLUE, OLD = "# Red\n\nOne fish swims.\n", "# Blue\n\nTwo fish rest.\n", "# Old\n\nNo fish is left.\n"
EDITIONS = {
    "a chunk goes and another moves twice": (RED + BLUE, BLUE, OLD + RED + BLUE),
    "there and back": (RED + BLUE, BLUE + RED, RED + BLUE),
    "emptied": (RED, RED + BLUE, ""),
}
CALLS = range(14)


@pytest.fixture
def fuse():
    return Fuse()


@pytest.fixture
def product(tmp_path, qdrant_url, collection, fuse):
    with Endpoint() as endpoint:
        product = Product(tmp_path, qdrant_url, collection, endpoint, wrap=fuse.wrap)
        yield product
        product.close()


@pytest.mark.parametrize("editions", EDITIONS.values(), ids=EDITIONS.keys())
def test_whenever_an_attempt_is_overtaken_by_an_edit_the_index_ends_equal_to_the_file(product, fuse, editions):
    first, second, third = editions
    names = [f"at-call-{number}.md" for number in CALLS]
    for name in names:
        product.write(name, first)
    product.scan()
    product.settle()
    for name in names:
        product.write(name, second)
    product.scan()

    for number, name in zip(CALLS, names, strict=True):
        fuse.freeze_at(number, lambda name=name: product.worker.look(document_id(SOURCE, name)))
        product.write(name, third)
        fuse.thaw()
    product.scan()
    product.settle()

    report = product.checker.check()
    assert report.findings == [], str(report)
