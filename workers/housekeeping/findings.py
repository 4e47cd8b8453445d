"""What an audit can find wrong with one document, and how it is told.  Pure: nothing here asks anybody.

Three records are compared: the file, what the ledger says of it, and the points that Qdrant holds.  Only a document
that is at rest is judged: one that is being worked on will be made true anyway, and saying so would be a false alarm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from workers.contract.intake import Stat
from workers.contract.states import State


class Kind(StrEnum):
    """What is wrong.  `REMEDIES` says what to do about each."""

    LOST = "lost"  # the ledger says indexed; points are missing
    STALE = "stale"  # points of another version, or a file that is not the indexed one any more
    DUPLICATE = "duplicate"  # more points than the document has chunks, or one chunk twice
    MISLABELLED = "mislabelled"  # `embedded` says that there is a vector and there is none, or the other way round
    AHEAD = "ahead"  # tokens above the ledger's: the ledger is older than the index
    ORPHANED = "orphaned"  # points of a document that is deleted, or unknown while there is no such file
    UNLISTED = "unlisted"  # a file that the ledger does not know of
    VANISHED = "vanished"  # the ledger knows a file that is not there
    FOREIGN = "foreign"  # points that are not ours; never touched


BY_PEOPLE = frozenset({Kind.VANISHED, Kind.FOREIGN})
"""What no repair touches."""

REMEDIES: dict[Kind, str] = {
    Kind.LOST: "upwell verify --repair stores them again; texts that were embedded before cost nothing.",
    Kind.STALE: "upwell verify --repair indexes the file as it is now.",
    Kind.DUPLICATE: "upwell verify --repair takes away what is too many.",
    Kind.MISLABELLED: "upwell verify --repair embeds what has no vector.",
    Kind.AHEAD: "The ledger was restored from an older copy. upwell verify --repair moves it past the index.",
    Kind.ORPHANED: "upwell verify --repair removes them.",
    Kind.UNLISTED: "upwell verify --repair indexes them. Does the watcher run? upwell status",
    Kind.VANISHED: "The watcher of the folder decides about deletions: see upwell status and upwell held list.",
    Kind.FOREIGN: "Somebody else writes into this collection. Move or delete them yourself; Upwell never does.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one document: ``points`` says how many points it is about (0: a file)."""

    kind: Kind
    document_id: str
    source: str
    path: str
    points: int
    why: str


@dataclass(frozen=True, slots=True)
class SeenPoint:
    """A point as an audit sees it: payload fields of ours, nothing else."""

    id: str
    document_id: str
    index: int
    token: int
    version: bytes  # see `short`
    embedded: bool
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Booked:
    """What the ledger says of a document.  ``settled``: nobody works on it, and nothing is due."""

    document_id: str
    source: str
    path: str
    raw_path: bytes
    state: str
    wanted: str
    settled: bool
    chunks: int
    version: str | None
    token: int
    collection: str | None
    seen: Stat | None
    generation: int

    @property
    def should_have_points(self) -> bool:
        """Tell whether the index should hold anything of it."""
        return self.wanted == "present" and self.chunks > 0


@dataclass(slots=True)
class Tally:
    """What the points of one document add up to, compared with what the ledger says of it."""

    points: int = 0
    missing: int = 0
    stale: int = 0
    repeated: int = 0
    mislabelled: int = 0
    ahead: int = 0
    highest_token: int = 0


def short(version: str) -> bytes:
    """Return 16 bytes that stand for a version in an audit's notes."""
    return hashlib.blake2b(version.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def tally(row: Booked | None, points: Iterable[SeenPoint], bare: int = 0) -> Tally:
    """Add up the points of one document, which come in the order of their chunk index.

    ``bare`` is how many of them say that they are embedded and have no vector.  Needs memory for one point.
    """
    found = Tally(mislabelled=bare)
    wanted_version = short(row.version) if row is not None and row.version is not None else b""
    ready = row is not None and row.state == State.READY
    following = 0  # the index that should come next
    last: int | None = None
    for point in points:
        found.points += 1
        found.highest_token = max(found.highest_token, point.token)
        if row is None:
            continue
        if point.token > row.token:
            found.ahead += 1
        if wanted_version and point.version != wanted_version:
            found.stale += 1
        if ready and not point.embedded and not point.refused:
            found.mislabelled += 1
        if point.index == last or not 0 <= point.index < row.chunks:
            found.repeated += 1
        else:
            found.missing += point.index - following
            following = point.index + 1
        last = point.index
    if row is not None:
        found.missing += max(0, row.chunks - following)
    return found


def judge(row: Booked, found: Tally, collection: str) -> list[Finding]:
    """Return what is wrong between the ledger and the index; ``row`` was read after the points."""

    def finding(kind: Kind, points: int, why: str) -> Finding:
        return Finding(kind, row.document_id, row.source, row.path, points, why)

    findings = []
    if found.ahead:  # true whoever works on it: every token was given out by the ledger before it was used
        findings.append(finding(Kind.AHEAD, found.ahead, "The index has seen later attempts than the ledger knows of."))
    if not row.settled:
        return findings
    if not row.should_have_points:
        if found.points and row.wanted == "absent":
            findings.append(finding(Kind.ORPHANED, found.points, "The document is gone; its points are not."))
        elif found.points:
            why = f"The document is {row.state}, so nothing of it should be found; it has points."
            findings.append(finding(Kind.STALE, found.points, why))
        return findings
    if row.collection != collection:
        findings.append(finding(Kind.LOST, row.chunks, "The ledger has it in another collection."))
        return findings
    if found.missing:
        why = f"{found.missing} of its {row.chunks} chunks are not in the index."
        findings.append(finding(Kind.LOST, found.missing, why))
    if found.stale:
        findings.append(finding(Kind.STALE, found.stale, "The index holds chunks of another version of it."))
    if found.repeated:
        findings.append(finding(Kind.DUPLICATE, found.repeated, "The index holds chunks of it more than once."))
    if found.mislabelled:
        why = "Chunks say that they have a dense vector and have none, or have none although it is ready."
        findings.append(finding(Kind.MISLABELLED, found.mislabelled, why))
    return findings


def judge_file(row: Booked, file: Stat | None) -> list[Finding]:
    """Return what is wrong between the ledger and the file (None: there is none)."""
    if not row.settled or row.state == State.HELD:
        return []
    if row.wanted != "present":
        why = "The ledger takes the file for deleted or ignored; it is there."
        return [Finding(Kind.UNLISTED, row.document_id, row.source, row.path, 0, why)] if file is not None else []
    if file is None:
        why = "The ledger knows the file; it is not there."
        return [Finding(Kind.VANISHED, row.document_id, row.source, row.path, 0, why)]
    if row.seen is not None and row.seen != file:
        why = "The file has changed, and nobody has noticed."
        return [Finding(Kind.STALE, row.document_id, row.source, row.path, 0, why)]
    return []
