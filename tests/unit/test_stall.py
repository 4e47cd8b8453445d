"""A worker that is alive and deaf is found out, and one that has nothing to do, or no broker, is left alone."""

from __future__ import annotations

import pytest
import redis

from workers.indexing.stall import Stall


class World:
    """A broker, a clock, and the watch over both."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: int | None = 3
        self.stall = Stall(self._waiting, patience_s=60, clock=lambda: self.now)

    def _waiting(self) -> int:
        if self.waits is None:
            raise redis.ConnectionError
        return self.waits

    def after(self, seconds: float) -> bool:
        """Let time pass, looking every ten seconds; tell whether it is stuck at the end."""
        for _ in range(int(seconds // 10)):
            self.now += 10
            stuck = self.stall.stuck()
        return stuck


@pytest.fixture
def world():
    return World()


def test_a_worker_that_takes_nothing_while_messages_wait_is_stuck(world):
    assert not world.after(60)
    assert world.after(10)


def test_each_message_that_was_taken_begins_the_wait_anew(world):
    world.after(50)
    with world.stall.working():
        pass

    assert not world.after(60)
    assert world.after(10)


def test_a_worker_with_something_in_hand_is_not_stuck_however_long_it_takes(world):
    with world.stall.working():
        assert not world.after(600)


@pytest.mark.parametrize("waits", [0, None], ids=["nothing waits", "the broker is away"])
def test_a_worker_that_could_take_nothing_is_not_stuck(world, waits):
    world.waits = waits

    assert not world.after(600)


def test_a_queue_that_was_empty_for_a_moment_is_being_served_by_somebody(world):
    world.after(50)
    world.waits = 0
    world.after(10)
    world.waits = 5

    assert not world.after(60)
