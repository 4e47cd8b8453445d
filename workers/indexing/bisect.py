"""Finds the texts that make an endpoint refuse a whole batch, in few calls.

One refused text among n costs at most about log2(n) + 2 calls more than a clean batch: the refused prefix is halved
until one text stands alone, and what was never in question goes on together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from workers.adapters.embeddings import InputRefused
from workers.indexing.ports import Vector

T = TypeVar("T")
Ask = Callable[[Sequence[T]], tuple[list[Vector], int]]


def bisect(batch: Sequence[T], ask: Ask[T]) -> tuple[list[tuple[T, Vector | None]], int]:
    """Return (text, vector) of a batch, and the tokens it cost; the vector of a refused text is None.

    ``ask`` returns the vectors of some texts and their tokens, or raises InputRefused.  A text counts as refused only
    when it was refused alone: an endpoint may also refuse a batch for its size.
    """
    found: list[tuple[T, Vector | None]] = []
    spent, refused = 0, 0

    def passes(part: Sequence[T]) -> bool:
        nonlocal spent
        try:
            vectors, tokens = ask(part)
        except InputRefused:
            return False
        found.extend(zip(part, vectors, strict=True))
        spent += tokens
        return True

    waiting = list(batch)
    while waiting:
        # The more texts are refused, the smaller the steps: a batch full of them is soon sent one by one.
        size = max(1, len(batch) >> refused)
        part, waiting = waiting[:size], waiting[size:]
        if passes(part):
            continue
        suspect, alone = part, len(part) == 1
        while len(suspect) > 1:
            middle = len(suspect) // 2
            left, right = suspect[:middle], suspect[middle:]
            if passes(left):
                suspect, alone = right, False  # it must be in here, unless the size was the matter
            else:
                suspect, waiting, alone = left, [*right, *waiting], len(left) == 1
        if alone or not passes(suspect):
            found.append((suspect[0], None))
            refused += 1
    return found, spent
