"""Settings of the index worker."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field

from workers.contract.settings import (
    BrokerSettings,
    EmbeddingSettings,
    IndexSettings,
    LedgerSettings,
    LifeSettings,
    LogSettings,
)


class IndexWorkerSettings(LedgerSettings, BrokerSettings, IndexSettings, EmbeddingSettings, LifeSettings, LogSettings):
    """Everything an index worker can be told."""

    index_concurrency: int = Field(4, ge=1, le=256, description="Documents that one index worker works on at a time.")
    lease: float = Field(
        120.0, ge=1, description="Seconds an index worker may be silent before its documents go to others."
    )
    parser_children: int = Field(
        default_factory=lambda: max(1, min(8, os.cpu_count() or 1)),
        ge=1,
        le=64,
        description="Parser processes per index worker; one more for what was just saved while all are busy.",
    )
    parse_max_bytes: int = Field(
        200_000_000, ge=1, description="Largest file that is read, in bytes; larger ones are parked."
    )
    parse_max_chars: int = Field(
        20_000_000, ge=1000, description="Most characters of text in one document; longer ones are parked."
    )
    parse_timeout: float = Field(300.0, gt=0, description="Seconds until a parser process is ended.")
    parse_memory_mb: int = Field(2048, ge=256, description="Memory of one parser process, in MB of address space.")
    chunk_target: int = Field(800, ge=100, le=8000, description="Characters that a chunk aims at.")
    chunk_max: int = Field(1600, ge=200, le=16000, description="Most characters of a chunk.")
    metadata_rules: dict[str, dict[str, Any]] = Field(
        {},
        description="Metadata by folder, as JSON: patterns as in .gitignore, or SOURCE:pattern, and fields, e.g."
        ' {"contracts/**": {"type": "contract"}}; a later pattern wins.',
    )
    metadata_indexes: dict[str, Literal["keyword", "integer", "float", "bool", "datetime"]] = Field(
        {},
        description="Payload indexes for your own metadata, as JSON: field and type (keyword, integer, float, bool,"
        " datetime); other fields get one by their first value.",
    )
    embeddings_batch_inputs: int = Field(128, ge=1, le=2048, description="Most texts in one embedding request.")
    embeddings_batch_tokens: int = Field(
        100_000, ge=64, le=300_000, description="Most tokens (estimated) in one embedding request."
    )
    embeddings_concurrency: int = Field(
        16, ge=1, le=64, description="Most embedding requests in flight per index worker; how many, latency decides."
    )
    embeddings_tpm: int | None = Field(
        None,
        ge=1,
        description="Tokens per minute that all index workers together may send; unset: as the endpoint's headers say.",
    )
    embeddings_rpm: int | None = Field(
        None,
        ge=1,
        description="Requests per minute of all index workers together; unset: as the endpoint's headers say.",
    )
    start_timeout: float = Field(60.0, gt=0, description="Seconds to wait at start for servers that are not up yet.")
