"""The states a document can be in, and what each means for the people who watch."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Every document is in exactly one of these, with a reason and a next step."""

    QUEUED = "queued"  # known, waiting for an index worker
    PARSING = "parsing"  # an index worker holds the lease
    EMBEDDING = "embedding"  # lexical search finds it; dense vectors are still to come
    READY = "ready"  # everything is stored
    FAILED = "failed"  # will be tried again by itself; next_try_at says when
    PARKED = "parked"  # will not be tried again until somebody or something changes
    EMPTY = "empty"  # parsed; there is no text in it
    SKIPPED = "skipped"  # ignored; the reason names the rule
    HELD = "held"  # a deletion waiting for approval; still searchable
    DELETED = "deleted"  # gone from source and index


FINAL = frozenset({State.READY, State.PARKED, State.EMPTY, State.SKIPPED, State.HELD, State.DELETED})
"""States in which nothing more will happen by itself."""

MOVING = frozenset(State) - FINAL
