"""Benchmarks are run by hand, and rarely: that they still fit the code, and what one reader's verdicts are made of."""

from __future__ import annotations

import csv
import importlib
import re
from pathlib import Path

import pytest

from tests.bench.judged import interval

BENCH = Path(__file__).parents[1] / "bench"


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCH.glob("*.py") if path.stem != "__main__"))
def test_a_benchmark_finds_everything_that_it_takes_from_the_product(name):
    assert importlib.import_module(f"tests.bench.{name}")


def test_a_verdict_names_its_answer_without_repeating_it():
    with (BENCH / "verdicts_covidqa.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))

    assert {row["verdict"] for row in rows} == {"yes", "partly", "no"}
    assert {row["left_out"] for row in rows} == {"alone", "half"}
    assert all(re.fullmatch("[0-9a-f]{12}", row["quoted"]) for row in rows)
    assert len({(row["question"], row["left_out"], row["quoted"]) for row in rows}) == len(rows)


def test_an_interval_is_wilsons():
    assert interval(8, 10) == (pytest.approx(0.490, abs=0.001), pytest.approx(0.943, abs=0.001))
    assert interval(0, 10) == (pytest.approx(0.0), pytest.approx(0.278, abs=0.001))
