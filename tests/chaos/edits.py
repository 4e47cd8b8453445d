"""What people do to files meanwhile: real commits where the sample data is there, and made-up edits everywhere.

Each step is drawn from the seed; what it does depends on the files as earlier steps have left them, never on time.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

# fmt: off
WORDS = [
    "river", "stone", "cloud", "amber", "forest", "wheel", "candle", "mirror", "garden", "winter", "copper", "sail",
    "thread", "orchard", "bridge", "lantern", "harbour", "meadow", "quartz", "ribbon", "saddle", "timber", "velvet",
    "walnut", "anchor", "barley", "cedar", "dune", "ember", "fjord", "gravel", "heron",
]
# fmt: on
MOST_GONE = 20  # a mass deletion is held for a person, and here nobody is


def paragraph(draw: random.Random) -> str:
    """Return some sentences.  Few words, so that texts meet again, in other documents too."""
    sentences = (
        " ".join(draw.choices(WORDS, k=draw.randint(6, 14))).capitalize() + "." for _ in range(draw.randint(2, 6))
    )
    return " ".join(sentences)


class Edits:
    """Changes the files below ``root``, one step after another."""

    def __init__(self, root: Path, seed: int, *, commits: list[list[dict[str, Any]]] | None = None) -> None:
        self.root = root
        self.steps: dict[str, int] = {}
        self._draw = random.Random(f"edits {seed}")
        self._commits = list(commits or ())
        self._before: dict[Path, bytes] = {}
        self._number = 0

    def start(self, documents: int) -> None:
        """Make a folder of ``documents`` made-up files."""
        for _ in range(documents):
            self._write(self._new_path(), self._document())

    def step(self) -> str:
        """Do one thing, and say what."""
        if self._commits and self._draw.random() < 0.75:
            what = self._commit(self._commits.pop(0))
        else:
            acts = (
                self._create, self._edit, self._edit, self._append, self._save_atomically, self._save_atomically,
                self._rename, self._rename_folder, self._move_into_folder, self._delete, self._duplicate, self._touch,
                self._revert, self._half_write, self._swap,
            )  # fmt: skip
            what = self._draw.choice(acts)()
        name = what.split()[0]
        self.steps[name] = self.steps.get(name, 0) + 1
        return what

    # ------------------------------------------------------------------ real commits

    def _commit(self, events: list[dict[str, Any]]) -> str:
        """Apply one commit as a set: remove first, then write."""
        contents: list[tuple[Path, bytes]] = []
        for event in events:
            target = self.root / event["path"]
            old = self.root / event["from"] if event["op"] == "rename" else target
            text = event.get("content")
            if text is not None:
                contents.append((target, text.encode()))
            if event["op"] == "delete":
                target.unlink(missing_ok=True)
            elif event["op"] == "rename" and old.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                old.replace(target)
        for path, data in contents:
            self._write(path, data)
        return f"commit of {len(events)} files"

    # ------------------------------------------------------------------ made-up edits

    def _create(self) -> str:
        path = self._new_path()
        self._write(path, self._document())
        return f"create {self._named(path)}"

    def _edit(self) -> str:
        """Change, insert or remove a paragraph somewhere."""
        path = self._some_file()
        parts = path.read_bytes().split(b"\n\n")
        place = self._draw.randrange(len(parts))
        new = paragraph(self._draw).encode()
        how = self._draw.choice(("change", "insert", "remove"))
        if how == "change":
            parts[place] = new
        elif how == "insert":
            parts.insert(place, new)
        elif len(parts) > 2:
            del parts[place]
        self._write(path, b"\n\n".join(parts))
        return f"edit {self._named(path)}"

    def _append(self) -> str:
        path = self._some_file()
        self._remember(path)
        with path.open("a") as file:
            file.write("\n\n" + paragraph(self._draw) + "\n")
        return f"append {self._named(path)}"

    def _save_atomically(self) -> str:
        """As editors do: a temporary file, renamed over the old one, after a backup."""
        path = self._some_file()
        self._remember(path)
        data = path.read_bytes() + b"\n\n" + paragraph(self._draw).encode() + b"\n"
        draft = path.with_name(f".{path.name}.swp")
        draft.write_bytes(data)
        shutil.copy2(path, path.with_name(path.name + "~"))
        draft.replace(path)
        return f"save-atomically {self._named(path)}"

    def _rename(self) -> str:
        path, new = self._some_file(), self._new_path()
        new.parent.mkdir(parents=True, exist_ok=True)
        path.replace(new)
        return f"rename {self._named(path)} to {self._named(new)}"

    def _rename_folder(self) -> str:
        folders = self._folders()
        if not folders:
            return self._create()
        folder = self._draw.choice(folders)
        new = folder.with_name(f"folder-{self._next()}")
        folder.replace(new)
        return f"rename-folder {self._named(folder)} to {self._named(new)}"

    def _move_into_folder(self) -> str:
        folders = self._folders()
        path = self._some_file()
        if not folders:
            return self._rename()
        target = self._draw.choice(folders) / f"moved-{self._next()}{path.suffix}"
        path.replace(target)
        return f"move {self._named(path)} to {self._named(target)}"

    def _delete(self) -> str:
        path = self._some_file()
        if self.steps.get("delete", 0) >= MOST_GONE:
            return self._edit()
        path.unlink()
        return f"delete {self._named(path)}"

    def _duplicate(self) -> str:
        path, new = self._some_file(), self._new_path()
        self._write(new, path.read_bytes())
        return f"duplicate {self._named(path)} as {self._named(new)}"

    def _touch(self) -> str:
        path = self._some_file()
        os.utime(path)
        return f"touch {self._named(path)}"

    def _revert(self) -> str:
        """Back to what it was before the last edit."""
        known = [path for path in sorted(self._before) if path.exists()]
        if not known:
            return self._edit()
        path = self._draw.choice(known)
        self._write(path, self._before[path])
        return f"revert {self._named(path)}"

    def _half_write(self) -> str:
        """Truncate and write in two goes, as many programs do."""
        path = self._some_file()
        self._remember(path)
        data = self._document()
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            file.write(data[len(data) // 2 :])
        return f"half-write {self._named(path)}"

    def _swap(self) -> str:
        """Two files change names."""
        one, other = self._some_file(), self._some_file()
        if one == other or one.suffix != other.suffix:
            return self._touch()
        between = one.with_name(f".swap-{self._next()}")
        one.replace(between)
        other.replace(one)
        between.replace(other)
        return f"swap {self._named(one)} and {self._named(other)}"

    # ------------------------------------------------------------------ helpers

    def _write(self, path: Path, data: bytes) -> None:
        self._remember(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def _remember(self, path: Path) -> None:
        if path.exists():
            self._before[path] = path.read_bytes()

    def _document(self) -> bytes:
        sections = (
            f"# {' '.join(self._draw.choices(WORDS, k=2)).title()}\n\n"
            + "\n\n".join(paragraph(self._draw) for _ in range(self._draw.randint(1, 5)))
            for _ in range(self._draw.randint(1, 4))
        )
        return ("\n\n".join(sections) + "\n").encode()

    def _new_path(self) -> Path:
        folder = self._draw.choice(("", "", "one", "two", "one/deep"))
        return self.root / folder / f"note-{self._next()}{self._draw.choice(('.md', '.md', '.txt', '.rst'))}"

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _files(self) -> Iterator[Path]:
        for path in sorted(self.root.rglob("*")):
            if path.is_file() and not path.name.startswith(".") and not path.name.endswith("~"):
                yield path

    def _some_file(self) -> Path:
        return self._draw.choice(list(self._files()) or [self._emergency()])

    def _emergency(self) -> Path:
        path = self._new_path()
        self._write(path, self._document())
        return path

    def _folders(self) -> list[Path]:
        return [path for path in sorted(self.root.iterdir()) if path.is_dir() and not path.name.startswith(".")]

    def _named(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def real_history(edits: Path, root: Path) -> list[list[dict[str, Any]]]:
    """Write the files of the first day below ``root``; return the commits that follow."""
    with gzip.open(edits / "peps2017.base.jsonl.gz", "rt") as lines:
        for line in lines:
            entry = json.loads(line)
            path = root / entry["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(entry["content"])
    with gzip.open(edits / "peps2017.events.jsonl.gz", "rt") as lines:
        events = [json.loads(line) for line in lines]
    return [list(commit) for _, commit in groupby(events, key=lambda event: event["commit"])]
