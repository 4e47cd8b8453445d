"""Visits every state of a system made of a few parts, breadth first, with numpy doing the counting.

A state is a tuple of small numbers, one per part, each standing for a value of that part (`Part` hands them out).  A
rule reads and changes one or two parts, so it is asked once for each distinct pair of values and not once for each
state; all the rest is arithmetic on arrays of packed states.  That makes a million states a matter of seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

BITS = 10  # per part: up to 1,024 values


class Part:
    """The values that one part of the state takes on, numbered in the order in which they were met."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, value: Hashable) -> int:
        """Return the number that stands for ``value``."""
        known = self._numbers.get(value)
        if known is None:
            known = self._numbers[value] = len(self.values)
            self.values.append(value)
            if known >> BITS:
                raise OverflowError(f"more than {1 << BITS} values in one part")
        return known


class _Answers:
    """What a question about two numbers was answered, by pair of numbers; asked once for each pair."""

    def __init__(self) -> None:
        self._answers = np.full(1 << 2 * BITS, -1, dtype=np.int64)

    def to(self, first: Numbers, second: Numbers, ask: Callable[[int, int], int]) -> Numbers:
        pair = first << BITS | second
        answers = self._answers[pair]
        unknown = np.unique(pair[answers < 0])
        if not len(unknown):
            return answers
        for p in unknown.tolist():
            self._answers[p] = ask(p >> BITS, p & (1 << BITS) - 1)
        return self._answers[pair]


