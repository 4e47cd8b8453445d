"""Which paths are a part of a backfill, and which are edits beside it."""

from __future__ import annotations

import pytest

from producers.bursts import FULL, LEAK_S, LIMIT, REMEMBERED, Bursts

MANY = 10 * int(LIMIT)


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.bursts = Bursts(lambda: self.now)

    def bulk(self, *paths: str) -> list[bool]:
        return [self.bursts.takes(path.encode()) for path in paths]


@pytest.fixture
def world():
    return World()


FLAT = [f"in/{number}.txt" for number in range(MANY)]
IN_THE_ROOT = [f"{number}.txt" for number in range(MANY)]
SMALL_FOLDERS = [f"in/{number // 3}/{number}.txt" for number in range(MANY)]
DEEP = [f"in/a/b/{number % 7}/{number}.txt" for number in range(MANY)]


@pytest.mark.parametrize("paths", [FLAT, IN_THE_ROOT, SMALL_FOLDERS, DEEP])
def test_the_first_of_many_are_edits_and_the_rest_is_a_burst(world, paths):
    told = world.bulk(*paths)

    assert told[0] is False
    assert told[-MANY // 2 :] == [True] * (MANY // 2)


@pytest.mark.parametrize(
    ("paths", "beside"),
    [
        (FLAT, ["note.txt", "other/note.txt", "other/below/note.txt"]),
        (SMALL_FOLDERS, ["note.txt", "other/note.txt"]),
        (DEEP, ["note.txt", "in/note.txt", "other/note.txt"]),
        (IN_THE_ROOT, ["other/note.txt"]),
    ],
)
def test_what_comes_beside_a_burst_is_an_edit(world, paths, beside):
    world.bulk(*paths)

    assert world.bulk(*beside) == [False] * len(beside)


def test_several_bursts_at_once_leave_the_rest_calm(world):
    for number in range(MANY):
        world.bulk(*(f"{folder}/{number}.txt" for folder in "abcdefgh"))

    assert world.bulk("a/one.txt", "h/one.txt", "note.txt", "i/note.txt") == [True, True, False, False]


def test_files_that_come_one_now_and_one_then_are_edits(world):
    for number in range(1000):
        world.now += 0.5
        assert world.bulk(f"in/{number}.txt") == [False]


def test_a_burst_is_over_soon_after_its_last_file(world):
    world.bulk(*FLAT * 100)
    world.now += LEAK_S

    assert FULL / 2.718 < LIMIT
    assert world.bulk("in/note.txt") == [False]


def test_what_is_remembered_is_bounded(world):
    world.bulk(*(f"{number}/{number}.txt" for number in range(2 * REMEMBERED)))

    assert len(world.bursts._charges) <= REMEMBERED
