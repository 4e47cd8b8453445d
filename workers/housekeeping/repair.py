"""Repairs what an audit has confirmed, by the one road: the document is looked at again, and made true.

Only points that no document owns are removed here, under a fence: whatever an attempt stores after the audit's look
carries a higher token and stays.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from sqlalchemy import Engine

from workers.contract import intake
from workers.contract.broker import Hints
from workers.contract.intake import Observation
from workers.housekeeping.audit import Looked
from workers.housekeeping.books import Books
from workers.housekeeping.findings import Kind
from workers.housekeeping.notebook import Notebook
from workers.housekeeping.ports import AuditedIndex

HELD_UPLOAD = "Its file is gone from the upload store. Decide: upwell held approve, or upwell held reject."


@dataclass
class Repair:
    """Called with each slice of confirmed findings."""

    books: Books
    engine: Engine
    index: AuditedIndex
    hints: Hints
    notebook: Notebook
    uploads: frozenset[str]  # names of upload stores: nobody else decides about files missing there
    done: Counter[Kind] = field(default_factory=Counter)

    def __call__(self, looked: dict[str, Looked]) -> None:
        """Do what can be done without a person; every step may be repeated."""
        again: list[str] = []
        news: list[Observation] = []
        for key, each in looked.items():
            kinds = {finding.kind for finding in each.findings}
            if Kind.AHEAD in kinds:
                self.books.outgrow({key: each.highest_token})
            if Kind.MISLABELLED in kinds and each.bare:
                self.index.disclaim(each.bare)
            if Kind.ORPHANED in kinds and each.row is None:
                self.index.forget(key, each.highest_token)
            about_file = any(finding.points == 0 and finding.kind in _OF_FILES for finding in each.findings)
            if about_file and each.seen is not None:
                news.append(replace(each.seen, touched=each.seen.stat is not None, bulk=True))
            if each.row is not None and kinds & _OF_POINTS:
                again.append(key)
            if Kind.VANISHED in kinds and each.row is not None and each.row.source in self.uploads:
                row = each.row
                news.append(Observation(row.source, row.raw_path, None, "held", HELD_UPLOAD, document_path=row.path))
            self.done.update(kinds & _DONE_HERE)
        touched = [key for key, each in looked.items() if {f.kind for f in each.findings} & _DONE_HERE]
        self.notebook.repaired(touched)
        due = set(self.books.look_again(again)) | set(intake.observe(self.engine, news))
        self.hints.look(sorted(due), bulk=True)


_OF_FILES = frozenset({Kind.STALE, Kind.UNLISTED})
_OF_POINTS = frozenset({Kind.LOST, Kind.STALE, Kind.DUPLICATE, Kind.MISLABELLED, Kind.AHEAD, Kind.ORPHANED})
_DONE_HERE = _OF_FILES | _OF_POINTS
