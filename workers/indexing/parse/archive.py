"""Zip containers: checked by what they declare before anything is unpacked, and read with a ceiling."""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO
from itertools import pairwise

from workers.errors import DocumentCorrupt, DocumentEncrypted, DocumentHostile

ENTRY_BYTES = 512 << 20
TOTAL_BYTES = 2 << 30
ENTRIES = 10_000
RATIO, RATIO_FROM = 200, 50 << 20
DAMAGED = "It is damaged or cut off: it cannot be unpacked. Get another copy, or save it again."
_BROKEN = (
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,
    OSError,
    RuntimeError,
    EOFError,
    zlib.error,
    struct.error,
)


class Archive:
    """A guarded zip file.

    Raises:
        DocumentHostile: it declares more than any document holds, or entries that share their bytes.
        DocumentEncrypted: its entries are behind a password.
        DocumentCorrupt: it cannot be unpacked.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(BytesIO(data))
        except _BROKEN as exc:
            raise DocumentCorrupt(DAMAGED) from exc
        self._guard()
        # Some writers use backslashes, and Office looks names up without regard to case.
        self._names: dict[str, zipfile.ZipInfo] = {}
        for entry in self._zip.infolist():
            self._names.setdefault(entry.filename.replace("\\", "/").lstrip("/").lower(), entry)

    def names(self) -> list[str]:
        """Return the names of all entries, in lower case."""
        return list(self._names)

    def __contains__(self, name: str) -> bool:
        return name.lstrip("/").lower() in self._names

    def read(self, name: str, most: int = ENTRY_BYTES) -> bytes | None:
        """Return an entry's bytes, or None when there is none; zipfile refuses what is longer than declared."""
        entry = self._names.get(name.lstrip("/").lower())
        if entry is None:
            return None
        try:
            with self._zip.open(entry) as file:
                return file.read(most)
        except _BROKEN as exc:
            raise DocumentCorrupt(DAMAGED) from exc

    def _guard(self) -> None:
        entries = self._zip.infolist()
        total = sum(entry.file_size for entry in entries)
        packed = max(1, sum(entry.compress_size for entry in entries))
        starts = sorted((entry.header_offset, entry.compress_size) for entry in entries)
        overlapping = any(at + size > following for (at, size), (following, _) in pairwise(starts))
        if (
            len(entries) > ENTRIES
            or total > TOTAL_BYTES
            or any(entry.file_size > ENTRY_BYTES for entry in entries)
            or (total > RATIO_FROM and total / packed > RATIO)
            or overlapping
        ):
            raise DocumentHostile(
                f"It would unpack to {total:,} bytes in {len(entries):,} entries, which looks like an archive bomb."
                " It was not opened. If it is a real document, save it again from its own program."
            )
        if any(entry.flag_bits & 1 for entry in entries):
            raise DocumentEncrypted("It is protected by a password. Save a copy without one.")
