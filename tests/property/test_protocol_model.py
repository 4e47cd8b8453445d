"""Every schedule of the small model keeps its promises, and without any one protection some schedule breaks one.

The numbers of states are those of ADR 0001: a change of the model shows here.
"""

from __future__ import annotations

import pytest

from tests.property.exhaustive import Rule, Space, search
from tests.property.protocol_model import ANY_TIME, HISTORIES, ON_TIME, PROTECTIONS, RESUMED, Model

STATES = {
    (ON_TIME, "create"): 7_461,
    (ON_TIME, "edit"): 124_882,
    (ON_TIME, "edit twice"): 844_462,
    (ON_TIME, "revert"): 687_927,
    (ON_TIME, "delete"): 60_317,
    (ON_TIME, "recreate"): 272_556,
    (RESUMED, "create"): 1_986,
    (RESUMED, "edit"): 74_914,
    (RESUMED, "edit twice"): 939_466,
    (RESUMED, "revert"): 692_767,
    (RESUMED, "delete"): 11_045,
    (RESUMED, "recreate"): 95_330,
    (ANY_TIME, "create"): 9_636,
    (ANY_TIME, "edit"): 264_334,
    (ANY_TIME, "edit twice"): 1_806_166,
    (ANY_TIME, "revert"): 931_129,
    (ANY_TIME, "delete"): 64_564,
    (ANY_TIME, "recreate"): 434_878,
}


@pytest.mark.parametrize(("world", "history"), STATES)
def test_no_schedule_breaks_a_promise(world, history):
    found = Model(HISTORIES[history], world).search()

    assert found.schedule is None
    assert found.states == STATES[world, history]
    assert found.marked > 0  # it did come to states in which something could have been wrong


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_without_any_one_protection_some_schedule_breaks_a_promise(protection):
    _, world, history = PROTECTIONS[protection]

    found = Model(HISTORIES[history], world, frozenset([protection])).search()

    assert found.schedule is not None


def test_the_search_visits_every_state_and_tells_the_shortest_way_to_a_bad_one():
    """Two counters to five, and one of them may jump."""
    count = Rule(0, 0, lambda a, _: [("one", a + 1, a + 1)] if a < 5 else [])
    jump = Rule(0, 1, lambda a, b: [("jump", a, b + 2)] if a and b + 2 <= 5 else [])

    def bad(space, keys):
        return space.holds(keys, 0, 1, lambda a, b: (a, b) == (3, 4)), len(keys)

    def never(space, keys):
        return keys == -1, len(keys)

    assert search(Space(2, [count, jump]), (0, 0), never).states == 1 + 5 * 3
    found = search(Space(2, [Rule(0, 0, count.steps), Rule(0, 1, jump.steps)]), (0, 0), bad)
    assert len(found.schedule) == 5
    assert sorted(found.schedule) == ["jump"] * 2 + ["one"] * 3


def test_a_protection_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="no such protection"):
        Model(HISTORIES["edit"], ON_TIME, frozenset(["luck"]))
