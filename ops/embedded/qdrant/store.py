"""Collections and aliases on disk.  The table of contents is replaced in one step; what is not in it does not exist."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from ops.embedded.qdrant.collection import Collection
from ops.embedded.qdrant.errors import ApiError, BadRequest, Conflict, NotFound
from ops.embedded.qdrant.fields import Fields, malformed
from ops.embedded.qdrant.rewrite import copy_shard, files, left_behind, rewritten, size_of, write_out

CONTENTS = "collections.json"
TIDY_AFTER = 500  # changes
TIDY_IDLE_S = 5.0
SIZE_AGE_S = 10.0

LEFT_BEHIND = 0.3
FEWEST = 1_000
MOST_MEANWHILE = 16 << 20
"""A shard is rewritten when this share of its places has no point any more, and it has so many points at least.  When
so many bytes are written meanwhile, it is given up until things are quiet: writing them again would hold readers up."""


class DirectoryTaken(Exception):
    """Another embedded Qdrant works on this directory."""


class Store:
    """Everything below one directory.  One process at a time may have it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shards = directory / "shards"
        self._shards.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise DirectoryTaken(f"another process works on {directory}") from exc
        self._contents: dict[str, Any] = self._read()
        self._open: dict[str, Collection] = {}
        self._size = 0
        self._sized_at = -SIZE_AGE_S
        self._writable = asyncio.Event()
        self._writable.set()
        self._forget_strays()
        for name, entry in self._contents["collections"].items():
            self._open[name] = Collection.open(self._shards / entry["shard"], entry["request"])

    # ------------------------------------------------------------------------------------------------ collections

    def names(self) -> list[str]:
        """Return the names of all collections."""
        return sorted(self._open)

    def resolve(self, name: str) -> str:
        """Return the collection that a name, or an alias, stands for."""
        return str(self._contents["aliases"].get(name, name))

    def has(self, name: str) -> bool:
        """Tell whether there is a collection or an alias of this name."""
        return self.resolve(name) in self._open

    def collection(self, name: str) -> Collection:
        """Return an open collection by its name or an alias."""
        found = self._open.get(self.resolve(name))
        if found is None:
            raise NotFound(f"Not found: Collection `{name}` doesn't exist!")
        return found

    def create(self, name: str, request: dict[str, Any]) -> None:
        """Create a collection."""
        if not name or len(name) > 255 or any(letter in name for letter in '/\\<>:"|?*\0\x1f'):
            raise BadRequest("Wrong input: this cannot be the name of a collection")
        if name in self._open:
            raise Conflict(f"Wrong input: Collection `{name}` already exists!")
        if name in self._contents["aliases"]:
            raise BadRequest(f"Wrong input: Alias with the same name already exists: {name}")
        shard = uuid4().hex
        made = Collection.create(self._shards / shard, request)
        self._contents["collections"][name] = {"shard": shard, "request": request}
        self._write()
        self._open[name] = made

    def change(self, name: str, change: Any) -> None:
        """Change what of a collection's request may change."""
        from ops.embedded.qdrant.schema import changed

        collection = self.collection(name)
        collection.request = changed(collection.request, change)
        self._contents["collections"][self.resolve(name)]["request"] = collection.request
        self._write()

    def delete(self, name: str) -> bool:
        """Delete a collection and its aliases; False when there is none."""
        name = self.resolve(name)
        found = self._open.pop(name, None)
        if found is None:
            return False
        entry = self._contents["collections"].pop(name)
        aliases = self._contents["aliases"]
        self._contents["aliases"] = {alias: target for alias, target in aliases.items() if target != name}
        self._write()
        found.close()
        shutil.rmtree(self._shards / entry["shard"], ignore_errors=True)
        return True

    # ------------------------------------------------------------------------------------------------ aliases

    def aliases(self, collection: str | None = None) -> list[dict[str, str]]:
        """Return the aliases of all collections, or of one."""
        if collection is not None:
            self.collection(collection)
            collection = self.resolve(collection)
        return [
            {"alias_name": alias, "collection_name": target}
            for alias, target in sorted(self._contents["aliases"].items())
            if collection is None or target == collection
        ]

    def change_aliases(self, body: Any) -> None:
        """Apply all changes of aliases in one step, or none."""
        fields = Fields(body, "aliases")
        actions = fields.items("actions")
        fields.done()
        if actions is None:
            raise malformed("missing field `actions` in aliases")
        aliases: dict[str, str] = dict(self._contents["aliases"])
        for action in actions:
            self._change_alias(aliases, action)
        self._contents["aliases"] = aliases
        self._write()

    def _change_alias(self, aliases: dict[str, str], action: Any) -> None:
        if not isinstance(action, dict) or len(action) != 1:
            raise malformed("an action must be an object with one field")
        [(kind, inner)] = action.items()
        fields = Fields(inner, kind)
        if kind == "create_alias":
            collection, alias = fields.required_text("collection_name"), fields.required_text("alias_name")
            if collection not in self._open:
                raise NotFound(f"Not found: Collection `{collection}` doesn't exist!")
            if alias in self._open:
                raise BadRequest(f"Wrong input: Collection with the same name already exists: {alias}")
            aliases[alias] = collection
        elif kind == "delete_alias":
            aliases.pop(fields.required_text("alias_name"), None)
        elif kind == "rename_alias":
            old, new = fields.required_text("old_alias_name"), fields.required_text("new_alias_name")
            if old not in aliases:
                raise NotFound(f"Not found: Alias {old} does not exists!")
            aliases[new] = aliases.pop(old)
        else:
            raise malformed("an action must be one of create_alias, delete_alias, rename_alias")
        fields.done()

    # ------------------------------------------------------------------------------------------------ house

    async def may_write(self) -> None:
        """Return when writes are let in: not while a shard is being copied."""
        while not self._writable.is_set():
            await self._writable.wait()

    async def tidy(self) -> None:
        """Flush one collection that many writes have changed and nobody writes to now; rewrite it if it needs that."""
        for name, collection in self._open.items():
            idle = time.monotonic() - collection.touched_at
            if collection.changes >= TIDY_AFTER and idle >= TIDY_IDLE_S:
                collection.changes = 0
                await self._tidy(name, collection)
                return

    async def _tidy(self, name: str, collection: Collection) -> None:
        directory = self._directory_of(name)
        await asyncio.to_thread(write_out, directory)
        if self._open.get(name) is not collection:
            return
        collection.flush()
        points = collection.points()
        if points >= FEWEST and left_behind(directory, points) > LEFT_BEHIND:
            await self._rewrite(name, collection)

    async def _rewrite(self, name: str, collection: Collection) -> None:
        shard = uuid4().hex
        old, new = self._directory_of(name), self._shards / shard
        written = collection.written

        def given_up() -> bool:
            return self._open.get(name) is not collection or collection.written - written > MOST_MEANWHILE

        try:
            self._writable.clear()
            try:
                await asyncio.to_thread(copy_shard, old, new)
                collection.remember_writes(wanted=True)
            finally:
                self._writable.set()
            if await rewritten(new, given_up=given_up) and not given_up():
                await asyncio.to_thread(write_out, old)
                if not given_up():
                    collection.change_over(old, new)
                    self._contents["collections"][name]["shard"] = shard
                    self._write()
                    new = old  # what nobody needs any more
        except (OSError, ApiError) as exc:
            print(f"qdrant: a shard was not rewritten: {exc}", file=sys.stderr)
        finally:
            collection.remember_writes(wanted=False)
            await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)

    def _directory_of(self, name: str) -> Path:
        return self._shards / str(self._contents["collections"][name]["shard"])

    def fullness(self) -> dict[str, int]:
        """Return how many points and bytes there are; the bytes, a stat for each file, are up to ten seconds old."""
        now = time.monotonic()
        if now - self._sized_at > SIZE_AGE_S:
            self._sized_at = now
            self._size = sum(size_of(file) for file in files(self._shards))
        return {"points": sum(collection.points() for collection in self._open.values()), "bytes": self._size}

    def close(self) -> None:
        """Write everything and give the directory back."""
        for collection in self._open.values():
            collection.close()
        self._open.clear()
        os.close(self._lock)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads((self._directory / CONTENTS).read_text())
        except FileNotFoundError:
            return {"collections": {}, "aliases": {}}
        return dict(found)

    def _write(self) -> None:
        draft = self._directory / (CONTENTS + ".new")
        with draft.open("w") as file:
            json.dump(self._contents, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._directory / CONTENTS)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _forget_strays(self) -> None:
        """A shard that is in no table was being made, or being deleted, when the process died."""
        known = {entry["shard"] for entry in self._contents["collections"].values()}
        for stray in self._shards.iterdir():
            if stray.name not in known:
                print(f"qdrant: forgets the unfinished shard {stray.name}", file=sys.stderr)
                shutil.rmtree(stray, ignore_errors=True)
