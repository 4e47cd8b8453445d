"""When a path has come to rest, which paths are no documents, and what uploads may be called: pure rules."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from producers.brake import Brake, Gone
from producers.ignore import _FILES, DEFAULT_RULES, IgnoreRules, plain
from producers.roots import RootError, parse_roots, remote_type
from producers.settle import Settled, Settler, Sign
from producers.uploads import BadName, clean_name, clean_path
from workers.contract.identity import document_id, normal_path
from workers.contract.intake import Stat

A = b"a.txt"


class World:
    """A clock and a file system in two variables."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stats: dict[bytes, tuple[int, ...]] = {A: (1, 1)}
        self.burst: set[bytes] = set()
        self.settler = Settler(
            closed=0.05,
            quiet=1.0,
            longest=600,
            busiest=60,
            clock=lambda: self.now,
            stat=self.stats.get,
            in_burst=self.burst.__contains__,
        )

    def settled_at(self, now: float) -> list[bytes]:
        self.now = now
        return [each.path for each in self.settler.settled()]


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize("sign", [Sign.CLOSED, Sign.NAMED, Sign.TOLD])
def test_what_was_closed_or_renamed_settles_after_a_blink(world, sign):
    world.settler.touch(A, sign)

    assert world.settled_at(0.04) == []
    assert world.settled_at(0.05) == [A]
    assert len(world.settler) == 0


@pytest.mark.parametrize("sign", [Sign.CREATED, Sign.WRITTEN])
def test_an_open_file_settles_after_it_has_been_quiet(world, sign):
    world.settler.touch(A, sign)
    world.now = 0.9
    world.settler.touch(A, sign)

    assert world.settled_at(1.5) == []
    assert world.settled_at(1.95) == [A]


@pytest.mark.parametrize(
    ("signs", "written"),
    [
        ([Sign.CLOSED], True), ([Sign.WRITTEN], True), ([Sign.NAMED], False), ([Sign.TOLD], False),
        ([Sign.CREATED], False), ([Sign.WRITTEN, Sign.NAMED, Sign.TOLD], True),
    ],
)  # fmt: skip
def test_only_writing_makes_the_bytes_suspect(world, signs, written):
    for sign in signs:
        world.settler.touch(A, sign)
    world.now = 5.0

    assert world.settler.settled() == [Settled(A, written, named=Sign.NAMED in signs)]


def test_bytes_that_change_without_an_event_restart_the_wait(world):
    world.settler.touch(A, Sign.CLOSED)
    world.stats[A] = (2, 2)

    assert world.settled_at(0.1) == []
    assert world.settled_at(1.1) == [A]


def test_a_file_that_never_rests_is_passed_on_at_last_and_stays_dirty(world):
    world.settler.touch(A, Sign.WRITTEN)
    for second in range(1, 600):
        world.stats[A] = (second, second)
        world.now = second
        world.settler.touch(A, Sign.WRITTEN)
        assert world.settler.settled() == []

    world.stats[A] = (600, 600)
    assert world.settled_at(600) == [A]
    assert len(world.settler) == 1


def test_a_file_saved_ten_times_a_second_is_passed_on_ever_more_rarely(world):
    passed = []
    for tenth in range(6000):
        world.stats[A] = (tenth, tenth)
        world.settler.touch(A, Sign.CLOSED)
        passed += [tenth / 10 for _ in world.settled_at(tenth / 10 + 0.06)]

    assert len(passed) < 20
    assert passed[1] - passed[0] < 1.0  # the second save is not made to wait for the sake of a thousandth
    assert max(later - earlier for earlier, later in itertools.pairwise(passed)) <= 61.0


def test_what_could_not_be_dealt_with_comes_again(world):
    world.settler.touch(A, Sign.CLOSED)
    world.now = 0.05
    (settled,) = world.settler.settled()
    world.settler.again(settled)

    assert world.settled_at(0.5) == []
    world.now = 1.1
    assert world.settler.settled() == [settled]


