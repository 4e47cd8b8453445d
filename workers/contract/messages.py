"""The contract: every message that crosses the broker.

A message is a hint: it says *look at this document*, never what is true of it.  Late, doubled, lost and reordered
messages are therefore harmless.  ``extra="forbid"`` means workers are deployed before producers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, assert_never
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

TASK_RECONCILE = "index.reconcile"
TASK_EMBED = "index.embed"
TASK_SEARCH = "query.search"
TASK_SEARCH_BATCH = "query.search_batch"
TASK_EXPLAIN = "query.explain"
TASK_ANSWER = "query.answer"
TASK_QUESTION = "query.question"


MOST_TOGETHER = 64
"""Most documents that one message may name."""


class Queue(StrEnum):
    """Broker queues.  Queues of their own, not priorities, keep edits ahead of a backfill (celery#8673)."""

    LIVE = "live"
    BULK = "bulk"
    EMBED = "embed"
    QUERY = "query"
    ANSWER = "answer"  # whatever waits for a model that writes: searches must not wait behind it


class MessageRejected(ValueError):
    """A message that no release of Upwell could have sent."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    v: Literal[1] = 1


class LookAtDocument(_Message):
    """The document may not be what the index says it is."""

    kind: Literal["document.look"] = "document.look"
    document_id: UUID
    bulk: bool = False


class LookAtDocuments(_Message):
    """The same of several documents of a backfill, which are cheaper to look at together."""

    kind: Literal["documents.look"] = "documents.look"
    document_ids: tuple[UUID, ...] = Field(min_length=1, max_length=MOST_TOGETHER)


class EmbeddingsPending(_Message):
    """Some chunk has no dense vector yet."""

    kind: Literal["embeddings.pending"] = "embeddings.pending"


Message = LookAtDocument | LookAtDocuments | EmbeddingsPending
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def decode(raw: object) -> Message:
    """Return the message in ``raw`` (a JSON object).

    Raises:
        MessageRejected: it is not one of ours; the text never repeats what was in it.
    """
    try:
        return _ADAPTER.validate_python(raw, strict=False)
    except ValidationError as exc:
        raise MessageRejected(f"not an Upwell message ({exc.error_count()} faults)") from None


def encode(message: Message) -> dict[str, Any]:
    """Return ``message`` as the JSON object that goes on the wire."""
    return message.model_dump(mode="json")


def route(message: Message) -> tuple[str, Queue]:
    """Return (task name, queue) for ``message``."""
    match message:
        case LookAtDocument(bulk=True) | LookAtDocuments():
            return TASK_RECONCILE, Queue.BULK
        case LookAtDocument():
            return TASK_RECONCILE, Queue.LIVE
        case EmbeddingsPending():
            return TASK_EMBED, Queue.EMBED
        case _:
            assert_never(message)
