"""Everything that can happen to a watched folder, done to one: each test injects one fault and then asks the ledger."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.event import listens_for

from producers import deletions, events, held, lookout, scan
from producers.brake import Gone
from producers.ignore import IgnoreRules
from producers.roots import MARKER
from producers.settle import Sign
from tests.support.following import Following, as_nobody
from tests.support.stack import ROOT, environment
from workers.contract import intake, schema
from workers.contract.schema import documents
from workers.contract.states import State


@pytest.fixture
def following(tmp_path):
    following = Following(tmp_path)
    yield following
    following.close()


def fill(following: Following, count: int) -> None:
    for number in range(count):
        (following.root / f"{number}.txt").write_text("x")


# ---------------------------------------------------------------------------- the kernel's events


def test_an_overflow_of_the_kernels_queue_leads_to_a_scan(following):
    for name in ("a.txt", "b.txt"):
        (following.root / name).write_text("x")
    following.start()
    watches = following.follower.lookout._stream._watches
    before = following.scanned_at()

    with watches._lock:  # nothing is read while this is held
        with open("/proc/sys/fs/inotify/max_queued_events") as file:
            limit = int(file.read())
        for _ in range(limit // 2 + 1000):  # two names in turn, because the kernel joins equal events
            os.utime(following.root / "a.txt")
            os.utime(following.root / "b.txt")
        (following.root / "lost.txt").write_text("its event found no room")

    following.until(lambda: "lost.txt" in following.wanted())
    following.until(lambda: following.scanned_at() > before)


def test_directories_that_get_no_watch_are_polled_and_an_alarm_names_the_limit(tmp_path, monkeypatch):
    from watchdog.observers.inotify_c import InotifyFD

    following = Following(tmp_path, polling_interval=0.3)
    add = InotifyFD._add_callback

    def full(self, path, *rest):
        if path.endswith(b"/deep"):
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return add(self, path, *rest)

    monkeypatch.setattr(InotifyFD, "_add_callback", full)
    monkeypatch.setattr("producers.lookout.BLIND_CHECK_S", 0.1)
    monkeypatch.setattr("producers.lookout.RETRY_WATCH_S", 4.0)
    (following.root / "deep").mkdir()
    try:
        following.start()
        following.until(lambda: "max_user_watches" in following.alarm())
        (following.root / "deep" / "a.txt").write_text("x")
        following.until(lambda: "deep/a.txt" in following.wanted())

        monkeypatch.setattr(InotifyFD, "_add_callback", add)  # somebody has raised the limit
        following.until(lambda: not following.alarm())
        assert not following.follower.polling
    finally:
        following.close()


def test_a_root_that_gets_no_watch_at_all_is_polled(tmp_path, monkeypatch):
    from watchdog.observers.inotify_c import InotifyFD

    def full(*_):
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(InotifyFD, "_add_callback", full)
    following = Following(tmp_path, polling_interval=0.3)
    try:
        following.start()
        (following.root / "a.txt").write_text("x")
        following.until(lambda: "a.txt" in following.wanted())
        assert "max_user_watches" in following.alarm()
    finally:
        following.close()


def test_a_folder_that_sends_no_events_is_found_out_by_the_probe_and_polled(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "_sign", lambda _event: None)
    following = Following(tmp_path, polling_interval=0.3, probe_wait=0.3)
    try:
        following.start()
        following.until(lambda: "sends no events" in following.alarm())
        (following.root / "a.txt").write_text("x")
        following.until(lambda: "a.txt" in following.wanted())
    finally:
        following.close()


def test_events_that_come_no_more_are_missed_by_the_heartbeat_and_asked_for_anew(tmp_path, monkeypatch):
    following = Following(tmp_path, probe_wait=0.3, probe_interval=0.3)
    try:
        following.start()
        following.until(lambda: following.follower.lookout._proved)
        stream = following.follower.lookout._stream
        with monkeypatch.context() as patch:
            patch.setattr(events, "_sign", lambda _event: None)
            (following.root / "a.txt").write_text("x")
            following.until(lambda: "a.txt" in following.wanted())
        assert following.follower.lookout._stream is not stream
    finally:
        following.close()


def test_a_dead_reader_is_noticed_and_nothing_is_missed(following):
    following.start()
    stream = following.follower.lookout._stream
    stream._reader.stop()
    (following.root / "a.txt").write_text("x")

    following.until(lambda: "a.txt" in following.wanted())
    following.until(lambda: following.follower.lookout._stream is not stream)
    (following.root / "b.txt").write_text("x")
    following.until(lambda: "b.txt" in following.wanted())


@pytest.mark.parametrize("dead", [False, True])
def test_watchdogs_own_observer_does_where_there_is_no_inotify(following, monkeypatch, dead):
    monkeypatch.setattr(lookout, "open_stream", events.GeneralStream)
    (following.root / "old").mkdir()
    (following.root / "old" / "a.txt").write_text("x")
    following.start()
    if dead:
        following.follower.lookout._stream._observer.stop()
    (following.root / "old").rename(following.root / "new")
    (following.root / "b.txt").write_text("x")

    following.until(lambda: following.wanted() == {"new/a.txt", "b.txt"})


def test_an_exception_in_the_handler_ends_in_a_scan_and_not_in_silence(following, monkeypatch):
    following.start()
    with monkeypatch.context() as patch:
        patch.setattr(events, "_sign", lambda _event: 1 / 0)
        (following.root / "a.txt").write_text("x")
        following.until(lambda: "a.txt" in following.wanted())

    (following.root / "b.txt").write_text("x")
    following.until(lambda: "b.txt" in following.wanted())


def test_trouble_with_one_folder_does_not_end_the_watching(following, monkeypatch):
    following.start()
    with monkeypatch.context() as patch:
        patch.setattr("producers.follow.look", lambda *_: 1 / 0)
        (following.root / "a.txt").write_text("x")
        following.until(lambda: following.follower._not_before > time.monotonic())

    following.until(lambda: "a.txt" in following.wanted())


# ---------------------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("place", ["folder", "file"])
def test_what_cannot_be_looked_at_is_not_gone(following, monkeypatch, number, place):
    (following.root / "sub").mkdir()
    for name in ("sub/a.txt", "b.txt"):
        (following.root / name).write_text("x")
    following.start()

    def failing(name: str):
        function = getattr(os, name)

        def call(path, *words, **options):
            if os.fsencode(path).endswith(b"/sub" if place == "folder" else b"a.txt"):
                raise OSError(number, os.strerror(number))
            return function(path, *words, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("open", "lstat"):
            patch.setattr(scan.os, name, failing(name))
        following.follower.hear(b"sub/a.txt" if place == "file" else b"sub", Sign.NAMED)
        following.scan()
        assert following.wanted() == {"sub/a.txt", "b.txt"}

    assert following.wanted() == {"sub/a.txt", "b.txt"}


def test_a_directory_that_may_not_be_listed_is_unknown_and_not_empty():
    with tempfile.TemporaryDirectory() as home:  # tmp_path itself is closed to anybody else
        Path(home).chmod(0o755)
        closed = Path(home) / "closed"
        closed.mkdir()
        (closed / "a.txt").write_text("x")
        closed.chmod(0)
        scanned, rules = scan.Scanned(), IgnoreRules(Path(home))
        with as_nobody():
            assert list(scan.walk(Path(home), b"", rules, scanned)) == []
        assert scanned.unreadable == ["closed"]
        assert scanned.unknown("closed/a.txt")
        closed.chmod(0o755)
        assert [found.path for found in scan.walk(Path(home), b"", rules, scan.Scanned())] == ["closed/a.txt"]


def test_a_directory_that_could_not_be_read_is_picked_up_when_it_can_be(following, monkeypatch):
    monkeypatch.setattr("producers.scanner.UNREADABLE_S", 0.3)
    (following.root / "closed").mkdir()
    (following.root / "closed" / "a.txt").write_text("x")
    opened = os.open

    def closed(path, *words, **options):
        if os.fsencode(path).endswith(b"/closed"):
            raise PermissionError(errno.EACCES, "no")
        return opened(path, *words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(scan.os, "open", closed)
        following.start()
        assert following.wanted() == set()

    following.until(lambda: following.wanted() == {"closed/a.txt"})


# ---------------------------------------------------------------------------- the root


def test_an_empty_folder_in_the_place_of_the_root_deletes_nothing_and_raises_an_alarm(following, tmp_path):
    fill(following, 5)
    following.start()
    following.root.rename(tmp_path / "unmounted")
    following.root.mkdir()

    following.until(following.alarm)
    assert "Nothing is deleted" in following.alarm()
    assert MARKER in following.alarm()
    following.until(lambda: following.follower.dirty == 0)
    assert len(following.wanted()) == 5

    following.root.rmdir()
    (tmp_path / "unmounted").rename(following.root)
    following.until(lambda: not following.alarm())
    (following.root / "after.txt").write_text("x")
    following.until(lambda: "after.txt" in following.wanted())
    assert len(following.wanted()) == 6


def test_a_watcher_that_starts_over_an_empty_folder_believes_nothing(following, tmp_path):
    fill(following, 5)
    following.start()
    following.stop()
    following.root.rename(tmp_path / "unmounted")
    following.root.mkdir()
    following.start(scanned=False)

    following.until(following.alarm)
    assert not (following.root / MARKER).exists()
    assert len(following.wanted()) == 5


def test_the_whole_root_deleted_and_made_again_is_followed_again(following):
    (following.root / "a.txt").write_text("x")
    following.start()
    marker = (following.root / MARKER).read_bytes()
    shutil.rmtree(following.root)
    following.until(following.alarm)
    assert following.wanted() == {"a.txt"}
    following.root.mkdir()
    (following.root / MARKER).write_bytes(marker)
    (following.root / "b.txt").write_text("x")

    following.until(lambda: not following.alarm())
    following.until(lambda: following.wanted() == {"b.txt"})
    (following.root / "c.txt").write_text("x")
    following.until(lambda: following.wanted() == {"b.txt", "c.txt"})


def test_a_folder_that_cannot_be_written_is_known_by_its_place(following, tmp_path, monkeypatch):
    monkeypatch.setattr("producers.folder.place_marker", lambda _path: None)
    fill(following, 5)
    following.start()
    following.root.rename(tmp_path / "unmounted")
    following.root.mkdir()

    following.until(lambda: "another disk or folder has taken its place" in following.alarm())
    assert len(following.wanted()) == 5


# ---------------------------------------------------------------------------- the ledger


def test_the_ledger_being_locked_only_delays(tmp_path):
    following = Following(tmp_path, busy_timeout_s=0.1)
    try:
        following.start()
        holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        (following.root / "a.txt").write_text("x")
        following.until(lambda: following.follower._not_before > time.monotonic())
        assert following.follower.dirty > 0
        holder.execute("ROLLBACK")
        holder.close()

        following.until(lambda: "a.txt" in following.wanted())
    finally:
        following.close()


def test_a_full_disk_under_the_ledger_only_delays(following):
    limit = {"pages": 1}

    @listens_for(following.engine, "begin")
    def full(connection):
        connection.exec_driver_sql(f"PRAGMA max_page_count = {limit['pages']}")

    limit["pages"] = 1 << 30
    following.start()
    with following.engine.connect() as connection:
        limit["pages"] = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    for number in range(300):
        (following.root / (f"{number}" * 60)).write_text("x")
    following.until(lambda: following.follower._not_before > time.monotonic())
    assert following.follower.dirty > 0

    limit["pages"] = 1 << 30
    following.until(lambda: len(following.wanted()) == 300)


def test_a_deletion_that_the_ledger_cannot_take_is_decided_again(following, monkeypatch):
    from sqlalchemy.exc import OperationalError

    (following.root / "a.txt").write_text("x")
    following.start()
    observe, failed = intake.observe, []

    def busy(engine, batch):
        if len(failed) < 2:
            failed.append(1)
            raise OperationalError("busy", {}, Exception())
        return observe(engine, batch)

    monkeypatch.setattr(intake, "observe", busy)
    (following.root / "a.txt").unlink()

    following.until(lambda: following.wanted() == set())
    assert len(failed) == 2


def test_a_scan_that_the_ledger_interrupts_is_begun_again(following, monkeypatch):
    from sqlalchemy.exc import OperationalError

    (following.root / "a.txt").write_text("x")
    following.start()
    assert following.hinted == [row.id for row in following.rows().values()]
    finished, failed = intake.scan_finished, []

    def busy(engine, source):
        if not failed:
            failed.append(1)
            raise OperationalError("busy", {}, Exception())
        finished(engine, source)

    monkeypatch.setattr(intake, "scan_finished", busy)
    following.scan()  # one that is needed and not due: nobody else would begin it again

    assert failed == [1]


def test_a_file_that_is_there_at_the_second_look_is_not_deleted_whatever_the_first_one_said(following):
    """Its deletion was noticed, its return was not: the event found no room."""
    (following.root / "a.txt").write_text("x")
    following.start()

    following.follower.deletions.went(Gone("a.txt", b"a.txt", None))
    (following.root / "b.txt").write_text("another event, which wakes the watcher up")
    following.until(lambda: following.wanted() >= {"b.txt"} and following.follower.dirty == 0)

    assert following.wanted() == {"a.txt", "b.txt"}


def test_a_disk_that_goes_away_while_it_is_looked_at_again_deletes_nothing(following, monkeypatch, tmp_path):
    (following.root / "a.txt").write_text("x")
    following.start()
    second_look, aside = deletions.look, tmp_path / "aside"

    def and_the_disk_is_gone(*args):
        if not aside.exists():
            following.root.rename(aside)
            following.root.mkdir()
        return second_look(*args)

    monkeypatch.setattr(deletions, "look", and_the_disk_is_gone)
    following.follower.deletions.went(Gone("a.txt", b"a.txt", None))
    (following.root / "b.txt").write_text("another event, which wakes the watcher up")
    following.until(lambda: "marker" in following.alarm())

    assert "a.txt" in following.wanted()


# ---------------------------------------------------------------------------- the brake


def test_a_rejected_deletion_of_files_that_stay_away_is_held_again_and_never_decided_without_a_person(following):
    fill(following, 60)
    following.start()
    following.index_all()
    for number in range(40):
        (following.root / f"{number}.txt").unlink()
    following.until(lambda: len(held.held(following.engine)) == 40)
    held.reject(following.engine)
    assert len(following.wanted()) == 60

    following.scan()

    following.until(lambda: len(held.held(following.engine)) == 40)
    following.until(lambda: "upwell held approve" in following.alarm())


def test_a_held_document_whose_file_is_back_waits_for_nobody(following):
    fill(following, 60)
    following.start()
    following.index_all()
    for number in range(40):
        (following.root / f"{number}.txt").unlink()
    following.until(lambda: len(held.held(following.engine)) == 40)
    fill(following, 60)

    following.until(lambda: not held.held(following.engine))
    following.until(lambda: not following.alarm())
    assert {row.state for row in following.rows().values()} <= {State.QUEUED, State.READY}


def test_moving_a_folder_of_any_size_is_no_mass_deletion(following, monkeypatch):
    (following.root / "old").mkdir()
    for number in range(200):
        (following.root / "old" / f"{number}.txt").write_text(str(number))
    following.start()
    following.index_all()
    (following.root / "old").rename(following.root / "new")

    following.until(lambda: following.wanted() == {f"new/{number}.txt" for number in range(200)})
    assert not following.alarm()


def test_a_folder_that_is_renamed_and_renamed_back_before_it_was_looked_at_again_is_no_mass_deletion(following):
    """The new names were noticed, the watcher died before the old ones counted as gone, and all is as it was."""
    paths = {f"{number}.txt" for number in range(60)}
    ready, following.settings = following.settings, following.settings.model_copy(update={"deletion_wait": 3600.0})
    fill(following, 60)
    following.start()
    for path in paths:
        (following.root / path).rename(following.root / path.replace(".txt", ".md"))
    following.until(lambda: len(following.wanted()) == 120)
    following.index_all()
    following.stop()
    for path in paths:
        (following.root / path.replace(".txt", ".md")).rename(following.root / path)
    following.settings = ready

    following.start()

    following.until(lambda: following.wanted() == paths)
    assert not held.held(following.engine)
    assert not following.alarm()


# ---------------------------------------------------------------------------- the process


def test_a_watcher_that_was_killed_finds_what_changed_meanwhile_and_needs_no_broker_for_it(tmp_path, free_port):
    """As a process of its own, with a broker that is down all the time: the ledger has everything, the sweep hints."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("edited.txt", "deleted.txt"):
        (docs / name).write_text("x")
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    command = [sys.executable, "-m", "ops.cli", "watch", str(docs)]
    settings = environment(
        UPWELL_LEDGER_URL=f"sqlite:///{tmp_path}/ledger.db", UPWELL_BROKER_URL=f"redis://127.0.0.1:{free_port()}/0"
    )

    def known() -> dict[str, tuple[str, int]]:
        with schema.reading(engine).connect() as connection:
            return {row.path: (row.wanted, row.seen_size) for row in connection.execute(select(documents))}

    def follow_until(expected: dict[str, tuple[str, int]]) -> None:
        with (tmp_path / "out").open("ab") as out:
            process = subprocess.Popen(
                command, cwd=ROOT, env=settings, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        try:
            deadline = time.monotonic() + 60
            while known() != expected:
                assert process.poll() is None, (tmp_path / "out").read_text()
                assert time.monotonic() < deadline, known()
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()

    follow_until({"edited.txt": ("present", 1), "deleted.txt": ("present", 1)})
    (docs / "edited.txt").write_text("changed while away")
    (docs / "deleted.txt").unlink()
    (docs / "new.txt").write_text("new")
    follow_until({"edited.txt": ("present", 18), "deleted.txt": ("absent", 1), "new.txt": ("present", 3)})
    engine.dispose()


FEW_WATCHES = """
import sys
from pathlib import Path
Path("/proc/sys/user/max_inotify_watches").write_text("6")
from tests.support.following import Following
following = Following(Path(sys.argv[1]), polling_interval=0.5)
for number in range(10):
    (following.root / str(number)).mkdir()
following.start()
following.until(following.alarm)
print(following.alarm())
for number in range(10):
    (following.root / str(number) / "a.txt").write_text("x")
following.until(lambda: len(following.wanted()) == 10)
print("all ten are found")
following.close()
"""


def test_a_real_limit_of_watches_is_lived_with(tmp_path):
    """In a user namespace of its own, which has a limit of its own."""
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", FEW_WATCHES, str(tmp_path)]

    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert "5 folders in it got no watch" in done.stdout
    assert "all ten are found" in done.stdout


UNMOUNT = """
import sys, time
from pathlib import Path
from tests.support.following import Following
home = Path(sys.argv[1])
run = lambda *words: __import__("subprocess").run(words, check=True)
disk, docs = home / "disk", home / "docs"
disk.mkdir(); docs.mkdir()
run("mount", "--bind", str(disk), str(docs))
following = Following(home)
for number in range(60):
    (docs / f"{number}.txt").write_text("x")
following.start()
run("umount", "--lazy", str(docs))
following.until(following.alarm)
print(following.alarm())
following.until(lambda: following.follower.dirty == 0)
print(len(following.wanted()), "documents while unmounted")
run("mount", "--bind", str(disk), str(docs))
(docs / "after.txt").write_text("x")
following.until(lambda: not following.alarm())
following.until(lambda: "after.txt" in following.wanted())
(docs / "later.txt").write_text("x")
following.until(lambda: "later.txt" in following.wanted())
print(len(following.wanted()), "documents when mounted again")
following.close()
"""


def test_a_real_mount_that_goes_and_comes_back_deletes_nothing(tmp_path):
    """In a user and a mount namespace of its own, where anybody may mount."""
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", UNMOUNT, str(tmp_path)]

    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert "Nothing is deleted" in done.stdout
    assert "60 documents while unmounted" in done.stdout
    assert "62 documents when mounted again" in done.stdout
