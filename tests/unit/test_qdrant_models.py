"""Qdrant's models are left unfinished by the import and are whole when they are used, whoever comes first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_import_leaves_most_models_unfinished_and_pydantic_as_it_was():
    run(
        "import inspect, pydantic\n"
        "before = pydantic.BaseModel.__dict__['model_rebuild']\n"
        "from workers.adapters.qdrant import m\n"
        "assert pydantic.BaseModel.__dict__['model_rebuild'] is before\n"
        "found = [c for _, c in inspect.getmembers(m, inspect.isclass) if issubclass(c, pydantic.BaseModel)]\n"
        "unfinished = [c for c in found if not c.__pydantic_complete__]\n"
        "assert len(unfinished) > 100, len(unfinished)\n"
    )


def test_threads_that_use_a_model_first_at_the_same_moment_all_find_it_whole():
    run(
        "import threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from workers.adapters.qdrant import m\n"
        "assert not m.QueryRequest.__pydantic_complete__\n"
        "together = threading.Barrier(8)\n"
        "def use(_):\n"
        "    together.wait()\n"
        "    asked = m.QueryRequest(prefetch=[m.Prefetch(query=[1.0], limit=2, filter=m.Filter(must=[\n"
        "        m.HasIdCondition(has_id=[1]), m.FieldCondition(key='a', range=m.Range(lt=1))]))], limit=1)\n"
        "    return asked.model_dump_json(exclude_none=True)\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    assert len(set(pool.map(use, range(8)))) == 1\n"
    )
