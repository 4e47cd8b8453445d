"""Settings of the housekeeping process."""

from __future__ import annotations

from pydantic import Field

from workers.contract.settings import (
    BrokerSettings,
    IndexSettings,
    LedgerSettings,
    LifeSettings,
    LogSettings,
    QueryLogSettings,
    SourceSettings,
)


class HousekeepingSettings(
    LedgerSettings, BrokerSettings, IndexSettings, SourceSettings, LifeSettings, LogSettings, QueryLogSettings
):
    """Everything the housekeeping process can be told."""

    sweep_interval: float = Field(5.0, gt=0, description="Seconds between two sweeps of the ledger.")
    sweep_batch: int = Field(
        5000, ge=1, description="Most hints that wait on the broker after a sweep; the ledger has all others."
    )
    audit_interval: float = Field(
        86_400.0, ge=0, description="Seconds between two audits that repair what they find; 0: only when asked for."
    )
    embedding_cache_entries: int = Field(
        1_000_000, ge=0, description="Most vectors that are remembered, so that no text is paid for twice."
    )
    embedding_cache_mb: int = Field(
        2048, ge=0, description="Most megabytes of remembered vectors; the longest unused go first."
    )
