"""The only module that asks an embedding endpoint: OpenAI's API, `POST /embeddings`, over plain HTTP.

OpenAI's own client takes half a second of processor time to import, in each process that only wants vectors, and looks
through every text of every request; what it would save us are the few lines about refusals below.
"""

from __future__ import annotations

import base64
import email.utils
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr
from pydantic_core import from_json, to_json

from workers.adapters.budget import Allowance
from workers.adapters.tokens import estimate_tokens
from workers.adapters.trust import trusted
from workers.contract.addresses import without_password
from workers.contract.settings import EmbeddingSettings
from workers.errors import EmbedderMisconfigured, EmbedderUnavailable, Permanent, RateLimited

LONGEST_WAIT_S = 300.0
QUOTA_WAIT_S = 300.0

_ABOUT_US = ("model", "dimensions", "encoding_format", "input_type")
"""Parameters of ours: an endpoint that refuses one of them would refuse every text."""


ELSEWHERE = "texts and key would go to an address that nobody has set. Set the one that it leads to, if it is right."

CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=64)
"""A connection for each request in flight, kept for the next: there are as many as the concurrency allows."""


class InputRefused(Permanent):
    """The endpoint refuses some text of this batch; which one, only smaller batches tell."""


@dataclass(frozen=True, slots=True)
class EmbeddingBatch:
    """Vectors in the order of the texts, and the tokens they cost."""

    vectors: NDArray[np.float32]  # (n, dimensions)
    tokens: int
    allowance: Allowance | None = None  # what the endpoint says of its limits


