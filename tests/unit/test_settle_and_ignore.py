"""When a path has come to rest, which paths are no documents, and what uploads may be called: pure rules."""

from __future__ import annotations

import pytest

from producers.brake import Brake, Gone
from producers.ignore import IgnoreRules
from producers.roots import RootError, parse_roots
from producers.settle import Settler
from producers.uploads import BadName, clean_name, clean_path
from workers.contract.identity import document_id, normal_path
from workers.contract.intake import Observation, Stat

A = b"a.txt"


class World:
    """A clock and a file system in two variables."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stats: dict[bytes, tuple[int, ...]] = {A: (1, 1)}
        self.settler = Settler(closed=0.05, quiet=1.0, longest=600, clock=lambda: self.now, stat=self.stats.get)

    def settled_at(self, now: float) -> list[bytes]:
        self.now = now
        return self.settler.settled()


@pytest.fixture
def world():
    return World()


def test_a_closed_file_settles_after_a_blink(world):
    world.settler.touch(A, finished=True)

    assert world.settled_at(0.04) == []
    assert world.settled_at(0.05) == [A]
    assert len(world.settler) == 0


def test_an_open_file_settles_after_it_has_been_quiet(world):
    world.settler.touch(A, finished=False)
    world.now = 0.9
    world.settler.touch(A, finished=False)

    assert world.settled_at(1.5) == []
    assert world.settled_at(1.95) == [A]


def test_bytes_that_change_without_an_event_restart_the_wait(world):
    world.settler.touch(A, finished=True)
    world.stats[A] = (2, 2)

    assert world.settled_at(0.1) == []
    assert world.settled_at(1.1) == [A]


def test_a_file_that_never_rests_is_passed_on_at_last(world):
    world.settler.touch(A, finished=False)
    for second in range(1, 600):
        world.stats[A] = (second, second)
        world.now = second
        world.settler.touch(A, finished=False)
        assert world.settler.settled() == []

    assert world.settled_at(600) == [A]


def test_the_next_due_time_is_that_of_the_earliest(world):
    assert world.settler.next_due() is None
    world.settler.touch(A, finished=False)
    world.settler.touch(b"b", finished=True)

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


def gone(number: int) -> Gone:
    return Gone(f"{number}.txt", b"%d.txt" % number, Stat(1, 1, number))


def decided(brake: Brake, count: int, total: int):
    for number in range(count):
        brake.went(gone(number), now=0.0)
    assert not brake.due(0.1)
    assert brake.due(0.5)
    return brake.decide(0.5, total, lambda each: True)


@pytest.mark.parametrize(
    ("count", "total", "held"), [(1, 1, False), (50, 50, False), (51, 100, True), (51, 1000, False)]
)
def test_the_brake_wants_both_a_share_and_a_number(count, total, held):
    assert decided(Brake(wait=0.5, share=0.2, count=50), count, total)[1] is held


def test_files_that_only_moved_do_not_count_for_the_brake():
    brake = Brake(wait=0.5, share=0.2, count=50)
    for number in range(100):
        brake.came(Observation("docs", b"new/%d.txt" % number, Stat(1, 1, number)), now=0.0)

    deleted, held = decided(brake, 100, 100)

    assert len(deleted) == 100
    assert not held


def test_what_is_back_at_the_second_look_was_never_gone():
    brake = Brake(wait=0.5, share=0.2, count=50)
    brake.went(gone(1), now=0.0)

    assert brake.decide(0.5, 10, lambda each: False) == ([], False)


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
