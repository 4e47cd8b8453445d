"""Whether an Upwell process of this host beats: what a container's health check asks."""

from __future__ import annotations

import socket

from sqlalchemy import func, select

from workers.contract import schema
from workers.contract.schema import processes

LATE_S = 30.0


def beats_here(ledger_url: str) -> bool:
    """Return True when a process of this host has beaten lately."""
    engine = schema.open_ledger(ledger_url)
    with schema.reading(engine).connect() as connection:
        recent = processes.c.beat_at > schema.now(connection) - LATE_S
        count = connection.scalar(
            select(func.count()).select_from(processes).where(processes.c.host == socket.gethostname(), recent)
        )
    engine.dispose()
    return bool(count)
