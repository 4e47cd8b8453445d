"""Settings of the watcher."""

from __future__ import annotations

from pydantic import Field

from workers.contract.settings import BrokerSettings, LedgerSettings, LogSettings


class WatcherSettings(LedgerSettings, BrokerSettings, LogSettings):
    """Everything a watcher can be told."""

    settle_closed: float = Field(
        0.02, ge=0, description="Seconds of quiet after a file was closed or renamed into place until it is looked at."
    )
    settle_quiet: float = Field(1.0, ge=0, description="Seconds of quiet for any other change.")
    settle_longest: float = Field(600.0, gt=0, description="Seconds after which a file that never rests is looked at.")
    settle_busiest: float = Field(
        60.0, ge=0, description="Most seconds between two looks at a file that is saved again and again."
    )
    rescan_interval: float = Field(1800.0, gt=0, description="Seconds between full scans of a folder.")
    deletion_wait: float = Field(0.3, ge=0, description="Seconds between the two looks that a deletion needs.")
    brake_share: float = Field(0.2, gt=0, le=1, description="Share of a folder's documents that may vanish at once.")
    brake_count: int = Field(50, ge=0, description="Number of documents that may vanish at once, whatever the share.")
    brake_window: float = Field(60.0, gt=0, description="Seconds within which deletions count as happening at once.")
    probe_wait: float = Field(
        3.0, gt=0, description="Seconds to wait for the event that proves that a folder sends events."
    )
    probe_interval: float = Field(30.0, gt=0, description="Seconds of silence after which a folder is probed again.")
    polling_interval: float = Field(5.0, gt=0, description="Seconds between scans of a folder that sends no events.")
