"""Rewrites a shard that many points have left, in a process of its own; as a script, that process.

The engine's `optimize` copies every point that is still there into a new segment, half a millisecond of processor time
each, and answers nobody meanwhile: 40 s for 100,000 points.  So a child does it on a copy, and the server changes over.

copy         in a thread; reads go on, writes wait (a second or two for 100,000 points)
rewrite      in the child, at low priority; reads and writes go on in the old shard, and writes are remembered
change over  the old shard is closed, the new one loaded, and what was written meanwhile is written again; everybody
             waits (two seconds for 100,000 points, most of it loading)

Until the table of contents names the new shard, the old one has everything, so a crash at any moment loses nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

NICENESS = 10
LOOK_EVERY_S = 0.1
ROOM = 3
"""Free disk that is needed, in sizes of the shard: its copy, and the new segment beside the copied one."""

_PR_SET_PDEATHSIG = 1


async def rewritten(copy: Path, *, given_up: Callable[[], bool]) -> bool:
    """Rewrite the shard in ``copy``; False when it failed or was given up."""
    # Without the working directory in its path, and by file: the child needs nothing of ours.
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", __file__, str(copy), stdin=asyncio.subprocess.DEVNULL
    )
    try:
        while child.returncode is None and not given_up():
            try:
                await asyncio.wait_for(child.wait(), LOOK_EVERY_S)
            except TimeoutError:
                pass
        return child.returncode == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def copy_shard(old: Path, new: Path) -> None:
    """Copy a shard that nobody writes to.

    Raises:
        OSError: it cannot be read or written, or there is too little room.
    """
    size = sum(map(size_of, files(old)))
    free = shutil.disk_usage(old).free
    if free < ROOM * size:
        raise OSError(f"{free >> 20} MB of disk are free, {ROOM * size >> 20} are needed")
    shutil.copytree(old, new)


def write_out(shard: Path) -> None:
    """Let the kernel write what is changed of a shard's files, so that the engine's own flush finds little to do."""
    for file in files(shard):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def files(directory: Path) -> Iterator[Path]:
    """Yield every file below a directory; some may be gone by then."""
    for parent, _, names in os.walk(directory):
        yield from (Path(parent, name) for name in names)


def size_of(file: Path) -> int:
    """Return the bytes of a file; 0 when it is gone."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def left_behind(shard: Path, points: int) -> float:
    """Return the share of a flushed shard's places whose point was deleted or replaced."""
    # Eight bytes for the version of each place, in the engine's own file.
    places = sum(file.stat().st_size // 8 for file in shard.glob("segments/*/*id_tracker.versions"))
    return max(0.0, 1 - points / places) if places else 0.0


def main() -> None:
    """Rewrite the shard in the directory that is named."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # without a server nobody waits for it
    os.nice(NICENESS)
    import qdrant_edge as q

    shard = q.EdgeShard.load(sys.argv[1])
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main()
