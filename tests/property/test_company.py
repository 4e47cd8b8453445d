"""Documents that walk side by side end as their files, whatever happens at any of their common writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.property.test_conformance import FAULTS, Fault, Faulty, Killed
from tests.support.workbench import Workbench
from workers.contract.intake import observe
from workers.contract.schema import documents
from workers.indexing.deadline import LeaseLost

BEFORE = {"stays.txt": "one\n\ntwo", "goes.txt": "three", "goes too.txt": "four", "changes.txt": "five\n\nsix"}
AFTER = {
    "stays.txt": "one\n\ntwo",
    "changes.txt": "five\n\nseven",
    "comes.txt": "eight\n\nnine",
    "comes too.txt": "ten",
    "empties.txt": "",
}


class Folder(Workbench):
    """Several files that all change at once, and one worker that takes their documents in company."""

    def __init__(self, home: Path) -> None:
        self.fault, self.keys = Fault(), dict[str, str]()
        super().__init__(home, wrap=lambda port: Faulty(port, self.fault, lambda: None), durable=False)

    def become(self, files: dict[str, str]) -> list[str]:
        """Let the folder have these files; returns the documents that a watcher would hint at."""
        seen = []
        for name in sorted(self.keys.keys() | files.keys()):
            path = self.root / name
            if name in files:
                path.write_text(files[name])
            else:
                path.unlink(missing_ok=True)
            seen.append(self.observation(name, bulk=True))
            self.keys[name] = seen[-1].document_id
        return observe(self.engine, seen)

    def heal(self) -> None:
        """Leases run out, waiting times pass, verifies come due; whoever is due is looked at, in company again."""
        self.fault.kind = None
        for _ in range(6):
            self.worker.index_breaker.succeeded()
            self.expire()
            self.let_verifies_come_due()
            due = [key for key, _ in self.worker.ledger.due("recipe", 100)]
            if not due:
                break
            self.worker.look_all(due)
        self.worker.embed()

    def check(self, files: dict[str, str]) -> None:
        """The index is the files, and the ledger says so."""
        for name, key in self.keys.items():
            wanted = [block for block in files.get(name, "").split("\n\n") if block]
            assert self.index.contents(key) == wanted, name
        self.check_at_rest()


def faults(home: Path) -> Iterator[tuple[str, Folder]]:
    """Yield folders that were indexed, changed altogether, and met a fault at a write of the company."""
    for kind in FAULTS:
        for at in range(30):
            (place := home / f"{kind} {at}".replace(",", "")).mkdir()
            folder = Folder(place)
            folder.worker.look_all(folder.become(BEFORE))
            folder.worker.embed()
            folder.check(BEFORE)
            due = folder.become(AFTER)
            folder.fault.arm(kind, at)
            with suppress(Killed):
                folder.worker.look_all(due)
            if folder.fault.kind is not None:
                assert at > 3  # the documents' common writes, and those of the one that has chunks to keep
                folder.engine.dispose()
                break
            yield kind, folder
            folder.engine.dispose()


def test_whatever_happens_at_any_write_of_a_company_each_document_ends_as_its_file(tmp_path):
    for _, folder in faults(tmp_path):
        late = folder.fault.late
        folder.heal()
        if late is not None:
            with suppress(LeaseLost):
                late()
            with folder.engine.begin() as connection:  # whoever was overtaken is verified after its last write
                connection.execute(update(documents).values(verify_at=1.0))
        folder.heal()
        folder.check(AFTER)


@pytest.mark.parametrize("files", [BEFORE, AFTER])
def test_without_a_fault_a_company_needs_one_walk(tmp_path, files):
    folder = Folder(tmp_path)

    folder.worker.look_all(folder.become(files))
    assert folder.worker.ledger.due("recipe", 100) == []
    folder.worker.embed()

    folder.check(files)
    folder.engine.dispose()
