"""Runs audits from the docket in a housekeeper: one at a time in the whole deployment, one step after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from workers.contract.broker import Hints
from workers.errors import WorkerError
from workers.housekeeping.audit import PATIENCE_S, SLICE, Audit, Progress
from workers.housekeeping.books import Books
from workers.housekeeping.docket import Docket, Entry, LostTurn
from workers.housekeeping.findings import BY_PEOPLE
from workers.housekeeping.notebook import Notebook
from workers.housekeeping.ports import AuditedIndex, Files
from workers.housekeeping.repair import Repair
from workers.housekeeping.report import Report

log = structlog.get_logger()

LOOK_S = 1.0
TELL_S = 3.0
SETTLE_S = 900.0
"""How long the last step waits for repaired documents to come to rest; what is not done by then is said to be so."""

Open = Callable[[], AuditedIndex | None]


class Stopped(Exception):
    """This housekeeper has to end."""


class Auditor:
    """Takes audits from the docket until told to stop."""

    def __init__(
        self,
        engine: Engine,
        open_index: Open,
        files: Files,
        hints: Hints,
        directory: Path,
        *,
        interval_s: float,
        owner: str | None = None,
        patience_s: float = PATIENCE_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._engine, self._open, self._files, self._hints = engine, open_index, files, hints
        self._directory, self._interval_s = directory, interval_s
        self._patience_s, self._settle_s = patience_s, settle_s
        self._books, self._docket = Books(engine), Docket(engine, owner)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audits", daemon=True)

    def start(self) -> None:
        """Start looking for audits to run."""
        self._thread.start()

    def stop(self) -> None:
        """End; an audit that runs is given back."""
        self._stop.set()
        self._thread.join(timeout=3)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self.turn()
            except SQLAlchemyError as exc:  # away or busy: the next turn tries again
                log.warning("audit.ledger", error=type(exc).__name__)

    def turn(self) -> dict[str, Any] | None:
        """Run one audit if there is one to run; returns its report."""
        if self._interval_s > 0:
            self._docket.ask_if_due(self._interval_s, ready=self._books.at_rest())
        audit = self._docket.take()
        if audit is None:
            return None
        started = time.monotonic()
        try:
            report = self._audit(audit)
        except (Stopped, LostTurn):
            self._give_back(audit)
            return None
        except (WorkerError, OSError) as exc:  # OSError: no room for the notes
            report = {"clean": False, "failed": str(exc)}
        report |= {"took_s": round(time.monotonic() - started, 1)}
        try:
            self._docket.finish(audit, report, failed="failed" in report)
        except LostTurn:
            return None
        _tell(audit, report)
        return report

    def _give_back(self, audit: Entry) -> None:
        try:
            self._docket.give_back(audit)
        except LostTurn:
            pass  # somebody else has it: that is as good

    def _audit(self, audit: Entry) -> dict[str, Any]:
        index = self._open()
        if index is None:
            return {
                "clean": False,
                "failed": "Qdrant does not have the collection. It is made again within a minute while an index worker"
                " has been there before; see upwell status.",
            }
        said = 0.0

        def progress(told: dict[str, Any]) -> None:
            nonlocal said
            if self._stop.is_set():
                raise Stopped
            if told.pop("at_once", False) or time.monotonic() - said > TELL_S:
                said = time.monotonic()
                self._docket.progress(audit, told)

        with Notebook(self._directory) as notebook:
            running = Audit(
                self._books,
                index,
                self._files,
                notebook,
                deep=audit.deep,
                patience_s=self._patience_s,
                progress=progress,
                sleep=self._sleep,
            )
            uploads = frozenset(home.name for home in self._books.homes().values() if home.kind == "uploads")
            repair = Repair(self._books, self._engine, index, self._hints, notebook, uploads)
            found = running.find(repair if audit.repair else lambda looked: None)
            report = found.as_json() | {
                "collection": index.collection,
                "surplus": index.count() - self._books.chunks(index.collection),
            }
            if not audit.repair:
                return report | {"clean": found.clean}
            after, unsettled = self._check(running, notebook, progress)
            report |= {
                "repaired": {kind.value: count for kind, count in repair.done.items()},
                "after": after.as_json()["findings"],
                "unsettled": unsettled,
                "surplus": index.count() - self._books.chunks(index.collection),
            }
            by_people = any(found.found[kind] for kind in BY_PEOPLE)
            return report | {"clean": not (after.found or unsettled or found.unchecked or by_people)}

    def _check(self, running: Audit, notebook: Notebook, progress: Progress) -> tuple[Report, int]:
        """Look at what was repaired once it has come to rest; returns what is still wrong, and what still moves."""
        after, unsettled, checked = Report(), 0, 0
        deadline = time.monotonic() + self._settle_s
        for part in notebook.repairs(SLICE):
            looked = running.look(part)
            while any(each.busy for each in looked.values()) and time.monotonic() < deadline:
                progress({"step": "settling", "repaired": checked})
                self._sleep(1.0)
                looked = running.look(part)
            for each in looked.values():
                unsettled += each.busy
                for finding in each.findings:
                    after.add(finding)
            checked += len(part)
        return after, unsettled

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped


def _tell(audit: Entry, report: dict[str, Any]) -> None:
    findings = {kind: told["documents"] for kind, told in report.get("findings", {}).items()}
    say = log.info if report["clean"] else log.warning
    say(
        "audit.finished",
        audit=audit.id,
        asked_by=audit.asked_by,
        clean=report["clean"],
        documents=report.get("documents"),
        points=report.get("points"),
        took_s=report["took_s"],
        **({"findings": findings} if findings else {}),
        **({"repaired": report["repaired"]} if report.get("repaired") else {}),
        **({"failed": report["failed"]} if "failed" in report else {}),
    )
