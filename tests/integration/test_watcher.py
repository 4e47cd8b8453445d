"""The watcher over a real folder and a real ledger: whatever the kernel says or forgets, the ledger ends right."""

from __future__ import annotations

import os
import shutil
import threading
import time

import pytest
from sqlalchemy import select

from producers import held
from producers.compare import compare
from producers.roots import MARKER, Root
from producers.settings import WatcherSettings
from producers.watch import Watcher
from tests.support.following import Following
from workers.contract import schema
from workers.contract.schema import documents, processes
from workers.contract.states import State


@pytest.fixture
def following(tmp_path):
    following = Following(tmp_path)
    yield following
    following.close()


def test_what_is_there_at_the_start_and_what_comes_later_is_noticed(following):
    (following.root / "old.txt").write_text("old")
    following.start()
    (following.root / "new.txt").write_text("new")

    following.until(lambda: following.wanted() == {"old.txt", "new.txt"})
    assert len(set(following.hinted)) == 2


def test_a_nested_tree_made_at_once_is_noticed_whole(following):
    following.start()
    for number in range(30):
        folder = following.root / "a" / "b" / str(number)
        folder.mkdir(parents=True)
        (folder / "f.txt").write_text("x")

    following.until(lambda: len(following.wanted()) == 30)


def test_an_atomic_save_is_one_change_and_no_draft_becomes_a_document(following):
    (following.root / "a.txt").write_text("one")
    following.start()
    before = following.rows()["a.txt"].desired_generation
    (following.root / "a.txt.tmp").write_text("two")
    (following.root / "a.txt.tmp").replace(following.root / "a.txt")

    following.until(lambda: following.rows()["a.txt"].desired_generation > before)
    assert set(following.rows()) == {"a.txt"}


