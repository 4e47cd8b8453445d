"""A refused text is found alone, in few calls, and takes no other with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.adapters.embeddings import InputRefused
from workers.indexing.bisect import bisect


class Endpoint:
    """Refuses a batch that has a poisoned text, or that is longer than ``most``."""

    def __init__(self, poison: set[int], most: int = 10_000) -> None:
        self.poison, self.most = poison, most
        self.calls, self.paid = 0, []

    def ask(self, part):
        self.calls += 1
        if len(part) > self.most or self.poison & set(part):
            raise InputRefused("no")
        self.paid += part
        return [np.array([float(n)], dtype=np.float32) for n in part], len(part)


@pytest.mark.parametrize("place", [0, 1, 99, 100, 101, 198, 199])
def test_one_poisoned_text_among_200_costs_at_most_twice_log2_extra_calls(place):
    endpoint = Endpoint({place})

    found, tokens = bisect(range(200), endpoint.ask)

    assert [text for text, vector in found if vector is None] == [place]
    assert endpoint.calls - 1 <= 2 * math.log2(200)
    assert tokens == 199


@given(st.integers(1, 80), st.data())
def test_every_text_gets_its_vector_or_is_refused_and_none_is_paid_twice(count, data):
    poison = data.draw(st.sets(st.integers(0, count - 1)))
    endpoint = Endpoint(poison)

    found, _ = bisect(range(count), endpoint.ask)

    assert sorted(text for text, _ in found) == list(range(count))
    assert {text for text, vector in found if vector is None} == poison
    assert all(vector[0] == text for text, vector in found if vector is not None)
    assert len(endpoint.paid) == len(set(endpoint.paid)) == count - len(poison)


def test_a_batch_that_is_refused_for_its_size_loses_no_text():
    endpoint = Endpoint(set(), most=3)

    found, _ = bisect(range(50), endpoint.ask)

    assert all(vector is not None for _, vector in found)


def test_a_batch_full_of_poison_does_not_explode():
    endpoint = Endpoint(set(range(200)))

    bisect(range(200), endpoint.ask)

    assert endpoint.calls < 2 * 200
