"""Absences: the first look, the second look, and the brake before the ledger is told of any."""

from __future__ import annotations

import os
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from producers import held
from producers.brake import Brake, Decision, Gone
from producers.compare import missing
from producers.folder import Folder
from producers.scan import Found, look
from producers.settings import WatcherSettings
from producers.settle import Sign
from workers.contract import intake
from workers.contract.identity import normal_path
from workers.contract.intake import Observation, Stat

MANY = 100  # more deletions than this at once do not go before edits


class Deletions:
    """What is missing from one folder, until it is decided about."""

    def __init__(
        self,
        folder: Folder,
        settings: WatcherSettings,
        touch: Callable[[bytes, Sign], None],
        unreadable: Callable[[OSError], None],
    ) -> None:
        """``touch`` makes a path dirty that is back; ``unreadable`` hears of one that cannot be looked at."""
        self._folder, self._touch, self._unreadable = folder, touch, unreadable
        self._brake = Brake(
            wait=settings.deletion_wait,
            share=settings.brake_share,
            count=settings.brake_count,
            window=settings.brake_window,
        )

    def __len__(self) -> int:
        return len(self._brake)

    def next_due(self) -> float | None:
        """Return the seconds until the second look; None: nothing waits."""
        return self._brake.next_due(self._folder.clock())

    def forget(self) -> None:
        """Forget everything: the folder itself is not there, so no absence means anything."""
        self._brake.forget()

    def came(self, found: Found) -> None:
        """This file is there; it may be one that left another place."""
        stat = Stat(found.size, found.mtime_ns, found.inode) if found.refusal is None else None
        self._brake.came(found.path, stat, self._folder.clock())

    def went(self, gone: Gone) -> None:
        """The first look at this document found nothing."""
        self._brake.went(gone, self._folder.clock())

    def went_below(self, path: str, *, itself: bool = True) -> None:
        """Nothing (``itself`` False: no directory) is at ``path``: every document there had its first look."""
        for row in intake.remembered(self._folder.engine, self._folder.root.name, path):
            gone = missing(row) if itself or row.path != path else None
            if gone is not None:
                self.went(gone)

    def decide(self) -> None:
        """Second look, then the brake: one deletion is quick, a mass of them waits for a person."""
        if not self._brake.due(self._folder.clock()) or not self._folder.is_there():
            return
        taken = self._brake.take(self._folder.clock())
        try:
            self._decide_about(taken)
        except SQLAlchemyError:
            for gone in taken:
                self.went(gone)
            raise

    def check_alarm(self) -> None:
        """The brake's alarm lasts as long as a deletion waits for somebody."""
        if self._folder.has_alarm("brake"):
            waiting = held.count(self._folder.engine, self._folder.root.name)
            self._folder.alarm("brake", held.alarm(waiting, self._folder.root.name) if waiting else None)

    def _decide_about(self, taken: list[Gone]) -> None:
        gone, batch = self._second_look(taken)
        if not self._folder.is_there():
            return  # the disk went away while we were looking
        now = self._folder.clock()
        total = intake.count_present(self._folder.engine, self._folder.root.name)
        decision = self._brake.decide(gone, total, now)
        if decision.hold:
            self._look_elsewhere(decision.hold)
            decision = self._brake.decide(gone, total, now)
        self._folder.record([*batch, *self._observations(decision, bulk=len(gone) > MANY)])
        self._brake.deleted(self._brake.counted(decision.delete), now)

    def _look_elsewhere(self, vanished: list[Gone]) -> None:
        """Tell the brake which of them are there, under names that the ledger knew all along.

        A folder that was renamed and renamed back, the half of it unseen, has nothing new: what is back is as it was.
        """
        files = {each.stat for each in vanished if each.stat is not None}
        for row in intake.remembered(self._folder.engine, self._folder.root.name):
            if not row.present or row.stat not in files:
                continue
            try:
                found = look(self._folder.root.path, row.raw_path, self._folder.rules)
            except OSError as exc:
                self._unreadable(exc)
                continue
            if found is not None:
                self.came(found)

    def _observations(self, decision: Decision, *, bulk: bool) -> list[Observation]:
        name = self._folder.root.name
        seen = [Observation(name, each.raw_path, None, bulk=bulk, document_path=each.path) for each in decision.delete]
        if decision.hold:
            text = held.alarm(len(decision.hold) + held.count(self._folder.engine, name), name)
            self._folder.alarm("brake", text)  # before the commit: held documents without an alarm are overlooked
            self._folder.tell(again=True)
            seen += [
                Observation(name, each.raw_path, None, absent_as="held", reason=text, document_path=each.path)
                for each in decision.hold
            ]
        return seen

    def _second_look(self, taken: list[Gone]) -> tuple[list[Gone], list[Observation]]:
        """Return what is still missing, and what is there but ignored by now; what is back is dirty again."""
        gone: list[Gone] = []
        ignored: list[Observation] = []
        for each in taken:
            try:
                found = look(self._folder.root.path, each.raw_path, self._folder.rules)
                other = None if found is not None or each.path.isascii() else self._other_name(each)
            except OSError as exc:
                self._unreadable(exc)
                continue
            if found is not None and found.refusal is None:
                self._touch(each.raw_path, Sign.CLOSED)
            elif found is not None:
                ignored.append(found.observation(self._folder.root.name, touched=True, bulk=False))
            elif other is not None:
                self._touch(other, Sign.NAMED)
            else:
                gone.append(each)
        return gone, ignored

    def _other_name(self, gone: Gone) -> bytes | None:
        """Return the other name, if the one that went was the known one of two twins."""
        folder, _, _ = gone.raw_path.rpartition(b"/")
        try:
            with os.scandir(os.path.join(self._folder.base, folder)) as entries:
                names = [entry.name for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return None
        raws = (folder + b"/" + name if folder else name for name in names)
        return next((raw for raw in raws if normal_path(raw) == gone.path), None)
