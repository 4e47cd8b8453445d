"""The short kill loop that runs with every change; the long one is `make chaos` (tests/README.md)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.edits import Edits
from tests.chaos.plan import PROCESSES, SERVERS, make_plan
from tests.chaos.run import Loop, Run


@pytest.mark.stack
@pytest.mark.timeout(400)
def test_a_stack_that_is_killed_and_cut_off_again_and_again_ends_equal_to_its_files(tmp_path):
    run = Run(
        seed=26,
        seconds=30,
        lease_s=5.0,
        timeout_s=4.0,
        documents=40,
        edit_every_s=0.7,
        fault_every_s=1.8,
        real_edits=False,
    )

    figures = Loop(run, tmp_path, print).play()

    assert figures.violations == []
    assert figures.report.documents > 20
    assert sum(figures.actions.values()) > 5
    assert figures.thrift["sent_again"].get("unexplained", 0) == 0


def test_a_plan_derives_from_its_seed_alone():
    first, again, other = (make_plan(seed, 600, lease_s=10) for seed in (1, 1, 2))

    assert first == again
    assert first != other
    assert [action.at for action in first] == sorted(action.at for action in first)


def test_plans_reach_every_process_and_every_server():
    reached = {action.target for seed in range(20) for action in make_plan(seed, 600, lease_s=10)}

    assert reached == {*PROCESSES, *SERVERS, "all"}


def test_documents_are_not_killed_with_their_workers_thrice_within_a_lease():
    holders = {"index", "index-2", "parser", "guard", "all"}
    for seed in range(20):
        plan = make_plan(seed, 600, lease_s=10)
        kills = [action.at for action in plan if action.kind in ("kill", "power-cut") and action.target in holders]

        assert all(later - earlier >= 10 for earlier, later in pairwise(kills))


def test_edits_derive_from_their_seed_alone(tmp_path):
    def played(name: str) -> tuple[list[str], dict[str, bytes]]:
        root = tmp_path / name
        root.mkdir()
        edits = Edits(root, seed=3)
        edits.start(12)
        said = [edits.step() for _ in range(60)]
        return said, {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    assert played("one") == played("other")
