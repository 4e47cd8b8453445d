"""Settings of the api."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from workers.contract.settings import (
    BrokerSettings,
    EmbeddingSettings,
    IndexSettings,
    LedgerSettings,
    LogSettings,
    QueryLogSettings,
    SourceSettings,
)


class ApiSettings(
    LedgerSettings, BrokerSettings, IndexSettings, EmbeddingSettings, SourceSettings, LogSettings, QueryLogSettings
):
    """Everything the api can be told."""

    api_host: str = Field("127.0.0.1", description="Address to listen on; another than loopback needs UPWELL_API_KEY.")
    api_port: int = Field(8080, ge=1, le=65535, description="Port to listen on.")
    api_key: SecretStr | None = Field(
        None, description="Key that clients send as Authorization: Bearer; unset or empty: none needed."
    )
    metrics_key: SecretStr | None = Field(
        None,
        description="Key that opens /metrics and nothing else, for Prometheus; unset or empty: /metrics needs"
        " UPWELL_API_KEY, and none where that is unset.",
    )
    api_open: bool = Field(
        False, description="Without a key, allow listening beyond loopback, and requests under other host names."
    )
    api_expects_watcher: bool = Field(
        False, description="Say converged only while a watcher lives that has finished its scan; `upwell up` sets it."
    )
    api_rpm: int | None = Field(
        None,
        ge=1,
        description="Requests per minute that one client (address) may send to one api, lookups not counted; one more"
        " is answered with 429 and Retry-After; unset: no limit.",
    )
    upload_max_bytes: int = Field(200_000_000, ge=1, description="Largest upload, in bytes.")
    query_timeout: float = Field(60.0, gt=0, description="Seconds to wait for the query worker.")
    queries_waiting: int = Field(
        256,
        ge=1,
        description="Searches and questions that one api lets wait for query workers; one more is answered with 503 and"
        " Retry-After at once.",
    )

    @field_validator("api_key", "metrics_key")
    @classmethod
    def an_empty_key_is_none(cls, key: SecretStr | None) -> SecretStr | None:
        """Return None for a variable that is set to nothing, as an .env file has it: nothing would fit its lock."""
        return key if key is not None and key.get_secret_value().strip() else None
