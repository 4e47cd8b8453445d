"""Sidecars: `report.pdf.meta.json` beside `report.pdf` holds the user's own metadata of it, and is no document itself.

Producers and index workers look at both: a changed sidecar makes its document look changed, and nothing else.
"""

from __future__ import annotations

import os

SUFFIX = ".meta.json"
_SUFFIX = SUFFIX.encode()
_TIMES = (1 << 62) - 1


def sidecar_name(name: bytes) -> bytes:
    """Return the name of the sidecar of a file."""
    return name + _SUFFIX


def described_name(name: bytes) -> bytes | None:
    """Return the name of the file that a sidecar describes; None: it is no sidecar."""
    base = name.removesuffix(_SUFFIX)
    return base if base != name and not base.endswith(b"/") and base else None


def mixed_mtime(mtime_ns: int, sidecar: os.stat_result | None) -> int:
    """Return what is remembered as a file's time: one that moves when its sidecar comes, changes or goes."""
    if sidecar is None:
        return mtime_ns
    return (mtime_ns ^ (sidecar.st_mtime_ns * 31 + sidecar.st_size)) & _TIMES
