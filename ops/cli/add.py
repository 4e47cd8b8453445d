"""`upwell add`: upload files and folders to a running Upwell."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from ops.cli.client import Api, find_api
from ops.cli.errors import CliError
from ops.cli.output import JSON_OPTION, clean, counted, print_json, remark

AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Item:
    """One file to send.  The external id names the document: sending it again replaces it."""

    file: Path
    external_id: str
    size: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one file."""

    item: Item
    answer: dict[str, Any] | None
    fault: str | None = None


def add(
    paths: list[Path] = typer.Argument(..., metavar="PATH...", help="Files, or folders with everything below them."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Upload files or folders.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.

    Each file is known by its path, so adding it again replaces it. Folders are read as a watcher reads them: what
    .upwellignore or the built-in rules leave out is left out.
    """
    items = collect(paths)
    api = find_api()
    api.get("/v1/status")  # one clear word if nobody is there, instead of one per file
    with _progress(items) as advance:
        results = list(send(api, items, advance))
    faults = [result for result in results if result.fault is not None]
    if as_json:
        print_json(
            {
                "added": [
                    {"path": r.item.external_id, "id": (r.answer or {}).get("id")} for r in results if not r.fault
                ],
                "failed": [{"path": r.item.external_id, "error": r.fault} for r in faults],
            }
        )
    else:
        print(f"{counted(len(results) - len(faults), 'file')} added. Follow with: upwell status --wait")
    for result in faults:
        remark(f"upwell: {clean(result.item.file)}: {clean(result.fault)}")
    if faults:
        raise CliError(f"{len(faults)} of {len(results)} files were not added; see above.")


def send(api: Api, items: Sequence[Item], advance: Callable[[int], None]) -> Iterator[Sent]:
    """Upload ``items``, a few at once; one that fails does not keep the others."""
    from concurrent.futures import ThreadPoolExecutor

    def one(item: Item) -> Sent:
        try:
            return Sent(item, api.upload(item.file, {"external_id": item.external_id}, advance))
        except CliError as exc:
            return Sent(item, None, str(exc))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(one, items)


def collect(paths: Sequence[Path]) -> list[Item]:
    """Return the files below ``paths`` with their external ids.

    Raises:
        CliError: a path is missing, nothing is left, or two files would be one document.
    """
    found: dict[str, Item] = {}
    for path in paths:
        if not path.exists():
            raise CliError(f"There is no {path}. Check the name.")
        for file in _files_below(path) if path.is_dir() else [path]:
            item = Item(file, external_id(path, file), file.stat().st_size)
            other = found.setdefault(item.external_id, item)
            if other.file.resolve() != file.resolve():
                raise CliError(
                    f"{other.file} and {file} would both be the document {item.external_id!r}. Add them one by one,"
                    " from different folders."
                )
    if not found:
        raise CliError("There is no file to add: the folders are empty, or ignore rules leave everything out.")
    return list(found.values())


def external_id(argument: Path, file: Path) -> str:
    """Return the path that names ``file``: from here if it is below here, else from the folder that was given."""
    here = Path.cwd()
    absolute = Path(os.path.abspath(file))  # noqa: PTH100 - a link keeps its own name
    if absolute.is_relative_to(here):
        return absolute.relative_to(here).as_posix()
    if argument.is_dir():
        top = Path(os.path.abspath(argument))  # noqa: PTH100
        return (Path(top.name) / absolute.relative_to(top)).as_posix()
    return absolute.name


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield the regular files below ``folder`` that a watcher would take, sorted; links are not followed."""
    from producers.ignore import IGNORE_FILE, IgnoreRules
    from producers.roots import MARKER

    rules = IgnoreRules(folder)

    def wanted(path: Path, *, is_dir: bool) -> bool:
        relative = path.relative_to(folder).as_posix()
        return not rules.explain_entry(relative, is_dir=is_dir).ignored

    for directory, names, files in os.walk(folder, followlinks=False):
        here = Path(directory)
        names[:] = sorted(name for name in names if wanted(here / name, is_dir=True))
        for name in sorted(files):
            file = here / name
            if name in (IGNORE_FILE, MARKER) or file.is_symlink() or not file.is_file():
                continue
            if wanted(file, is_dir=False):
                yield file


class _progress:  # noqa: N801 - used like the function it stands for
    """A progress bar on standard error where that is a terminal; nothing elsewhere."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._bar: Any = None

    def __enter__(self) -> Callable[[int], None]:
        if not sys.stderr.isatty():
            return lambda count: None
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn(f"{len(self._items)} files"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        task = self._bar.add_task("upload", total=sum(item.size for item in self._items))
        self._bar.start()
        return lambda count: self._bar.advance(task, count)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
