"""Settings of the query worker."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from workers.contract.settings import (
    BrokerSettings,
    EmbeddingSettings,
    Group,
    IndexSettings,
    LedgerSettings,
    LogSettings,
)


class ChatSettings(Group):
    """Which model writes answers.  Without one, answers are extractive: the documents' own sentences."""

    # Compose files pass unset variables on as empty ones.
    model_config = SettingsConfigDict(env_ignore_empty=True)

    chat_url: str = Field(
        "https://api.openai.com/v1",
        description="Base URL of an OpenAI-compatible API that serves POST /chat/completions;"
        " used when this or UPWELL_CHAT_API_KEY is set.",
    )
    chat_model: str = Field("gpt-4o-mini", description="Model that writes answers.")
    chat_api_key: SecretStr | None = Field(None, description="Bearer key for the chat endpoint.")
    chat_timeout: float = Field(
        40.0,
        gt=0,
        description="Seconds that a written answer may take; after that the documents answer in their own words.",
    )
    chat_temperature: float | None = Field(
        None, ge=0, le=2, description="Sampling temperature; unset: the endpoint's own (some models take no other)."
    )

    @property
    def chat_wanted(self) -> bool:
        """Tell whether answers are written by a model."""
        return "chat_url" in self.model_fields_set or self.chat_api_key is not None


class RerankerSettings(Group):
    """Which model, if any, orders the best hits once more."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    rerank_url: str | None = Field(
        None, description="Full URL of a rerank endpoint, e.g. http://127.0.0.1:8090/rerank; unset: no reranking."
    )
    rerank_style: Literal["cohere", "tei"] = Field(
        "cohere",
        description="Shape of its requests: cohere (also Jina, vLLM) or tei (Hugging Face text-embeddings-inference).",
    )
    rerank_model: str = Field("rerank-v3.5", description="Model named in requests of the cohere shape.")
    rerank_api_key: SecretStr | None = Field(None, description="Bearer key for the rerank endpoint.")
    rerank_timeout: float = Field(
        2.0, gt=0, description="Seconds to wait for the reranker; after that hits stay in the order of the search."
    )


class QueryWorkerSettings(
    LedgerSettings, BrokerSettings, IndexSettings, EmbeddingSettings, ChatSettings, RerankerSettings, LogSettings
):
    """Everything a query worker can be told."""

    query_concurrency: int = Field(8, ge=1, le=256, description="Searches that one query worker works on at a time.")
    answer_concurrency: int = Field(
        8, ge=1, le=256, description="Answers that one query worker works on at a time, beside its searches."
    )
    search_timeout: float = Field(10.0, gt=0, description="Seconds to wait for Qdrant while searching.")
    query_embedding_timeout: float = Field(
        5.0, gt=0, description="Seconds to wait for a query's vector; after that the search is lexical only."
    )
    query_cache: int = Field(2048, ge=0, description="Query vectors that one query worker remembers.")
    answer_context_tokens: int = Field(
        6_000,
        ge=1_500,
        le=1_000_000,
        description="Most tokens (estimated) that a chat model is given: rules, conversation, passages and question.",
    )
    answer_tokens: int = Field(
        1_500, ge=50, le=100_000, description="Tokens (estimated) after which a model that goes on writing is stopped."
    )
    answer_confidence: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How sure an extractive answer must be to be given instead of a refusal; 0 answers always.",
    )
