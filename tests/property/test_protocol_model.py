"""Every schedule of the small model ends with the right chunks, and without a protection some schedule does not."""

from __future__ import annotations

import pytest

from tests.property.protocol_model import HISTORIES, NEEDED, search


@pytest.mark.parametrize("history", HISTORIES)
def test_every_schedule_ends_with_the_chunks_of_the_source(history):
    found = search(HISTORIES[history])

    assert found.counter_example is None
    assert found.quiet > 0  # the search did come to ends that could have been wrong
    assert found.states > 10_000


@pytest.mark.parametrize("protection", NEEDED)
def test_without_a_protection_some_schedule_ends_wrong(protection):
    found = search(HISTORIES["edit"], frozenset([protection]))

    assert found.counter_example is not None
