"""What `upwell up` starts while it is still to find out what is asked of it: guard and template (ADR 0053).

Only the standard library is imported here, because everything waits for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ops.up.children import Children, Template
from ops.up.layers import LAYERS

READ_AT_IMPORT = {
    "PYTHONUNBUFFERED": "1",
    # Celery turns TERM into its soft shutdown only when told to: unfinished messages go back to the queue at once.
    "REMAP_SIGTERM": "SIGQUIT",
    "ORT_DISABLE_TELEMETRY": "1",  # what is installed has none (ADR 0046); a second wall, should that change
}
"""What libraries are to find in the environment of every part when they are imported."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""A second thread in the template would be missing in its forks, and numpy starts some."""


def python(module: str, *words: str) -> tuple[str, ...]:
    """Return the command of a module of ours."""
    # -P: a file called json.py in the user's folder must not become a part of us.
    return (sys.executable, "-P", "-m", module, *words)


def template(environ: Mapping[str, str]) -> Template:
    """Return the process that parts are forked from, for a caller whose environment is ``environ``.

    It has what libraries read when they are imported; of the rest of a part's environment it knows nothing.
    """
    return Template(python("ops.up.template"), dict(environ) | READ_AT_IMPORT | ONE_THREAD, LAYERS)


@contextmanager
def begun(words: Sequence[str]) -> Iterator[Children | None]:
    """Start guard and template for an `upwell up`, unless ``words`` only ask for its help; end them with the block."""
    if not {"-h", "--help"}.isdisjoint(words):
        yield None
        return
    children = Children(template(os.environ))
    try:
        yield children
    finally:
        children.close()