class EmbeddingClient:
    """One endpoint; make one per process, because HTTP clients cost tens of milliseconds.  Threads may share it."""

    def __init__(self, settings: EmbeddingSettings, *, timeout: float | None = None) -> None:
        self._url = settings.embeddings_url
        self._model = settings.embeddings_model
        self._dimensions = settings.embeddings_dimensions
        self._seen_dimensions: int | None = None
        self._timeout = timeout or settings.embeddings_timeout
        typed = settings.embeddings_input_type
        self._typed = "e5" in self._model.lower() if typed is None else typed
        if urlsplit(self._url).scheme not in ("http", "https"):
            raise EmbedderMisconfigured("UPWELL_EMBEDDINGS_URL must start with http:// or https://.")
        key = bearer(settings.embeddings_api_key, "UPWELL_EMBEDDINGS_API_KEY", EmbedderMisconfigured)
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            timeout=self._timeout,
            limits=CONNECTIONS,
            verify=trusted(self._url),
            follow_redirects=False,  # a redirect would carry texts, and maybe the key, to somewhere else
        )
        self._path = f"{self._url.rstrip('/')}/embeddings"

    def embed(self, texts: Sequence[str], *, kind: Literal["query", "passage"]) -> EmbeddingBatch:
        """Return the vectors of ``texts``.

        Raises:
            EmbedderUnavailable: no answer, or not now; ``retry_after`` says when.
            EmbedderMisconfigured: key, model or dimensions do not fit.
            InputRefused: some text of the batch is refused (too long, empty, filtered).
        """
        if not texts:
            return EmbeddingBatch(np.zeros((0, self._seen_dimensions or 0), dtype=np.float32), 0)
        # base64: to parse vectors as lists of numbers would be a fifth to a half of a cold run.
        body: dict[str, Any] = {"model": self._model, "input": list(texts), "encoding_format": "base64"}
        if self._dimensions:
            body["dimensions"] = self._dimensions
        if self._typed:
            body["input_type"] = kind
        with self._translated():
            with self._client.stream("POST", self._path, content=to_json(body)) as raw:
                content = self._whole(raw)
            if not raw.is_success:
                raise self._refusal(raw.status_code, _json(content), raw.headers)
            allowed, answer = allowance(raw.headers), from_json(content)
            vectors = self._checked(answer, len(texts))
            counted = _counted(answer)
            self._check_whole(counted, texts)
            return EmbeddingBatch(vectors, counted or sum(estimate_tokens(text) for text in texts), allowed)

    def close(self) -> None:
        """Give connections back."""
        self._client.close()

    def _whole(self, raw: httpx.Response) -> bytes:
        """Read an answer to its end, in time: the client's own limit is for each read, and a slow drip passes it."""
        deadline = time.monotonic() + self._timeout
        parts: list[bytes] = []
        for part in raw.iter_bytes():
            parts.append(part)
            if time.monotonic() > deadline:
                raise EmbedderUnavailable(f"{self._told} did not answer in time (UPWELL_EMBEDDINGS_TIMEOUT).")
        return b"".join(parts)

    def _checked(self, answer: Any, count: int) -> NDArray[np.float32]:
        """Endpoints drop, shuffle and truncate; what is stored must be one sound vector for each text."""
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or len(data) != count:
            got = len(data) if isinstance(data, list) else "no"
            raise EmbedderUnavailable(f"{self._told} sent {got} vectors for {count} texts.")
        indices = [item["index"] for item in data]
        if indices != list(range(count)):
            if sorted(indices) != list(range(count)):
                raise EmbedderUnavailable(f"{self._told} sent vectors that cannot be told apart (index).")
            data = sorted(data, key=lambda item: int(item["index"]))
        rows = [_decode(item["embedding"]) for item in data]
        self._check_dimensions({len(row) for row in rows})
        vectors = np.stack(rows).astype(np.float32, copy=False)
        if not np.isfinite(vectors).all() or (np.linalg.norm(vectors, axis=1) == 0).any():
            raise EmbedderUnavailable(f"{self._told} sent a vector that is zero or not a number.")
        return vectors

    def _check_whole(self, counted: int, texts: Sequence[str]) -> None:
        """Some servers cut long texts in silence.  Only the count of tokens tells: no word has less than one."""
        if not counted or counted >= _most_words(texts):
            return  # as nearly always; which of those are words takes long to tell
        if counted < sum(_words(text) for text in texts):
            raise InputRefused(
                f"{self._told} reads only the beginning of long texts. Set UPWELL_CHUNK_MAX to what its model reads."
            )

    def _check_dimensions(self, sizes: set[int]) -> None:
        if self._dimensions and sizes != {self._dimensions}:
            raise EmbedderMisconfigured(
                f"{self._told} sends vectors of {_listed(sizes)} dimensions, not the {self._dimensions} of"
                f" UPWELL_EMBEDDINGS_DIMENSIONS. The model {self._model} (UPWELL_EMBEDDINGS_MODEL) may not offer them."
            )
        if len(sizes | {self._seen_dimensions or min(sizes)}) != 1:
            raise EmbedderMisconfigured(
                f"{self._told} sends vectors of {_listed(sizes | {self._seen_dimensions or min(sizes)})} dimensions"
                f" for one model, {self._model} (UPWELL_EMBEDDINGS_MODEL). Is something else answering there now?"
            )
        self._seen_dimensions = min(sizes)

    @property
    def _told(self) -> str:
        return f"The embedding endpoint {without_password(self._url)} (UPWELL_EMBEDDINGS_URL)"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the client's exceptions into ours.  Theirs may repeat what was sent, so nothing of them is kept."""
        try:
            yield
        except httpx.TimeoutException:
            raise EmbedderUnavailable(f"{self._told} did not answer in time (UPWELL_EMBEDDINGS_TIMEOUT).") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            raise EmbedderUnavailable(f"{self._told} cannot be reached.") from None
        except (ValueError, TypeError, KeyError):  # not JSON, or not of the API's shape
            raise EmbedderUnavailable(
                f"{self._told} does not answer as OpenAI's API does. Is the path right?"
            ) from None

    def _refusal(
        self, status: int, body: Any, headers: Mapping[str, str]
    ) -> EmbedderUnavailable | EmbedderMisconfigured | InputRefused:
        if status in (401, 403):
            return EmbedderMisconfigured(f"{self._told} refuses the key (UPWELL_EMBEDDINGS_API_KEY): {status}.")
        if 300 <= status < 400:
            return EmbedderMisconfigured(f"{self._told} redirects ({status}), which is not followed: {ELSEWHERE}")
        if status == 404:
            return EmbedderMisconfigured(
                f"{self._told} does not know the model {self._model} (UPWELL_EMBEDDINGS_MODEL), or has another path."
            )
        if out_of_quota(status, body):
            return EmbedderUnavailable(
                f"{self._told} says that the quota of UPWELL_EMBEDDINGS_API_KEY is used up; waiting does not help,"
                " topping up does.",
                retry_after=QUOTA_WAIT_S,
            )
        if status == 429:
            return RateLimited(f"{self._told} limits the rate.", retry_after=retry_after(headers))
        if status in (400, 413, 422):
            return self._refused_input(status, body)
        return EmbedderUnavailable(f"{self._told} answers {status}.", retry_after=retry_after(headers))

    def _refused_input(self, status: int, body: Any) -> EmbedderMisconfigured | InputRefused:
        about = sorted(_parameters(body).intersection(_ABOUT_US))
        if about:
            return EmbedderMisconfigured(
                f"{self._told} refuses the parameter {', '.join(about)} ({status})."
                " See UPWELL_EMBEDDINGS_MODEL, UPWELL_EMBEDDINGS_DIMENSIONS and UPWELL_EMBEDDINGS_INPUT_TYPE."
            )
        return InputRefused(f"{self._told} refuses a text ({status}).")


