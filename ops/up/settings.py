"""Settings of `upwell up`: which parts are real servers; whatever is unset is embedded."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from workers.contract.settings import Group


class UpSettings(Group):
    """What `upwell up` looks at before it starts anything.  An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix="UPWELL_", frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(Path(".upwell"), description="Directory for everything that must survive a restart.")
    api_host: str = Field("127.0.0.1", description="Address that the api listens on.")
    api_port: int | None = Field(
        None, ge=1, le=65535, description="Port of the api; unset: 8080, or the next free one, kept for later starts."
    )
    api_key: SecretStr | None = Field(
        None, description="Bearer key with which the display asks the api for the status."
    )
    broker_url: SecretStr | None = Field(None, description="A Valkey or Redis to use instead of the embedded Valkey.")
    qdrant_url: str | None = Field(None, description="A Qdrant to use instead of the embedded one.")
    qdrant_api_key: SecretStr | None = Field(None, description="Sent to that Qdrant as the api-key header.")
    embeddings_url: str | None = Field(
        None, description="An OpenAI-compatible embedding API to use instead of the bundled model."
    )
    embeddings_batch_inputs: int | None = Field(
        None, ge=1, le=2048, description="Most texts in one embedding request; unset: 16 for the bundled model."
    )
    embeddings_concurrency: int | None = Field(
        None, ge=1, le=64, description="Embedding requests in flight; unset: 2 for the bundled model."
    )
    index_workers: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Index workers to run; unset: one for every two processors, at most four.",
    )
    parser_children: int | None = Field(
        None, ge=1, le=64, description="Parser processes per index worker; unset: its share of the processors."
    )
    ledger_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL of the ledger; unset: a SQLite file in the data directory."
    )
