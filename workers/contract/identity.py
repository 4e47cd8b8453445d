"""Identity is derived, never drawn: the same thing has the same name in every process and after every loss."""

from __future__ import annotations

import hashlib
import unicodedata
from uuid import UUID

NAMESPACE = UUID("6d3f9c0e-5a5b-5d0e-9a41-6f1f6b8a7c11")
"""Root of every id.  Changing it makes every stored point foreign."""

_ROOT = NAMESPACE.bytes

TENANT = "default"
"""Whose every document is, until there are more; written into each point, and asked for by each reader of ours."""


def normal_path(raw: bytes) -> str:
    """Return the document path for the file name ``raw`` (relative to its root, as the file system has it).

    Unicode NFC, because macOS hands out decomposed names for what Linux stores composed, and both are one document.
    Bytes that are not UTF-8 become visible escapes (``\\xe9``): such a name can be shown, sent as JSON and told apart.
    """
    return unicodedata.normalize("NFC", raw.decode("utf-8", "backslashreplace"))


def document_id(source: str, path: str) -> str:
    """Return the id of the document at ``path`` (normalised) of ``source``."""
    return _uuid5(f"{source}\x1f{path}")


def text_digest(text: str) -> str:
    """Return 32 hex digits that stand for ``text``; equal texts, and only they, share them."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def chunk_id(document: str, digest: str, occurrence: int, *, first: bool = False) -> str:
    """Return the point id of a chunk.

    ``occurrence`` numbers the repeats of one text within a document (0 for the first).  The position is left out on
    purpose: a paragraph inserted at the top must not rename every chunk below it.  Only the ``first`` chunk of a
    document is another point for being that, because it carries the words of the document's name.
    """
    parts = (document, digest, str(occurrence), *(["first"] if first else []))
    return _uuid5("\x1f".join(parts))


def _uuid5(name: str) -> str:
    """Return ``str(uuid5(NAMESPACE, name))`` in a third of the time: there is one for every chunk (RFC 9562, 5.5)."""
    raw = bytearray(hashlib.sha1(_ROOT + name.encode(), usedforsecurity=False).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x50  # version 5
    raw[8] = raw[8] & 0x3F | 0x80  # of the RFC's variant
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
