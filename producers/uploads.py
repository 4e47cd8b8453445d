"""The upload store: bytes that came over HTTP, durable before anybody is told."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import time
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, select

from producers.roots import place_marker
from workers.contract import intake, schema
from workers.contract.broker import Hints
from workers.contract.disk import LITTLE
from workers.contract.identity import document_id
from workers.contract.intake import Observation, Stat
from workers.contract.schema import documents

SOURCE = "uploads"
LOOK_EVERY = 16 << 20
DRAFT_S = 86_400.0
"""Seconds after whose last byte an upload that was not finished never will be."""
LONGEST_NAME = 200
LONGEST_PATH = 1000
ABOUT = ".about"
"""Ending of the file beside the uploads that says of each document what a lost ledger could not tell any more."""


class UploadTooLarge(ValueError):
    """More bytes than allowed came in; nothing was kept."""


class StorageFull(OSError):
    """There is not enough room on the disk; nothing was kept."""


class BadName(ValueError):
    """The external id or file name cannot be a document path."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An upload that is safe on disk and in the ledger."""

    document_id: str
    path: str
    size: int
    created: bool


class UploadStore:
    """Keeps uploads under ``data_dir``/uploads.  The stored name is ours; the sender's name is only metadata."""

    def __init__(self, engine: Engine, hints: Hints, data_dir: Path, max_bytes: int) -> None:
        self._engine, self._hints, self._max_bytes = engine, hints, max_bytes
        self._directory = data_dir.absolute() / "uploads"
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._forget_drafts()
        marker = intake.marker_of(engine, SOURCE) or place_marker(self._directory)
        intake.register_source(engine, SOURCE, "uploads", str(self._directory), marker)

    def put(
        self,
        chunks: Iterable[bytes],
        *,
        filename: str,
        external_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Stored:
        """Store one upload; the same external id again is a new version of the same document.

        Raises:
            UploadTooLarge: it has more than the allowed bytes.
            StorageFull: the disk has no room.
            BadName: the name or the external id cannot be used.
        """
        name = clean_name(filename)
        wanted = clean_path(external_id) if external_id is not None else None
        draft, size, digest = self._receive(chunks)
        path = wanted or f"{digest[:12]}/{name}"
        key = document_id(SOURCE, path)
        stored = f"{uuid4().hex}{Path(name).suffix[:16]}"
        try:
            draft.replace(self._directory / stored)
            self._write_about(key, {"path": path, "stored": stored, "extra": metadata or {}})
            _sync(self._directory)
            before = self._stored_name(key)
            found = (self._directory / stored).stat()
            seen = Observation(
                SOURCE,
                os.fsencode(stored),
                Stat(found.st_size, found.st_mtime_ns, found.st_ino),
                touched=True,
                extra=metadata or {},
                document_path=path,
            )
            intake.observe(self._engine, [seen])
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        if before is not None and before != stored:
            (self._directory / before).unlink(missing_ok=True)  # after the commit: a crash leaves a file too many
        self._hints.look([key])
        return Stored(key, path, size, before is None)

    def remove(self, key: str) -> bool:
        """Forget an upload; False when there is none of this id."""
        with schema.reading(self._engine).connect() as connection:
            row = connection.execute(
                select(documents.c.path, documents.c.raw_path).where(
                    documents.c.id == key, documents.c.source == SOURCE, documents.c.wanted == "present"
                )
            ).one_or_none()
        if row is None:
            return False
        gone = Observation(SOURCE, bytes(row.raw_path), None, document_path=row.path, extra={})  # its fields go with it
        intake.observe(self._engine, [gone])
        _about(self._directory, key).unlink(missing_ok=True)
        (self._directory / os.fsdecode(row.raw_path)).unlink(missing_ok=True)
        self._hints.look([key])
        return True

    def _forget_drafts(self) -> None:
        """Remove what a killed process had half received; not what another api on this directory may be receiving."""
        for draft in self._directory.glob(".*.part"):
            with contextlib.suppress(OSError):  # another api was faster
                if time.time() - draft.stat().st_mtime > DRAFT_S:
                    draft.unlink()

    def _receive(self, chunks: Iterable[bytes]) -> tuple[Path, int, str]:
        self._check_room()
        draft = self._directory / f".{uuid4().hex}.part"
        size, looked_at, state = 0, 0, hashlib.sha256()
        try:
            with draft.open("xb") as file:
                for block in chunks:
                    size += len(block)
                    if size > self._max_bytes:
                        raise UploadTooLarge(f"An upload may have {self._max_bytes:,} bytes (UPWELL_UPLOAD_MAX_BYTES).")
                    if size - looked_at >= LOOK_EVERY:  # others write at the same time
                        looked_at = size
                        self._check_room()
                    state.update(block)
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            draft.unlink(missing_ok=True)
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("There is not enough room on the disk for uploads.") from exc
            raise
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return draft, size, state.hexdigest()

    def _check_room(self) -> None:
        if shutil.disk_usage(self._directory).free < LITTLE:
            raise StorageFull("There is not enough room on the disk for uploads.")

    def _write_about(self, key: str, about: dict[str, Any]) -> None:
        """Say beside the bytes which document they are: with the ledger lost, this is all that remembers it."""
        draft = self._directory / f".{uuid4().hex}.part"
        with draft.open("x", encoding="utf-8") as file:
            json.dump(about, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(_about(self._directory, key))

    def _stored_name(self, key: str) -> str | None:
        with schema.reading(self._engine).connect() as connection:
            raw = connection.scalar(
                select(documents.c.raw_path).where(documents.c.id == key, documents.c.wanted == "present")
            )
        return os.fsdecode(raw) if raw is not None else None


def listed(directory: Path) -> Iterator[Observation]:
    """Yield every upload of a store, as its bytes and the file beside them tell it; the ledger is not asked."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(ABOUT):
                seen = _described(directory, directory / entry.name)
                if seen is not None:
                    yield seen


def at(directory: Path, raw_path: bytes, path: str) -> Observation | None:
    """Return what is stored under ``raw_path`` for the document at ``path``; None: nothing.

    Raises:
        OSError: it cannot be told.
    """
    described = _described(directory, _about(directory, document_id(SOURCE, path)))
    if described is not None and described.raw_path == raw_path:
        return described
    found = _stat(directory, raw_path)
    return None if found is None else Observation(SOURCE, raw_path, found, touched=True, bulk=True, document_path=path)


def _described(directory: Path, about: Path) -> Observation | None:
    try:
        told = json.loads(about.read_text("utf-8"))
        path, stored, extra = str(told["path"]), str(told["stored"]), dict(told["extra"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    raw = os.fsencode(stored)
    found = _stat(directory, raw) if b"/" not in raw else None
    if found is None:
        return None
    return Observation(SOURCE, raw, found, touched=True, bulk=True, extra=extra, document_path=path)


def _about(directory: Path, key: str) -> Path:
    return directory / f".{key}{ABOUT}"


def _stat(directory: Path, raw: bytes) -> Stat | None:
    try:
        found = os.lstat(os.path.join(os.fsencode(directory), raw))
    except FileNotFoundError:
        return None
    return Stat(found.st_size, found.st_mtime_ns, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def clean_name(filename: str) -> str:
    """Return a file name that is safe to show: the last part, without control or direction characters.

    Raises:
        BadName: nothing is left of it.
    """
    name = _shown(filename.replace("\\", "/").rsplit("/", 1)[-1]).strip(" .")
    if not name:
        raise BadName("An upload needs a file name, because its ending says what it is.")
    stem, dot, ending = name.rpartition(".")
    return name if len(name) <= LONGEST_NAME else (stem[: LONGEST_NAME - 20] + dot + ending[:19])


def clean_path(external_id: str) -> str:
    """Return the document path for an external id.

    Raises:
        BadName: it is empty, too long, absolute, or climbs out of its place.
    """
    path = _shown(external_id.replace("\\", "/")).strip()
    parts = path.split("/")
    if not path or len(path) > LONGEST_PATH or any(part in ("", ".", "..") for part in parts):
        raise BadName(
            f"An external id is a relative path of at most {LONGEST_PATH} characters, without empty parts or '..'."
        )
    return path


def _shown(text: str) -> str:
    """Normalise, and drop what would lie to the eye: control, direction and surrogate characters."""
    text = unicodedata.normalize("NFC", text)
    return "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