def test_what_belongs_to_a_burst_waits_for_what_does_not(world):
    world.burst |= {b"%d.txt" % number for number in range(5)}
    for path in sorted(world.burst):
        world.settler.touch(path, Sign.CLOSED)
    world.now = 0.01
    world.settler.touch(A, Sign.CLOSED)
    world.now = 0.1

    assert world.settler.settled(3) == [
        Settled(A, True), Settled(b"0.txt", True, bulk=True), Settled(b"1.txt", True, bulk=True)
    ]  # fmt: skip
    assert world.settler.next_due() == 0.0
    assert len(world.settler.settled()) == 3
    assert world.settler.next_due() is None


def test_the_next_due_time_is_that_of_the_earliest(world):
    assert world.settler.next_due() is None
    world.settler.touch(A, Sign.WRITTEN)
    world.settler.touch(b"b", Sign.CLOSED)

    assert world.settler.next_due() == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("a.txt", False), (".git/config", True), ("src/node_modules/x/y.js", True), ("~$plan.docx", True),
        ("a.txt~", True), (".env", True), ("keys/id_rsa", True), ("notes/.hidden", True), ("download.part", True),
        ("server.pem", True), ("deep/er/file.md", False),
    ],
)  # fmt: skip
def test_default_rules(tmp_path, path, ignored):
    assert IgnoreRules(tmp_path).explain(path).ignored is ignored


def test_users_rules_have_the_syntax_and_the_precedence_of_gitignore(tmp_path):
    (tmp_path / ".upwellignore").write_text("# comment\n*.log\n!keep.log\nbuild/\n/top.txt\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".upwellignore").write_text("!*.log\nprivate.md\n")
    rules = IgnoreRules(tmp_path)

    assert rules.explain("a.log").ignored
    assert not rules.explain("keep.log").ignored
    assert not rules.explain("sub/a.log").ignored
    assert rules.explain("sub/private.md").ignored
    assert rules.explain("x/build/y.txt").ignored
    assert rules.explain("top.txt").ignored
    assert not rules.explain("x/top.txt").ignored


def test_a_verdict_names_rule_file_and_line(tmp_path):
    (tmp_path / ".upwellignore").write_text("\n*.log\n")
    verdict = IgnoreRules(tmp_path).explain("a.log")

    assert (verdict.rule, verdict.where, verdict.by_default) == ("*.log", ".upwellignore line 2", False)
    assert IgnoreRules(tmp_path).explain(".git/x").by_default


@pytest.mark.parametrize("rule", [rule for rule in DEFAULT_RULES if not rule.endswith("/")])
def test_no_name_that_a_default_rule_means_passes_the_quick_look(rule):
    name = rule.replace("*", "some name")

    assert _FILES.match(name)
    assert not plain(name)
    assert plain("report.md")


def test_a_rule_file_that_is_a_link_or_a_pipe_has_no_say_and_stops_nothing(tmp_path):
    (tmp_path / "rules").write_text("*.md\n")
    (tmp_path / ".upwellignore").symlink_to(tmp_path / "rules")
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "sub" / ".upwellignore")

    assert not IgnoreRules(tmp_path).explain("sub/a.md").ignored


def gone(number: int, **more) -> Gone:
    return Gone(f"{number}.txt", b"%d.txt" % number, Stat(1, 1, number), **more)


def make_brake() -> Brake:
    return Brake(wait=0.5, share=0.2, count=50, window=60)


def decided(brake: Brake, count: int, total: int, *, start: int = 0, now: float = 0.0):
    for number in range(start, start + count):
        brake.went(gone(number), now)
    assert not brake.due(now + 0.1)
    assert brake.due(now + 0.5)
    decision = brake.decide(brake.take(now + 0.5), total, now + 0.5)
    brake.deleted(brake.counted(decision.delete), now + 0.5)
    return decision


@pytest.mark.parametrize(
    ("count", "total", "held"), [(1, 1, False), (50, 50, False), (51, 100, True), (51, 1000, False)]
)
def test_the_brake_wants_both_a_share_and_a_number(count, total, held):
    decision = decided(make_brake(), count, total)

    assert (len(decision.delete), len(decision.hold)) == ((0, count) if held else (count, 0))


