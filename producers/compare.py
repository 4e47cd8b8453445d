"""Merges what the ledger remembers of a folder with what is found in it.  Pure: both come in the order of their paths.

A rescan spends nearly all of its time here and in `scan.walk`, on files that are as they were: for those no object is
made and nothing is called.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from stat import S_ISREG

from producers.brake import Gone
from producers.scan import Found, Scanned
from workers.contract.intake import Remembered, RememberedRow
from workers.contract.states import State

SAMPLES = 100  # every scan looks again at one in so many unchanged files
BREATH = 100  # unchanged files between two interruptions


@dataclass(frozen=True, slots=True)
class News:
    """A file of which the ledger must be told; ``touched``: look at its bytes even if size and times are the same."""

    found: Found
    touched: bool = False


def compare(
    known: Iterable[RememberedRow],
    found: Iterable[Found | None],
    scanned: Scanned,
    there: Callable[[bytes], bool],
    *,
    sample: int | None = None,
) -> Iterator[News | Gone | None]:
    """Yield what is new (`News`) and what is missing (`Gone`), and None often enough to stop for a moment anywhere.

    ``there`` tells whether a raw path still exists; ``sample`` is the number of those unchanged files that are looked
    at again, for rewrites that kept size and times and whose event was lost.
    """
    rows = iter(known)
    row = next(rows, None)
    last: str | None = None
    run = 0
    for seen in found:
        if seen is None:
            yield None
            continue
        path, name = seen.path, seen.name
        while row is not None and row[0] < path:
            if row[0] != last:
                yield missing(Remembered._make(row))
            row = next(rows, None)
        if path == last:
            scanned.twins.append(path)
            continue
        raw = name.encode() if name.isascii() else seen.raw
        unchanged = False
        if row is not None and row[0] == path:
            _, known_raw, size, mtime_ns, inode, wanted, state, reason = row
            if known_raw != raw and there(known_raw):
                scanned.twins.append(path)  # the name that is known stays the document: nothing flaps
                continue
            unchanged = (
                size == seen.size
                and mtime_ns == seen.mtime_ns
                and inode == seen.inode
                and wanted == "present"
                and reason is None
                and state != "held"
                and seen.verdict is None
                and S_ISREG(seen.mode)
            )
        last = path
        if not unchanged:
            before = Remembered._make(row) if row is not None and row[0] == path else None
            if (news := _news(before, seen)) is not None:
                yield news
        elif sample is not None and zlib.crc32(raw) % SAMPLES == sample:
            yield News(seen, touched=True)
        else:
            run += 1
            if run % BREATH == 0:
                yield None
    while row is not None:
        if row[0] != last:
            yield missing(Remembered._make(row))
        row = next(rows, None)


def _news(before: Remembered | None, seen: Found) -> News | None:
    """Return what is new about a file that is not simply as it was; None: nothing."""
    if before is None:
        return News(seen)
    refusal = seen.refusal
    if refusal is not None:
        return None if not before.present and before.reason == refusal else News(seen)
    # It is back: no deletion waits for anybody any more.
    return News(seen, touched=before.state == State.HELD or (before.present and before.reason is not None))


def missing(row: Remembered) -> Gone | None:
    """Return what was there and is not; None: nobody expected it."""
    if row.state == State.HELD:
        return None  # a person is asked already
    if row.present:
        return Gone(row.path, row.raw_path, row.stat, kept=row.reason is not None)
    if row.state == State.SKIPPED or (row.state == State.QUEUED and row.reason is not None):
        return Gone(row.path, row.raw_path, row.stat, indexed=False)
    return None
