"""Settings that several processes share, in groups; each process combines the groups it needs in its own class.

Nothing else reads the environment.  `ops/docs/configuration.md` describes every field, and a test compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from workers.contract.loopback import is_loopback


class Group(BaseSettings):
    """Base of every group: names start with UPWELL_, values never change after start."""

    model_config = SettingsConfigDict(env_prefix="UPWELL_", frozen=True, extra="ignore")


class LogSettings(Group):
    """How a process tells what it does."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe event that is logged; debug is for Upwell's own, libraries tell info at most."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="json: one object a line, for machines; console: for eyes."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def capitals_are_the_same_level(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class LifeSettings(Group):
    """Whose leases these are, and whose can be handed back; `upwell up` tells the processes that it starts."""

    life: str = Field("", max_length=64, description="Set by upwell up: which start of which part a process is.")
    ended_lives: tuple[str, ...] = Field(
        (), description="Set by upwell up, as JSON: earlier starts of the same part whose process is gone."
    )
    ended_runs: tuple[str, ...] = Field(
        (),
        description="Set by upwell up, as JSON: earlier runs on the data directory; none of their processes is left.",
    )


class LedgerSettings(Group):
    """Where progress is remembered."""

    ledger_url: SecretStr = Field(
        SecretStr("sqlite:///.upwell/ledger.db"),
        description="SQLAlchemy URL of the ledger. SQLite for one host; postgresql+psycopg://… for several.",
    )


class BrokerSettings(Group):
    """How hints and queries travel."""

    broker_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="URL of Valkey or Redis, scheme redis:// or rediss://, with password.",
    )
    broker_open: bool = Field(
        False,
        description="Allow a broker on another machine without a password: whoever reaches it commands the workers.",
    )
    key_prefix: str = Field("upwell:", description="Prefix of every key on the broker, for several deployments on one.")

    @model_validator(mode="after")
    def a_broker_on_another_machine_has_a_password(self) -> Self:
        parts = urlsplit(self.broker_url.get_secret_value())
        if not self.broker_open and parts.hostname and not parts.password and not is_loopback(parts.hostname):
            raise ValueError(
                "UPWELL_BROKER_URL names another machine and no password; whoever reaches such a broker can empty it"
                " and send tasks. Set a password there (redis://:PASSWORD@HOST:6379/0), or say that you mean it with"
                " UPWELL_BROKER_OPEN=true."
            )
        return self


class IndexSettings(Group):
    """Where chunks live."""

    qdrant_url: str = Field("http://127.0.0.1:6333", description="Base URL of Qdrant's REST API.")
    qdrant_api_key: SecretStr | None = Field(None, description="Sent to Qdrant as the api-key header.")
    qdrant_timeout: float = Field(
        30.0, gt=0, description="Seconds to wait for Qdrant before a write counts as unknown."
    )
    collection: str = Field(
        "upwell",
        pattern=r"^[A-Za-z0-9_-]{1,100}$",
        description="Alias that readers use; physical collections are COLLECTION-<recipe>.",
    )


class EmbeddingSettings(Group):
    """Which model turns text into vectors, and how it may be called."""

    embeddings_url: str = Field(
        "https://api.openai.com/v1", description="Base URL of an OpenAI-compatible API that serves POST /embeddings."
    )
    embeddings_model: str = Field("text-embedding-3-small", description="Model name sent with every request.")
    embeddings_api_key: SecretStr | None = Field(None, description="Bearer key for the embedding endpoint.")
    embeddings_dimensions: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Dimensions to ask for; unset: the model's own, learned from its first answer.",
    )
    embeddings_input_type: bool | None = Field(
        None, description="Send input_type (query or passage) with every request; unset: only to the bundled model."
    )
    embeddings_timeout: float = Field(60.0, gt=0, description="Seconds to wait for one embedding request.")


class SourceSettings(Group):
    """Where uploads are kept; watched folders are arguments of the watcher."""

    data_dir: Path = Field(Path(".upwell"), description="Directory for uploads and, with the embedded stack, all data.")


class QueryLogSettings(Group):
    """What is remembered of what people ask."""

    query_log: bool = Field(
        True, description="Remember searches and questions in the ledger, with the ids of their hits; false: none."
    )
    query_log_days: float = Field(
        30.0, ge=0, description="Days after which a remembered query is deleted; judgements (feedback) stay."
    )
