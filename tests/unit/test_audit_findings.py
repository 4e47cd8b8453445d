"""What an audit makes of one document: every difference has its kind and its number, and agreement has none."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from workers.contract.intake import Stat
from workers.contract.states import State
from workers.housekeeping.audit import _merged
from workers.housekeeping.findings import REMEDIES, Booked, Kind, SeenPoint, judge, judge_file, short, tally
from workers.housekeeping.notebook import Notebook

DOC = str(uuid4())
ROW = Booked(
    document_id=DOC,
    source="docs",
    path="a.md",
    raw_path=b"a.md",
    state=State.READY,
    wanted="present",
    settled=True,
    chunks=4,
    version="v2",
    token=10,
    collection="c",
    seen=Stat(1, 2, 3),
    generation=5,
)


def point(index: int, *, version: str = "v2", token: int = 10, embedded: bool = True, refused: bool = False):
    return SeenPoint(str(uuid4()), DOC, index, token, short(version), embedded, refused)


def found(row: Booked, *points: SeenPoint, bare: int = 0) -> dict[Kind, int]:
    return {finding.kind: finding.points for finding in judge(row, tally(row, points, bare), "c")}


RIGHT = [point(n) for n in range(4)]


def test_what_agrees_is_no_finding():
    assert found(ROW, *RIGHT) == {}


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], {Kind.LOST: 4}),
        (RIGHT[1:], {Kind.LOST: 1}),
        (RIGHT[:3], {Kind.LOST: 1}),
        ([RIGHT[0], RIGHT[3]], {Kind.LOST: 2}),
        ([*RIGHT[:2], point(1), *RIGHT[2:]], {Kind.DUPLICATE: 1}),
        ([*RIGHT, point(4), point(5)], {Kind.DUPLICATE: 2}),
        ([point(-1), *RIGHT], {Kind.DUPLICATE: 1}),
        ([*RIGHT[:3], point(3, version="v1")], {Kind.STALE: 1}),
        ([*RIGHT[:3], point(3, token=11)], {Kind.AHEAD: 1}),
        ([*RIGHT[:3], point(3, embedded=False)], {Kind.MISLABELLED: 1}),
        ([*RIGHT[:3], point(3, embedded=False, refused=True)], {}),
        ([RIGHT[0], RIGHT[0], RIGHT[2]], {Kind.DUPLICATE: 1, Kind.LOST: 2}),
    ],
)
def test_every_difference_has_its_kind_and_its_number(points, expected):
    assert found(ROW, *points) == expected


def test_a_vector_that_is_claimed_and_not_there_is_mislabelled():
    assert found(ROW, *RIGHT, bare=2) == {Kind.MISLABELLED: 2}


def test_chunks_without_a_vector_are_right_while_the_document_is_being_embedded():
    assert found(replace(ROW, state=State.EMBEDDING), *RIGHT[:3], point(3, embedded=False)) == {}


def test_a_document_in_somebodys_hands_is_not_judged_except_for_tokens_that_nobody_gave_out():
    working = replace(ROW, settled=False)

    assert found(working) == {}
    assert found(working, point(0, token=11)) == {Kind.AHEAD: 1}


def test_points_of_a_deleted_document_are_orphans_and_of_an_empty_one_stale():
    assert found(replace(ROW, state=State.DELETED, wanted="absent"), *RIGHT) == {Kind.ORPHANED: 4}
    assert found(replace(ROW, state=State.EMPTY, chunks=0, version=None), *RIGHT) == {Kind.STALE: 4}
    assert found(replace(ROW, state=State.DELETED, wanted="absent")) == {}


def test_a_document_of_another_collection_is_lost_in_this_one():
    assert found(replace(ROW, collection="old"), *RIGHT) == {Kind.LOST: 4}


@pytest.mark.parametrize(
    ("change", "file", "expected"),
    [
        ({}, ROW.seen, []),
        ({}, Stat(9, 2, 3), [Kind.STALE]),
        ({}, None, [Kind.VANISHED]),
        ({"state": State.HELD}, None, []),
        ({"settled": False}, None, []),
        ({"state": State.DELETED, "wanted": "absent"}, None, []),
        ({"state": State.DELETED, "wanted": "absent"}, ROW.seen, [Kind.UNLISTED]),
    ],
)
def test_a_file_is_compared_with_what_the_ledger_last_saw(change, file, expected):
    assert [finding.kind for finding in judge_file(replace(ROW, **change), file)] == expected


def test_every_kind_has_a_remedy():
    assert set(REMEDIES) == set(Kind)


def test_ordered_streams_are_merged_by_id():
    merged = list(_merged(iter([("a", 1), ("c", 3)]), iter([("b", 20), ("c", 30)]), iter([])))

    assert merged == [("a", [1, None, None]), ("b", [None, 20, None]), ("c", [3, 30, None])]


class TestNotebook:
    def test_points_come_back_by_document_and_chunk_however_they_went_in(self, tmp_path):
        documents = sorted(str(uuid4()) for _ in range(20))
        points = [replace(point(n), document_id=doc) for n in (2, 0, 1) for doc in documents]
        with Notebook(tmp_path) as notebook:
            notebook.note_points(points[30:])
            notebook.note_points(points[:30])
            notebook.note_points(points[:5])  # a page that came twice

            read = [(doc, [p.index for p in group]) for doc, group in notebook.points()]

        assert read == [(doc, [0, 1, 2]) for doc in documents]

    def test_a_point_is_read_as_it_was_noted(self, tmp_path):
        noted = point(3, embedded=False, refused=True)
        with Notebook(tmp_path) as notebook:
            notebook.note_points([noted])
            [(_, group)] = [(doc, list(points)) for doc, points in notebook.points()]

        assert group == [noted]

    def test_inodes_of_any_size_are_kept(self, tmp_path):
        stat = Stat(1, 2, (1 << 64) - 5)
        with Notebook(tmp_path) as notebook:
            notebook.note_files("docs", [(DOC, b"\xff.txt", "\\xff.txt", stat)])

            assert notebook.file(DOC).stat == stat
            assert list(notebook.files()) == [(DOC, [(b"\xff.txt", stat)])]

    def test_closed_it_leaves_nothing_behind(self, tmp_path):
        with Notebook(tmp_path) as notebook:
            notebook.suspect([DOC])

        assert list(tmp_path.iterdir()) == []