# ------------------------------------------------------------------ what OpenAI-compatible endpoints have in common


def bearer(key: SecretStr | None, setting: str, error: type[Permanent]) -> str:
    """Return the key to send.

    Raises:
        error: it has characters that no header can carry (a copied newline, a typographic quote).
    """
    value = key.get_secret_value().strip() if key else ""
    if not (value.isascii() and value.isprintable()):
        raise error(f"{setting} has characters that a key cannot have. Was it copied whole, and alone?")
    return value or "none"


def out_of_quota(status: int, body: Any) -> bool:
    """Tell whether a refusal is about money and not about speed: 402, or OpenAI's 429 insufficient_quota.

    ``body`` is that of the answer, or the error in it.
    """
    error = body.get("error", body) if isinstance(body, dict) else None
    told = (error.get("code"), error.get("type")) if isinstance(error, dict) else ()
    return status == 402 or (status == 429 and "insufficient_quota" in told)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds the endpoint asks to wait (retry-after-ms, or Retry-After of RFC 9110), within reason."""
    try:
        if "retry-after-ms" in headers:
            wait = float(headers["retry-after-ms"]) / 1000
        elif "retry-after" in headers:
            wait = _seconds(headers["retry-after"])
        else:
            return None
    except (ValueError, TypeError, OverflowError):
        return None
    return min(LONGEST_WAIT_S, wait) if wait > 0 else None  # NaN is not above zero either


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()


def _parameters(body: Any) -> set[str]:
    """Return the parameters that an error body blames: OpenAI's ``param``, FastAPI's ``detail[].loc``."""
    blamed: set[str] = set()
    if not isinstance(body, dict):
        return blamed
    inner = body.get("error")
    for error in (body, inner if isinstance(inner, dict) else {}):
        if isinstance(error.get("param"), str):
            blamed.add(error["param"])
        if error.get("code") == "model_not_found":
            blamed.add("model")
    details = body.get("detail")
    for detail in details if isinstance(details, list) else []:
        location = detail.get("loc") if isinstance(detail, dict) else None
        blamed.update(part for part in location or () if isinstance(part, str))
    return blamed


def _json(content: bytes) -> Any:
    """Return what an answer says; None when it is no JSON."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def _decode(embedding: Any) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return np.asarray(embedding, dtype=np.float32).reshape(-1)  # some endpoints know no base64


def _counted(answer: dict[str, Any]) -> int:
    """Return the tokens that the endpoint counted; 0 when it does not count."""
    usage = answer.get("usage")
    counted = usage.get("total_tokens") if isinstance(usage, dict) else None
    return counted if isinstance(counted, int) and counted > 0 else 0


def _most_words(texts: Sequence[str]) -> int:
    """Return at least as many as there are words between white space, from one look at all texts."""
    together = "\n".join(texts).encode("utf-8", "surrogatepass")
    return len(together.translate(None, _NEVER_SPACE)) + 1


_NEVER_SPACE = bytes({*range(256)} - {*b"\t\n\v\f\r\x1c\x1d\x1e\x1f ", *b"\xc2\xe1\xe2\xe3"})
"""Bytes with which no white space begins in UTF-8; others begin other signs as well, such as quotation marks."""


def _words(text: str) -> int:
    """Return what no tokenizer stays under: words between white space that have a letter or digit."""
    return sum(any(map(str.isalnum, word)) for word in text.split())


def allowance(headers: Mapping[str, str]) -> Allowance:
    """Return what OpenAI's ``x-ratelimit-*`` headers say; other servers send none, or 0, or -1."""

    def positive(name: str) -> int | None:
        text = headers.get(f"x-ratelimit-{name}", "")
        return int(text) if text.isdigit() and int(text) > 0 else None

    left = headers.get("x-ratelimit-remaining-tokens", "")
    return Allowance(positive("limit-tokens"), positive("limit-requests"), int(left) if left.isdigit() else None)


def _listed(sizes: set[int]) -> str:
    return " and ".join(map(str, sorted(sizes)))
