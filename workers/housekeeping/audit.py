"""The two-way audit: sources <-> ledger <-> Qdrant.  Streams all three, and needs the same memory for any number.

  note     files as they are listed, points as they are scrolled, into a notebook on disk
  compare  ledger rows, points and files, merged in the order of document ids: whoever differs is a suspect
  wait     until whatever was on its way has had time to arrive
  confirm  each suspect once more, on its own: the ledger before and after the points, the file as it was
  repair   by having the document looked at again; what no document owns is removed under a fence
  check    what was repaired, once it has come to rest

A document that changes while it is looked at is nobody's finding: it is being made true anyway.  ADR 0021.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from workers.contract.identity import document_id
from workers.contract.intake import Observation, Stat
from workers.contract.states import State
from workers.errors import SourceUnavailable
from workers.housekeeping.books import Books, Home
from workers.housekeeping.findings import Booked, Finding, Kind, SeenPoint, judge, judge_file, tally
from workers.housekeeping.notebook import Notebook, NotedFile
from workers.housekeeping.ports import AuditedIndex, Files
from workers.housekeeping.report import Report
from workers.indexing.sources import open_document

log = structlog.get_logger()
T = TypeVar("T")

SLICE = 64
PATIENCE_S = 10.0
"""How long a difference must stand: longer than a watcher takes to settle and record a change."""

MOST_UNREADABLE = 1000

Progress = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Looked:
    """What a look at one document came to.  ``busy``: it moved while it was looked at, or somebody has it in hand."""

    findings: list[Finding] = field(default_factory=list)
    busy: bool = False
    row: Booked | None = None
    highest_token: int = 0
    bare: list[str] = field(default_factory=list)  # point ids
    seen: Observation | None = None


class Audit:
    """One audit, from the first page to the report."""

    def __init__(
        self,
        books: Books,
        index: AuditedIndex,
        files: Files,
        notebook: Notebook,
        *,
        deep: bool = False,
        patience_s: float = PATIENCE_S,
        progress: Progress = lambda told: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._books, self._index, self._files, self._notes = books, index, files, notebook
        self._deep, self._patience_s = deep, patience_s
        self._tell, self._sleep = progress, sleep
        self._homes: dict[str, Home] = {}
        self._unreadable: dict[str, list[str]] = {}
        self.report = Report()

    def find(self, act: Callable[[dict[str, Looked]], None] = lambda looked: None) -> Report:
        """Look for everything that is wrong; ``act`` hears of each slice of confirmed findings.

        Raises:
            IndexUnavailable, IndexMisconfigured: Qdrant does not answer, or not as expected.
        """
        self._homes = self._books.homes()
        self._note_files()
        self._note_points()
        suspects = self._compare()
        if suspects:
            self._wait()
            self._confirm(act)
        return self.report

    # ------------------------------------------------------------------ note

    def _note_files(self) -> None:
        for home in self._homes.values():
            unreadable: list[str] = []
            self._unreadable[home.name] = unreadable
            try:
                for part in _slices(self._files.listed(home, unreadable), 500):
                    self._note_some_files(home, part)
            except OSError as exc:
                unreadable.append("")
                self.report.unchecked[home.name] = str(exc)
            if unreadable and home.name not in self.report.unchecked:
                if len(unreadable) > MOST_UNREADABLE:
                    unreadable[:] = [""]
                places = ", ".join(place or "." for place in unreadable[:3])
                why = f"Parts of it cannot be read ({places}). Check permissions and disk."
                self.report.unchecked[home.name] = why

    def _note_some_files(self, home: Home, part: Sequence[Observation]) -> None:
        noted = [(seen.document_id, seen.raw_path, seen.path, seen.stat or _REFUSED) for seen in part]
        self._notes.note_files(home.name, noted)
        self.report.files += len(part)
        self._say("files")

    def _note_points(self) -> None:
        for page in self._index.pages():
            self._notes.note_points(page.ours)
            self.report.points += len(page.ours) + len(page.foreign)
            for point in page.foreign:
                why = "Its id or its payload is not one that Upwell writes."
                self.report.add(Finding(Kind.FOREIGN, "", "", f"point {point}", 1, why))
            self._say("points")
        for pairs in self._index.bare():
            self._notes.note_bare(pairs)

    # ------------------------------------------------------------------ compare

    def _compare(self) -> int:
        """Merge ledger, points and files; returns how many documents are under suspicion."""
        suspects = 0
        waiting: list[str] = []
        rows = ((row.document_id, row) for row in self._books.rows())
        for key, (row, points, bare, files) in _merged(
            rows, self._notes.points(), self._notes.bare(), self._notes.files()
        ):
            if row is not None:
                self.report.documents += 1
                self.report.busy += not row.settled
                self._say("documents")
            if self._differs(row, points or (), bare or 0, files or []):
                suspects += 1
                waiting.append(key)
                if len(waiting) >= 500:
                    self._notes.suspect(waiting)
                    waiting = []
        self._notes.suspect(waiting)
        return suspects

    def _differs(
        self, row: Booked | None, points: Iterable[SeenPoint], bare: int, files: list[tuple[bytes, Stat]]
    ) -> bool:
        found = tally(row, points, bare)
        if row is None:
            return bool(found.points) or any(stat != _REFUSED for _, stat in files)
        if judge(row, found, self._index.collection):
            return True
        if not row.settled or self._unknown(row.source, row.path):
            return False
        stat = next((stat for raw, stat in files if raw == row.raw_path), files[0][1] if files else None)
        return bool(self._judge_file(row, stat)) or (self._deep and self._other_bytes(row))

    def _judge_file(self, row: Booked, stat: Stat | None) -> list[Finding]:
        home = self._homes.get(row.source)
        if row.wanted == "absent" and (stat == _REFUSED or home is None or home.kind == "uploads"):
            return []  # an upload that was deleted a moment ago, or whose deletion was cut short
        return judge_file(row, stat)

    def _other_bytes(self, row: Booked) -> bool:
        """Read the file and compare its digest with the indexed one."""
        home = self._homes.get(row.source)
        if home is None or row.version is None or row.wanted != "present" or row.state == State.HELD:
            return False
        self._say("bytes")
        try:
            with open_document(home.root, row.raw_path, home.marker) as file:
                return file is not None and file.digest() != row.version
        except SourceUnavailable:
            return False

    def _unknown(self, source: str, path: str) -> bool:
        """Tell whether it cannot be said what is at ``path``."""
        if source not in self._homes:
            return True
        return any(not p or path == p or path.startswith(p + "/") for p in self._unreadable.get(source, ()))

    # ------------------------------------------------------------------ confirm

    def _wait(self) -> None:
        self._say("waiting", now=True)
        self._sleep(self._patience_s)

    def _confirm(self, act: Callable[[dict[str, Looked]], None]) -> None:
        for part in self._notes.suspects(SLICE):
            looked = self.look(part, first=self._noted_files(part))
            for each in looked.values():
                self.report.busy += each.busy
                for finding in each.findings:
                    self.report.add(finding)
            act({key: each for key, each in looked.items() if each.findings})
            self._say("confirming")

    def _noted_files(self, document_ids: Sequence[str]) -> dict[str, NotedFile]:
        return {key: noted for key in document_ids if (noted := self._notes.file(key)) is not None}

    def look(self, document_ids: Sequence[str], first: dict[str, NotedFile] | None = None) -> dict[str, Looked]:
        """Look at documents as they are now: what differs although nothing moves is a finding.

        The ledger is read before and after everything else; a row that changed meanwhile proves nothing.  ``first`` is
        how files were when they were listed; a file that looks different by now is still being written.
        """
        before = self._books.rows_of(document_ids)
        points = self._index.points_of(document_ids)
        bare: dict[str, list[str]] = {}
        for pairs in self._index.bare(document_ids):
            for key, point in pairs:
                bare.setdefault(key, []).append(point)
        files = self._files_of(before, first or {})
        busy_sources = self._books.busy_sources()
        after = self._books.rows_of(document_ids)
        strangers = [key for key in document_ids if key not in before and key in points]
        owners = self._index.homes(strangers) if strangers else {}
        looked: dict[str, Looked] = {}
        for key in document_ids:
            then, now, mine = before.get(key), after.get(key), points.get(key, [])
            if then is None and now is None:
                noted = first.get(key) if first is not None else None
                looked[key] = self._stranger(key, mine, owners.get(key), noted, files.get(key), busy_sources)
            elif then is None or now is None:
                looked[key] = Looked(busy=True)
            else:
                looked[key] = self._known(then, now, mine, bare.get(key, []), files.get(key), first, busy_sources)
        return looked

    def _files_of(self, rows: dict[str, Booked], first: dict[str, NotedFile]) -> dict[str, _There]:
        """Return what is where the ledger says; where there is nothing, what was listed under the document's name."""
        files = {key: self._file_at(row.source, row.raw_path, row.path) for key, row in rows.items()}
        for key, noted in first.items():
            if key not in files or (files[key].stat is None and not files[key].unknown):
                files[key] = self._file_at(noted.source, noted.raw_path, noted.path)
        return files

    def _known(
        self,
        then: Booked,
        now: Booked,
        points: list[SeenPoint],
        bare: list[str],
        file: _There | None,
        first: dict[str, NotedFile] | None,
        busy_sources: set[str],
    ) -> Looked:
        still = (then.token, then.generation, then.state, then.settled) == (
            now.token,
            now.generation,
            now.state,
            now.settled,
        )
        found = tally(now, points, len(bare))
        looked = Looked(busy=not still or not now.settled, row=now, highest_token=found.highest_token, bare=bare)
        looked.findings = judge(now, found, self._index.collection)
        if not still:
            looked.findings = [finding for finding in looked.findings if finding.kind is Kind.AHEAD]
        if looked.busy or file is None or file.unknown:
            return looked
        looked.seen = file.seen
        about_file = self._judge_file(now, file.stat)
        if self._deep and not about_file and self._other_bytes(now):
            why = "The file has other bytes than the indexed ones, though its size and times are the same."
            about_file = [Finding(Kind.STALE, now.document_id, now.source, now.path, 0, why)]
        if about_file and first is not None:
            noted = first.get(now.document_id)
            if now.source in busy_sources or (noted.stat if noted else None) != file.stat:
                looked.busy = True
                return looked
        looked.findings += about_file
        return looked

    def _stranger(
        self,
        key: str,
        points: list[SeenPoint],
        owner: tuple[str, str] | None,
        noted: NotedFile | None,
        file: _There | None,
        busy_sources: set[str],
    ) -> Looked:
        """A document that the ledger does not know: a file that nobody noticed, or points that nobody owns."""
        looked = Looked(highest_token=max((point.token for point in points), default=0))
        if noted is not None and file is not None and not file.unknown and file.stat is not None:
            source = noted.source
            if file.stat == _REFUSED and not points:
                return looked
            if source in busy_sources or file.stat != noted.stat:
                looked.busy = True
                return looked
            if file.stat != _REFUSED:
                looked.seen = file.seen
                why = "The ledger does not know this file."
                looked.findings.append(Finding(Kind.UNLISTED, key, source, noted.path, 0, why))
                return looked
        if not points:
            return looked
        if owner is None or owner[0] not in self._homes or document_id(*owner) != key:
            source, path = owner or ("", "")
            why = "Its points name a source that this Upwell does not have, or a document of another id."
            looked.findings.append(Finding(Kind.FOREIGN, key, source, path, len(points), why))
        elif self._unknown(*owner) or owner[0] in busy_sources:
            looked.busy = True
        else:
            why = "Neither the ledger nor the source has this document; its points are still there."
            looked.findings.append(Finding(Kind.ORPHANED, key, *owner, len(points), why))
        return looked

    def _file_at(self, source: str, raw: bytes, path: str) -> _There:
        home = self._homes.get(source)
        if home is None or (path and self._unknown(source, path)):
            return _There(unknown=True)
        try:
            seen = self._files.at(home, raw, path)
        except OSError:
            return _There(unknown=True)
        if seen is None:
            return _There()
        return _There(seen=seen, stat=seen.stat or _REFUSED)

    def _say(self, step: str, *, now: bool = False) -> None:
        report = self.report
        self._tell(
            {
                "step": step,
                "files": report.files,
                "points": report.points,
                "documents": report.documents,
                "at_once": now,
            }
        )


_REFUSED = Stat(-1, -1, 0)
"""Stands for a file that is there and is no document: a rule ignores it, or it is no regular file."""


@dataclass(frozen=True, slots=True)
class _There:
    """What is at a path: nothing (no stat), something, or nobody can tell."""

    seen: Observation | None = None
    stat: Stat | None = None
    unknown: bool = False


def _merged(*streams: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Merge streams of (id, value) that are ordered by id; a stream without the id contributes None."""
    heads = [next(stream, None) for stream in streams]
    while any(head is not None for head in heads):
        key = min(head[0] for head in heads if head is not None)
        yield key, [head[1] if head is not None and head[0] == key else None for head in heads]
        for place, head in enumerate(heads):
            if head is not None and head[0] == key:
                heads[place] = next(streams[place], None)


def _slices(items: Iterable[T], size: int) -> Iterator[list[T]]:
    part: list[T] = []
    for item in items:
        part.append(item)
        if len(part) >= size:
            yield part
            part = []
    if part:
        yield part
