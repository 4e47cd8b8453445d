"""POST /v1/embeddings: passed on to the configured embedding endpoint, so that readers embed as the index does."""

from __future__ import annotations

from typing import Any

import httpx

from ops.api.errors import ApiError
from workers.adapters.trust import trusted
from workers.contract.settings import EmbeddingSettings

PASSED_ON = ("input", "encoding_format", "dimensions", "input_type", "user")


class EmbeddingProxy:
    """The way to the endpoint; the key stays here.  One per process, because connections cost tens of milliseconds."""

    def __init__(self, settings: EmbeddingSettings) -> None:
        self.model = settings.embeddings_model
        key = settings.embeddings_api_key
        self._dimensions = settings.embeddings_dimensions
        self._client = httpx.AsyncClient(
            base_url=settings.embeddings_url.rstrip("/") + "/",
            headers={"authorization": f"Bearer {key.get_secret_value().strip()}"} if key else {},
            timeout=settings.embeddings_timeout,
            verify=trusted(settings.embeddings_url),
            follow_redirects=False,  # a redirect would carry key and text to somewhere else
        )

    async def embed(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """Return status and body of the endpoint's answer.

        Raises:
            ApiError: it does not answer, refuses us, or has another model than is asked for.
        """
        model = body.get("model") or self.model
        if model != self.model and not str(model).startswith(f"{self.model}-"):
            raise ApiError(404, "model_not_found", "There is one embedding model here.", f"Ask for {self.model}.")
        wanted = {name: body[name] for name in PASSED_ON if body.get(name) is not None} | {"model": model}
        if self._dimensions:
            wanted.setdefault("dimensions", self._dimensions)
        try:
            answer = await self._client.post("embeddings", json=wanted)
        except httpx.HTTPError as exc:
            raise _away(type(exc).__name__) from None
        except ValueError:  # NaN, which our own reader of JSON lets through
            raise ApiError(422, "invalid_request", "A number of this request is none.", "Send text in input.") from None
        if answer.status_code in (401, 403) or answer.is_redirect:
            raise _away(f"status {answer.status_code}, see UPWELL_EMBEDDINGS_API_KEY")
        return answer.status_code, answer.content

    async def close(self) -> None:
        """Give connections back."""
        await self._client.aclose()


def _away(why: str) -> ApiError:
    message = f"The embedding endpoint does not answer ({why})."
    return ApiError(503, "embedder_away", message, "See UPWELL_EMBEDDINGS_URL, and try again in a moment.")
