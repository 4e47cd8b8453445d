"""How much room the disk has that our data is on, and what to say when that is too little."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LEAST_FREE = 64 << 20
"""Bytes below which nothing is indexed: the embedded Qdrant writes nothing any more, and no index worker starts."""
LITTLE = 200 << 20
"""Bytes below which no upload is taken, and people are told."""
LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Room:
    """The bytes that are free where ``path`` is."""

    path: str
    free: int

    @property
    def full(self) -> bool:
        """Tell whether nothing more is written."""
        return self.free < LEAST_FREE

    @property
    def alarm(self) -> str | None:
        """What people should know; None: there is enough."""
        if self.free >= LITTLE:
            return None
        left = f"{self.free >> 20} MB are left"
        if not self.full:
            return (
                f"The disk of {self.path} is filling up: {left}. No upload is taken below {LITTLE >> 20} MB,"
                f" and nothing is indexed below {LEAST_FREE >> 20} MB. Make room."
            )
        return (
            f"The disk of {self.path} is full: {left}, and below {LEAST_FREE >> 20} MB nothing is indexed. What is"
            " indexed can be searched. Make room, and everything goes on by itself."
        )


def room(path: Path) -> Room:
    """Return the room where ``path`` is.

    Raises:
        OSError: it is not there.
    """
    disk = os.statvfs(path)
    return Room(str(path), disk.f_bavail * disk.f_frsize)


def wait_for_room(path: Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait, saying so once, until the disk of ``path`` has room.  A path that is not there yet is no reason to wait."""
    import structlog  # here: who only looks at the room logs nothing, and one of them is `upwell up`

    log = structlog.get_logger()
    said = False
    while (left := _known(path)) is not None and left.full:
        if not said:
            log.warning("disk.full", reason=left.alarm)
            said = True
        sleep(LOOK_S)
    if said:
        log.info("disk.has_room")


def _known(path: Path) -> Room | None:
    try:
        return room(path)
    except OSError:
        return None
