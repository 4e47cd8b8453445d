"""The only module that asks an embedding endpoint; it speaks OpenAI's API through OpenAI's own client."""

from __future__ import annotations

import base64
import email.utils
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import openai
from numpy.typing import NDArray

from workers.contract.settings import EmbeddingSettings
from workers.errors import EmbedderMisconfigured, EmbedderUnavailable, Permanent

LONGEST_WAIT_S = 300.0
QUOTA_WAIT_S = 300.0


class InputRefused(Permanent):
    """The endpoint refuses some text of this batch; which one, only smaller batches tell."""


@dataclass(frozen=True, slots=True)
class EmbeddingBatch:
    """Vectors in the order of the texts, and the tokens they cost."""

    vectors: NDArray[np.float32]  # (n, dimensions)
    tokens: int


def estimate_tokens(text: str) -> int:
    """Return roughly how many tokens ``text`` has: a token is about four Latin letters, or one CJK character."""
    wide = sum(ord(letter) > 0x2E7F for letter in text)
    return wide + (len(text) - wide) // 4 + 1


class EmbeddingClient:
    """One endpoint; make one per process, because HTTP clients cost tens of milliseconds."""

    def __init__(self, settings: EmbeddingSettings, *, timeout: float | None = None) -> None:
        self._url = settings.embeddings_url
        self._model = settings.embeddings_model
        self._dimensions = settings.embeddings_dimensions
        key = settings.embeddings_api_key
        typed = settings.embeddings_input_type
        self._typed = "e5" in self._model if typed is None else typed
        self._client = openai.OpenAI(
            base_url=self._url,
            api_key=key.get_secret_value() if key else "none",
            timeout=timeout or settings.embeddings_timeout,
            max_retries=0,  # the policy is ours: breaker, ledger, Retry-After
        )

    def embed(self, texts: Sequence[str], *, kind: Literal["query", "passage"]) -> EmbeddingBatch:
        """Return the vectors of ``texts``.

        Raises:
            EmbedderUnavailable: no answer, or not now; ``retry_after`` says when.
            EmbedderMisconfigured: key, model or dimensions do not fit.
            InputRefused: some text of the batch is refused (too long, empty, filtered).
        """
        more: dict[str, Any] = {"dimensions": self._dimensions} if self._dimensions else {}
        if self._typed:
            more["extra_body"] = {"input_type": kind}
        with self._translated():
            answer = self._client.embeddings.create(
                model=self._model, input=list(texts), encoding_format="base64", **more
            )
            return EmbeddingBatch(self._checked(answer, len(texts)), self._tokens(answer))

    def close(self) -> None:
        """Give connections back."""
        self._client.close()

    def _checked(self, answer: Any, count: int) -> NDArray[np.float32]:
        """Endpoints drop, shuffle and truncate; what is stored must be one sound vector for each text."""
        data = getattr(answer, "data", None)
        if not isinstance(data, list) or len(data) != count:
            got = len(data) if isinstance(data, list) else "no"
            raise EmbedderUnavailable(f"{self._told} sent {got} vectors for {count} texts.")
        if sorted(item.index for item in data) != list(range(count)):
            raise EmbedderUnavailable(f"{self._told} sent vectors that cannot be told apart (index).")
        rows = [_decode(item.embedding) for item in sorted(data, key=lambda item: item.index)]
        sizes = {row.size for row in rows}
        if len(sizes) != 1 or (self._dimensions and sizes != {self._dimensions}):
            raise EmbedderMisconfigured(
                f"{self._told} sends vectors of {sorted(sizes)} dimensions"
                f"{f', not {self._dimensions} (UPWELL_EMBEDDINGS_DIMENSIONS)' if self._dimensions else ''}."
            )
        vectors = np.stack(rows)
        if not np.isfinite(vectors).all() or (np.linalg.norm(vectors, axis=1) == 0).any():
            raise EmbedderUnavailable(f"{self._told} sent a vector that is zero or not a number.")
        return vectors

    def _tokens(self, answer: Any) -> int:
        usage = getattr(answer, "usage", None)
        return int(getattr(usage, "total_tokens", 0) or 0)

    @property
    def _told(self) -> str:
        return f"The embedding endpoint {self._url} (UPWELL_EMBEDDINGS_URL)"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the client's exceptions into ours.  Theirs may repeat what was sent, so their text stays out."""
        try:
            yield
        except openai.RateLimitError as exc:
            if exc.code == "insufficient_quota":
                raise EmbedderUnavailable(f"{self._told} says the quota is used up.", retry_after=QUOTA_WAIT_S) from exc
            raise EmbedderUnavailable(f"{self._told} limits the rate.", retry_after=_retry_after(exc)) from exc
        except (openai.AuthenticationError, openai.PermissionDeniedError) as exc:
            raise EmbedderMisconfigured(f"{self._told} refuses the key (UPWELL_EMBEDDINGS_API_KEY).") from exc
        except openai.NotFoundError as exc:
            raise EmbedderMisconfigured(
                f"{self._told} does not know the model {self._model} (UPWELL_EMBEDDINGS_MODEL), or has another path."
            ) from exc
        except openai.APIStatusError as exc:
            if exc.status_code in (400, 413, 422):
                raise InputRefused(f"{self._told} refuses a text ({exc.status_code}).") from exc
            raise EmbedderUnavailable(
                f"{self._told} answers {exc.status_code}.", retry_after=_retry_after(exc)
            ) from exc
        except openai.OpenAIError as exc:
            raise EmbedderUnavailable(f"No answer from {self._told[0].lower()}{self._told[1:]}.") from exc
        except (ValueError, TypeError, AttributeError) as exc:  # not JSON, or not of the API's shape
            raise EmbedderUnavailable(f"{self._told} does not answer as OpenAI's API does.") from exc


def _decode(embedding: Any) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), dtype="<f4").astype(np.float32)
    return np.asarray(embedding, dtype=np.float32)


def _retry_after(exc: openai.APIStatusError) -> float | None:
    """Return the seconds the endpoint asks to wait (retry-after-ms, or Retry-After of RFC 9110), within reason."""
    headers = exc.response.headers
    try:
        if "retry-after-ms" in headers:
            wait = float(headers["retry-after-ms"]) / 1000
        elif "retry-after" in headers:
            text = headers["retry-after"]
            wait = float(text) if text.replace(".", "", 1).isdigit() else _until(text)
        else:
            return None
    except (ValueError, TypeError):
        return None
    return min(LONGEST_WAIT_S, wait) if wait > 0 else None


def _until(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