def test_a_mass_deletion_that_trickles_in_is_one_as_well():
    brake = make_brake()
    assert not decided(brake, 40, 100, now=0.0).hold

    assert len(decided(brake, 40, 60, start=40, now=10.0).hold) == 40


def test_deletions_of_long_ago_do_not_count():
    brake = make_brake()
    assert not decided(brake, 40, 100, now=0.0).hold

    assert not decided(brake, 40, 60, start=40, now=100.0).hold


def test_files_that_only_moved_do_not_count_for_the_brake():
    brake = make_brake()
    for number in range(100):
        brake.came(f"new/{number}.txt", Stat(1, 1, number), now=0.0)

    decision = decided(brake, 100, 100)

    assert (len(decision.delete), decision.hold) == (100, [])


def test_what_was_skipped_counts_for_nothing_and_what_a_person_kept_only_a_person_lets_go():
    brake = make_brake()
    brake.went(gone(1, indexed=False), 0.0)
    brake.went(gone(2, kept=True), 0.0)

    decision = brake.decide(brake.take(0.5), 100, 0.5)

    assert ([each.path for each in decision.delete], [each.path for each in decision.hold]) == (["1.txt"], ["2.txt"])


def test_a_file_that_is_back_before_the_second_look_was_never_gone():
    brake = make_brake()
    brake.went(gone(1), now=0.0)
    brake.came("1.txt", Stat(1, 1, 1), now=0.1)

    assert len(brake) == 0


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/docs", None), ("/srv/share/docs", "nfs4"), ("/srv", "nfs4"), ("/srv/share/local disk/x", None)],
)
def test_a_remote_disk_is_known_by_the_innermost_mount(tmp_path, path, kind):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /srv/share rw - nfs4 server:/share rw\n"
        "31 30 8:2 / /srv/share/local\\040disk rw - ext4 /dev/sdb1 rw\n"
    )

    assert remote_type(Path(path), str(mounts)) == kind


def test_roots_have_names_of_their_own(tmp_path):
    for name in ("a/docs", "b/docs", "b/docs/inner"):
        (tmp_path / name).mkdir(parents=True)

    assert [r.name for r in parse_roots([f"mine={tmp_path}/a/docs", f"{tmp_path}/b/docs"])] == ["mine", "docs"]
    with pytest.raises(RootError, match="NAME=PATH"):
        parse_roots([f"{tmp_path}/a/docs", f"{tmp_path}/b/docs"])
    with pytest.raises(RootError, match="lie in one another"):
        parse_roots([f"{tmp_path}/b/docs", f"{tmp_path}/b/docs/inner"])
    with pytest.raises(RootError, match="There is no folder"):
        parse_roots([f"{tmp_path}/nowhere"])
    with pytest.raises(RootError, match="cannot be the name"):
        parse_roots([f"uploads={tmp_path}/a/docs"])


@pytest.mark.parametrize("bad", ["", "/etc/passwd", "../up", "a/../../b", "a//b", "x" * 2000, "\u202e"])
def test_an_external_id_cannot_leave_its_place(bad):
    with pytest.raises(BadName):
        clean_path(bad)


def test_a_file_name_is_only_its_last_part_without_tricks():
    assert clean_name("../../etc/passwd") == "passwd"
    assert clean_name("C:\\temp\\plan.docx") == "plan.docx"
    assert clean_name("harmless\u202efdp.exe") == "harmlessfdp.exe"
    assert clean_name("x" * 5000 + ".pdf").endswith(".pdf")
    assert len(clean_name("x" * 5000 + ".pdf")) <= 200
    with pytest.raises(BadName):
        clean_name("\x00")


def test_names_in_either_unicode_form_are_one_document():
    composed, decomposed = "caf\u00e9.txt".encode(), "cafe\u0301.txt".encode()

    assert normal_path(composed) == normal_path(decomposed)
    assert document_id("docs", normal_path(composed)) == document_id("docs", normal_path(decomposed))
    assert normal_path(b"caf\xe9.txt") == "caf\\xe9.txt"
