"""Processes that tests start.  None of them outlives the tests, however those end.

Whoever is told to end (SIGTERM) ends like after Ctrl-C: fixtures give back what they have started (`conftest`).  Who is
killed can do nothing any more; then the kernel ends the processes that were started here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def start(command: Sequence[Any], **more: Any) -> subprocess.Popen[Any]:
    """Start a process that is told to end (SIGTERM) when the thread that calls this is gone.

    Takes what `subprocess.Popen` takes.  Call it from a thread that lives as long as the process should.
    """
    return subprocess.Popen(command, preexec_fn=_bound_to(os.getpid()), **more)


def _bound_to(parent: int) -> Callable[[], None]:
    def bind() -> None:
        if _libc is None:
            return
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before it could be asked for
            os._exit(1)

    return bind


def end_like_ctrl_c() -> None:
    """Let SIGTERM end this process as Ctrl-C does: whatever was begun is finished in order.

    Ctrl-C itself as well: a shell starts what it puts in the background with SIGINT ignored, and whatever is executed
    from there ignores it in turn, so that a test could not send it to anything.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