def test_a_rewrite_that_keeps_size_and_time_is_noticed_by_its_event(following):
    file = following.root / "a.txt"
    file.write_text("one")
    following.start()
    before, stat = following.rows()["a.txt"].desired_generation, file.stat()
    file.write_text("two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    following.until(lambda: following.rows()["a.txt"].desired_generation > before)


def test_a_deletion_is_noticed(following):
    (following.root / "a.txt").write_text("one")
    following.start()
    (following.root / "a.txt").unlink()

    following.until(lambda: following.rows()["a.txt"].wanted == "absent")


def test_a_renamed_directory_leaves_nothing_under_its_old_name(following):
    (following.root / "old").mkdir()
    for number in range(100):
        (following.root / "old" / f"{number}.txt").write_text(str(number))
    following.start()
    following.index_all()
    (following.root / "old").rename(following.root / "new")

    following.until(lambda: following.wanted() == {f"new/{number}.txt" for number in range(100)})
    assert following.source().alarm is None


def test_a_directory_moved_out_is_deleted_and_one_moved_in_is_indexed(following, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "in.txt").write_text("in")
    (following.root / "away").mkdir()
    (following.root / "away" / "out.txt").write_text("out")
    following.start()
    (following.root / "away").rename(tmp_path / "gone")
    outside.rename(following.root / "inside")

    following.until(lambda: following.wanted() == {"inside/in.txt"})


def test_what_changed_while_nobody_watched_is_found_at_the_start(following):
    for name in ("a.txt", "b.txt"):
        (following.root / name).write_text(name)
    following.start()
    following.stop()
    (following.root / "a.txt").write_text("changed while away")
    (following.root / "b.txt").unlink()
    before = following.rows()["a.txt"].desired_generation
    following.start()

    following.until(lambda: following.rows()["a.txt"].desired_generation > before)
    following.until(lambda: following.wanted() == {"a.txt"})


def test_a_second_start_over_unchanged_files_writes_nothing(following):
    for number in range(50):
        (following.root / f"{number}.txt").write_text("x")
    following.start()
    following.stop()
    before = following.rows()
    following.hinted.clear()
    following.start()

    assert following.rows() == before
    assert following.hinted == []


def test_a_mass_deletion_is_held_until_somebody_decides(following):
    for number in range(60):
        (following.root / f"{number}.txt").write_text("x")
    following.start()
    following.index_all()
    for number in range(40):
        (following.root / f"{number}.txt").unlink()

    following.until(lambda: len(held.held(following.engine)) == 40)
    assert "upwell held approve" in following.source().alarm

    held.approve(following.engine)
    assert len(following.wanted()) == 20
    assert following.source().alarm is None


def test_a_rejected_deletion_leaves_the_documents_as_they_are(following):
    for number in range(60):
        (following.root / f"{number}.txt").write_text("x")
    following.start()
    following.index_all()
    for number in range(40):
        (following.root / f"{number}.txt").unlink()
    following.until(lambda: len(held.held(following.engine)) == 40)
    following.stop()

    held.reject(following.engine)

    assert {row.state for row in following.rows().values()} == {State.READY}


def test_special_files_are_recorded_and_never_opened(following, tmp_path):
    (tmp_path / "secret").write_text("root password")
    following.start()
    os.mkfifo(following.root / "pipe")
    (following.root / "link.txt").symlink_to(tmp_path / "secret")
    (following.root / "loop").symlink_to(following.root)
    (following.root / "plain.txt").write_text("x")

    following.until(lambda: {"pipe", "link.txt", "plain.txt"} <= set(following.rows()))
    assert following.wanted() == {"plain.txt"}
    assert "symbolic link" in following.rows()["link.txt"].reason


def test_ignore_rules_are_followed_also_when_they_change(following):
    (following.root / ".upwellignore").write_text("*.log\n")
    (following.root / "a.log").write_text("x")
    (following.root / "a.txt").write_text("x")
    (following.root / "node_modules").mkdir()
    (following.root / "node_modules" / "b.txt").write_text("x")
    following.start()
    assert following.rows()["a.log"].state == State.SKIPPED
    assert ".upwellignore line 1" in following.rows()["a.log"].reason
    assert following.wanted() == {"a.txt"}

    (following.root / ".upwellignore").write_text("*.txt\n")

    following.until(lambda: following.wanted() == {"a.log"})


def test_names_that_are_no_utf8_and_names_with_line_breaks_are_documents(following):
    following.start()
    raw = os.path.join(os.fsencode(following.root), b"caf\xe9.txt")
    with open(raw, "w") as file:
        file.write("x")
    (following.root / "two\nlines.txt").write_text("x")

    following.until(lambda: following.wanted() == {"caf\\xe9.txt", "two\nlines.txt"})


def test_twins_in_composed_and_decomposed_unicode_are_one_document_that_does_not_flap(following):
    (following.root / "caf\u00e9.txt").write_text("x")
    (following.root / "cafe\u0301.txt").write_text("y")
    following.start()
    before = following.rows()

    following.scan()

    assert following.rows() == before
    assert following.wanted() == {"caf\u00e9.txt"}


def test_the_marker_is_placed_once_and_is_no_document(following):
    following.start()

    assert (following.root / MARKER).exists()
    assert following.source().marker == (following.root / MARKER).read_text().strip()
    assert MARKER not in following.rows()


def test_it_beats_and_tells_when_everything_has_settled(following):
    following.start()

    def info():
        with following.engine.connect() as connection:
            return connection.execute(select(processes.c.info)).scalar_one()

    following.until(lambda: '"dirty": 0' in info())
    assert '"scanning": false' in info()


def test_two_watchers_of_one_folder_make_one_document(following, tmp_path):
    following.start()
    other = Following(tmp_path)
    other.start()
    (following.root / "a.txt").write_text("x")

    following.until(lambda: "a.txt" in following.wanted())
    assert len(following.rows()) == 1
    other.stop()
    other.engine.dispose()


def test_a_sidecar_makes_its_document_look_changed_and_is_none_itself(following):
    (following.root / "a.txt").write_text("one")
    following.start()
    generations = [following.rows()["a.txt"].desired_generation]
    sidecar = following.root / "a.txt.meta.json"

    for change in (lambda: sidecar.write_text("{}"), lambda: sidecar.write_text('{"a": 1}'), sidecar.unlink):
        change()
        following.until(lambda: following.rows()["a.txt"].desired_generation > generations[-1])
        generations.append(following.rows()["a.txt"].desired_generation)

    assert set(following.rows()) == {"a.txt"}


def test_a_renamed_file_is_gone_under_its_old_name_and_there_under_the_new_one(following):
    (following.root / "old.txt").write_text("x")
    following.start()
    (following.root / "old.txt").rename(following.root / "new.txt")

    following.until(lambda: following.wanted() == {"new.txt"})


def test_a_file_that_is_written_piece_by_piece_is_recorded_whole(following):
    following.start()
    with (following.root / "a.txt").open("w") as file:
        for _ in range(20):
            file.write("piece " * 100)
            file.flush()
            time.sleep(0.03)

    following.until(lambda: "a.txt" in following.rows() and following.rows()["a.txt"].seen_size == 12_000)


def test_saving_as_vim_and_as_libreoffice_do_leaves_one_document_each(following):
    following.start()
    (following.root / "plan.odt").write_text("one")
    (following.root / "notes.md").write_text("one")
    following.until(lambda: len(following.wanted()) == 2)
    before = {path: row.desired_generation for path, row in following.rows().items()}

    (following.root / "4913").touch()
    (following.root / "4913").unlink()
    (following.root / ".notes.md.swp").write_text("swap")
    (following.root / "notes.md").rename(following.root / "notes.md~")
    (following.root / "notes.md").write_text("two two")
    (following.root / "notes.md~").unlink()
    (following.root / ".~lock.plan.odt#").write_text("lock")
    (following.root / "lu12345.tmp").write_text("two two")
    (following.root / "lu12345.tmp").replace(following.root / "plan.odt")
    (following.root / ".~lock.plan.odt#").unlink()

    following.until(lambda: all(row.seen_size == 7 for row in following.rows().values()))
    assert {path: row.desired_generation > before[path] for path, row in following.rows().items()} == {
        "notes.md": True,
        "plan.odt": True,
    }
    assert following.wanted() == {"notes.md", "plan.odt"}


def test_a_file_deleted_and_made_again_in_a_loop_ends_as_it_is(following):
    following.start()
    file = following.root / "a.txt"
    for number in range(100):
        file.write_text("x" * (number + 1))
        file.unlink()
    file.write_text("the last one")

    following.until(lambda: following.rows().get("a.txt") and following.rows()["a.txt"].seen_size == 12)
    following.until(lambda: following.follower.dirty == 0)
    row = following.rows()["a.txt"]
    assert (row.wanted, row.seen_inode) == ("present", file.stat().st_ino)


def test_a_directory_that_becomes_a_file_leaves_no_documents_below_that_file(following, tmp_path):
    (following.root / "a").mkdir()
    (following.root / "a" / "b.txt").write_text("x")
    following.start()
    (following.root / "a").rename(tmp_path / "elsewhere")
    (following.root / "a").write_text("a file now")

    following.until(lambda: following.wanted() == {"a"})


def test_edits_in_a_directory_that_was_moved_out_are_nobodys_business(following, tmp_path):
    (following.root / "away").mkdir()
    (following.root / "away" / "a.txt").write_text("x")
    following.start()
    (following.root / "away").rename(tmp_path / "gone")
    following.until(lambda: following.wanted() == set())
    (tmp_path / "gone" / "a.txt").write_text("edited outside")
    (tmp_path / "gone" / "b.txt").write_text("made outside")
    (following.root / "c.txt").write_text("x")

    following.until(lambda: following.wanted() == {"c.txt"})
    assert "away/b.txt" not in following.rows()


def test_a_second_name_in_another_unicode_form_raises_an_alarm_and_takes_over_when_the_first_one_goes(following):
    (following.root / "caf\u00e9.txt").write_text("x")
    following.start()
    (following.root / "cafe\u0301.txt").write_text("another")
    following.until(lambda: "Unicode form" in following.alarm())
    assert following.rows()["caf\u00e9.txt"].seen_size == 1

    (following.root / "caf\u00e9.txt").unlink()

    following.until(lambda: following.rows()["caf\u00e9.txt"].seen_size == 7)
    following.scan()
    following.until(lambda: not following.alarm())
    assert following.wanted() == {"caf\u00e9.txt"}


def test_a_hard_link_is_a_file_like_any_other(following, tmp_path):
    (tmp_path / "elsewhere.txt").write_text("x")
    following.start()
    os.link(tmp_path / "elsewhere.txt", following.root / "a.txt")

    following.until(lambda: following.wanted() == {"a.txt"})


def test_secrets_and_the_innards_of_tools_are_no_documents(following):
    for name in (".env", ".git/config", "keys/id_rsa", "server.pem", "a.txt"):
        (following.root / name).parent.mkdir(exist_ok=True)
        (following.root / name).write_text("x")
    following.start()
    (following.root / ".ssh").mkdir()
    (following.root / ".ssh" / "config").write_text("x")
    (following.root / "b.txt").write_text("x")

    following.until(lambda: "b.txt" in following.wanted())
    assert set(following.rows()) == {"a.txt", "b.txt"}


def test_an_edit_does_not_wait_for_the_end_of_a_scan(following, monkeypatch):
    go_on = threading.Event()

    def held_up(*args, **kwargs):
        yield from compare(*args, **kwargs)
        while not go_on.is_set():
            yield None

    monkeypatch.setattr("producers.scanner.compare", held_up)
    monkeypatch.setattr("producers.scanner.BATCH", 50)
    for number in range(70):
        (following.root / f"{number}.txt").touch()
    following.start(scanned=False)
    following.until(following.wanted)
    (following.root / "edit.txt").write_text("x")
    following.until(lambda: "edit.txt" in following.wanted())

    assert following.scanned_at() is None
    go_on.set()
    following.until(lambda: len(following.wanted()) == 71)


@pytest.mark.parametrize("way", ["files", "directory", "found by a scan"])
def test_a_file_beside_a_burst_is_an_edit_and_the_burst_is_a_backfill(following, tmp_path, way):
    def make(folder) -> None:
        folder.mkdir()
        for number in range(150):
            (folder / f"{number}.txt").write_text("x")

    if way == "found by a scan":
        make(following.root / "in")
        following.start()
    else:
        following.start()
        if way == "files":
            make(following.root / "in")
        else:
            make(tmp_path / "in")
            (tmp_path / "in").rename(following.root / "in")
    (following.root / "note.txt").write_text("x")
    following.until(lambda: len(following.wanted()) == 151)

    rows = following.rows()
    assert rows["note.txt"].bulk is False
    assert sum(row.bulk for row in rows.values()) >= 100


def test_a_file_saved_right_after_a_folder_was_first_found_does_not_wait_for_all_that_was_in_it(following):
    for number in range(100):
        folder = following.root / str(number % 20)
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text("x")
    following.start()
    (following.root / "note.txt").write_text("x")
    (following.root / "3" / "beside.txt").write_text("x")
    following.until(lambda: len(following.wanted()) == 102)

    edits = {path for path, row in following.rows().items() if not row.bulk}
    assert edits == {"note.txt", "3/beside.txt"}


def test_a_few_files_that_a_folder_has_at_first_are_no_backfill(following):
    (following.root / "welcome.md").write_text("x")
    following.start()

    assert following.rows()["welcome.md"].bulk is False


def test_several_folders_are_followed_each_on_its_own(tmp_path):
    engine = schema.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    roots = [Root("one", tmp_path / "one"), Root("two", tmp_path / "two")]
    for root in roots:
        root.path.mkdir()
        (root.path / "same.txt").write_text(root.name)
    watcher = Watcher(WatcherSettings(), roots, engine, lambda *_: None)
    thread = threading.Thread(target=watcher.run)
    thread.start()

    def there() -> set[tuple[str, str]]:
        with schema.reading(engine).connect() as connection:
            rows = connection.execute(select(documents.c.source, documents.c.path, documents.c.wanted))
            return {(row.source, row.path) for row in rows if row.wanted == "present"}

    def until(condition) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, there()
            time.sleep(0.02)

    try:
        until(lambda: there() == {("one", "same.txt"), ("two", "same.txt")})
        shutil.rmtree(roots[0].path)
        (roots[1].path / "new.txt").write_text("x")
        until(lambda: ("two", "new.txt") in there())
        assert ("one", "same.txt") in there()
    finally:
        watcher.stop()
        thread.join(5)
        engine.dispose()