@dataclass
class Rule:
    """Something that may happen, depending on two parts (numbers ``first`` and ``second``) and changing only these.

    ``steps`` tells for two values what may happen: its name, and both values afterwards.  ``guard`` tells for many
    states whether the other parts allow it.
    """

    first: int
    second: int
    steps: Callable[[Any, Any], Sequence[tuple[str, Any, Any]]]
    guard: Callable[[Space, Keys], Mask] | None = None
    rows: _Answers = field(default_factory=_Answers)  # pair -> place in starts and counts
    starts: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    targets: list[tuple[int, int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


class Space:
    """All states that ``rules`` can reach.  ``normal`` brings states that have the same future to one form."""

    def __init__(self, parts: int, rules: Sequence[Rule], normal: Callable[[Space, Keys], Keys] | None = None) -> None:
        if parts * BITS > 64:
            raise OverflowError("a state must fit into 64 bits")
        self.parts = [Part() for _ in range(parts)]
        self._rules = list(rules)
        self._normal = normal
        self._answers: dict[Any, _Answers] = {}

    def pack(self, values: Sequence[Hashable]) -> int:
        """Return the key of a state."""
        return sum(
            part.number(value) << place * BITS
            for place, (part, value) in enumerate(zip(self.parts, values, strict=True))
        )

    def column(self, keys: Keys, part: int) -> Numbers:
        """Return the numbers of one part in many states."""
        return (keys >> np.uint64(part * BITS) & np.uint64((1 << BITS) - 1)).astype(np.int64)

    def holds(self, keys: Keys, first: int, second: int, check: Callable[[Any, Any], bool]) -> Mask:
        """Tell of each state whether ``check`` holds for the values of two of its parts."""
        one, other = self.parts[first].values, self.parts[second].values
        answers = self._answers.setdefault((first, second, check), _Answers())
        columns = self.column(keys, first), self.column(keys, second)
        return answers.to(*columns, lambda a, b: check(one[a], other[b])) == 1

    def mapped(self, keys: Keys, part: int, by: Numbers, change: Callable[[Any, int], Hashable]) -> Keys:
        """Return the states with one part replaced by ``change`` of its value and of the number in ``by``."""
        one = self.parts[part]
        answers = self._answers.setdefault((part, change), _Answers())
        numbers = answers.to(self.column(keys, part), by, lambda a, b: one.number(change(one.values[a], b)))
        return self._with(keys, part, numbers)

    def successors(self, keys: Keys) -> tuple[Keys, Numbers, list[tuple[Rule, Numbers]]]:
        """Return the states that follow, for each the row of ``keys`` it follows, and the steps taken, by rule."""
        after, rows, steps = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], []
        for rule in self._rules:
            row, step = self._taken(rule, keys)
            if len(row):
                targets = np.array(rule.targets, dtype=np.int64)[step]
                changed = self._with(keys[row], rule.first, targets[:, 0])
                after.append(self._with(changed, rule.second, targets[:, 1]))
                rows.append(row)
                steps.append((rule, step))
        found = np.concatenate(after)
        return self._normal(self, found) if self._normal else found, np.concatenate(rows), steps

    def _taken(self, rule: Rule, keys: Keys) -> tuple[Numbers, Numbers]:
        columns = self.column(keys, rule.first), self.column(keys, rule.second)
        known = rule.rows.to(*columns, lambda a, b: self._learn(rule, a, b))
        counts = np.array(rule.counts, dtype=np.int64)[known]
        row = np.repeat(np.arange(len(keys)), counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        step = np.array(rule.starts, dtype=np.int64)[known][row] + within
        if rule.guard is not None and len(row):
            fine = rule.guard(self, keys[row])
            row, step = row[fine], step[fine]
        return row, step

    def _learn(self, rule: Rule, a: int, b: int) -> int:
        one, other = self.parts[rule.first], self.parts[rule.second]
        rule.starts.append(len(rule.targets))
        for name, first, second in rule.steps(one.values[a], other.values[b]):
            rule.targets.append((one.number(first), other.number(second)))
            rule.names.append(name)
        rule.counts.append(len(rule.targets) - rule.starts[-1])
        return len(rule.starts) - 1

    def _with(self, keys: Keys, part: int, numbers: Numbers) -> Keys:
        others = ~np.uint64((1 << BITS) - 1 << part * BITS)
        return keys & others | numbers.astype(np.uint64) << np.uint64(part * BITS)


@dataclass(frozen=True, slots=True)
class Found:
    """How many states there are, how many of them were marked, and the shortest way to a bad one, if any."""

    states: int
    marked: int
    schedule: tuple[str, ...] | None


def search(
    space: Space,
    start: Sequence[Hashable],
    bad: Callable[[Space, Keys], tuple[Mask, int]],
    *,
    most: int = 20_000_000,
) -> Found:
    """Visit every reachable state, or stop at the first level that has a bad one.

    ``bad`` tells of many states which are bad, and how many it marks as worth counting.
    """
    levels = [np.array([space.pack(start)], dtype=np.uint64)]
    seen = _Seen()
    seen.add(levels[0])
    states, marked = 1, 0
    while len(levels[-1]):
        wrong, number = bad(space, levels[-1])
        marked += number
        if wrong.any():
            return Found(states, marked, _schedule(space, levels, levels[-1][wrong][0]))
        after, _, _ = space.successors(levels[-1])
        fresh = seen.unseen(np.unique(after))
        seen.add(fresh)
        states += len(fresh)
        if states > most:
            raise OverflowError(f"more than {most:,} states")
        levels.append(fresh)
    return Found(states, marked, None)


class _Seen:
    """A set of states as sorted arrays, each at least twice as long as the next."""

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    def unseen(self, keys: Keys) -> Keys:
        for run in self._runs:
            place = np.searchsorted(run, keys)
            place[place == len(run)] = 0
            keys = keys[run[place] != keys] if len(run) else keys
        return keys

    def add(self, keys: Keys) -> None:
        self._runs.append(keys)
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")


def _schedule(space: Space, levels: list[Keys], target: np.uint64) -> tuple[str, ...]:
    """Return what happened on a shortest way to a state of the last level."""
    names = []
    for level in reversed(levels[:-1]):
        after, rows, steps = space.successors(level)
        hit = int(np.flatnonzero(after == target)[0])
        names.append(_name(steps, hit))
        target = level[rows[hit]]
    return tuple(reversed(names))


def _name(steps: list[tuple[Rule, Numbers]], hit: int) -> str:
    for rule, step in steps:
        if hit < len(step):
            return rule.names[int(step[hit])]
        hit -= len(step)
    raise IndexError(hit)
