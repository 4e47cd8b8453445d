"""The map of faults and tests (tests/README.md) names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NAME = re.compile(r"`((?:[\w/]+\.py)?(?:::[\w:]+)?)`")


def rows() -> list[tuple[str, list[str]]]:
    """Return (number, names of tests) of every row of every table of faults; ``::name`` means the file before it."""
    found = []
    for line in (TESTS / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or not re.fullmatch(r"[FS]\d+|–", cells[0]):
            continue
        names, file = [], ""
        for name in NAME.findall(cells[2]):
            file = name.partition("::")[0] or file
            names.append(file + "::" + name.partition("::")[2] if "::" in name else name)
        found.append((cells[0], names))
    return found


def defined(file: Path) -> set[str]:
    """Return the names of the tests and test classes in a file, ``Class::test`` included."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


@pytest.mark.parametrize(("number", "names"), rows())
def test_every_test_that_the_map_names_exists(number, names):
    for name in names:
        file, _, test = name.partition("::")
        assert (TESTS / file).is_file(), file
        assert not test or test in defined(TESTS / file), name


@pytest.mark.parametrize(("catalogue", "last"), [("F", 100), ("S", 67)])
def test_every_row_of_a_catalogue_is_here_once(catalogue, last):
    """What cannot be tested here has one, too, and says why not."""
    numbers = [number for number, _ in rows() if number.startswith(catalogue)]

    assert sorted(numbers, key=lambda number: int(number[1:])) == [f"{catalogue}{n}" for n in range(1, last + 1)]


def test_what_has_no_test_says_why():
    without = [number for number, names in rows() if number != "–" and not names]
    text = (TESTS / "README.md").read_text()

    assert [number for number in without if not re.search(rf"^\| {number} \|.*not applicable: ", text, re.M)] == []
