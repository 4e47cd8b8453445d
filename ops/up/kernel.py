"""What the guard and its children ask of the kernel.  Only the standard library, because the guard has nothing else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    """Ask the kernel for a favour; where there is no prctl (macOS), do without."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def children_of(parent: int, *, outside: frozenset[int] = frozenset()) -> list[int]:
    """Return the pids of the living children of ``parent`` (Linux; elsewhere none are known).

    Those whose session is one of ``outside`` are left out.
    """
    found = []
    with contextlib.suppress(OSError):
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                stat = (entry / "stat").read_bytes()
            except OSError:
                continue  # gone meanwhile
            # The name before it may contain anything.
            state, ppid, _, session = stat[stat.rindex(b")") + 2 :].split(maxsplit=4)[:4]
            if int(ppid) == parent and state != b"Z" and int(session) not in outside:
                found.append(int(entry.name))
    return found


def send_signal(pid: int, number: int, *, group: bool = False) -> None:
    """Signal a process or its group; one that is gone has nothing to hear."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def begin_life(output: int, *, parent: int, inherited: Sequence[int]) -> None:
    """Make this fork a process of its own: it ends with its ``parent``, writes to ``output`` and reads nothing.

    ``inherited`` are descriptors that it passes on.
    """
    os.setsid()
    end_with(parent)
    for fd in inherited:
        os.set_inheritable(fd, True)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for fd in {null, output} - {0, 1, 2}:
        os.close(fd)


def end_with(parent: int) -> None:
    """Have the kernel end this process when its ``parent`` ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before the kernel knew what to do about it


def show_as(argv: Sequence[str]) -> None:
    """Let `ps` show these words for this process, as many as its own command line has room for (Linux).

    The words of a command line lie in the process's memory, where /proc/PID/cmdline reads them.  It takes them for one
    text that ends at its first zero if the last byte of the place is none, which is how setproctitle(3) of other
    systems is done (get_mm_cmdline in fs/proc/base.c).
    """
    stat = Path("/proc/self/stat").read_bytes()
    fields = stat[stat.rindex(b")") + 2 :].split()
    begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end: 48 and 49 of proc(5), which counts from 1
    room = end - begin - 2
    if room <= 0:
        return
    title = os.fsencode(" ".join(argv))[:room]
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, title, len(title))
    ctypes.memset(end - 1, 1, 1)
