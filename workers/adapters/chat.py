"""The only module that asks a chat endpoint; it speaks OpenAI's API through OpenAI's own client."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from workers.adapters.embeddings import ELSEWHERE, QUOTA_WAIT_S, bearer, out_of_quota, retry_after
from workers.adapters.trust import trusted
from workers.contract.addresses import without_password
from workers.errors import ChatMisconfigured, ChatUnavailable
from workers.query.ports import Role
from workers.query.settings import ChatSettings

LONGEST_ANSWER = 20_000
"""Characters after which a model that does not stop by itself is stopped."""


class ChatClient:
    """One chat endpoint; make one per process.  Threads may share it."""

    def __init__(self, settings: ChatSettings) -> None:
        self._url = settings.chat_url
        self._model = settings.chat_model
        self._timeout = settings.chat_timeout
        self._more: dict[str, Any] = (
            {} if settings.chat_temperature is None else {"temperature": settings.chat_temperature}
        )
        if urlsplit(self._url).scheme not in ("http", "https"):
            raise ChatMisconfigured("UPWELL_CHAT_URL must start with http:// or https://.")
        self._client = openai.OpenAI(
            base_url=self._url,
            api_key=bearer(settings.chat_api_key, "UPWELL_CHAT_API_KEY", ChatMisconfigured),
            timeout=self._timeout,
            max_retries=0,  # somebody waits: passages now are better than an answer later
            http_client=openai.DefaultHttpxClient(verify=trusted(self._url), follow_redirects=False),
        )

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._model

    def stream(self, messages: Sequence[tuple[Role, str]]) -> Iterator[str]:
        """Yield the text as the model writes it; closing the iterator stops the model.

        Raises:
            ChatUnavailable: no answer, not now, or it broke off; ``retry_after`` may say when.
            ChatMisconfigured: key or model do not fit.
        """
        deadline = time.monotonic() + self._timeout
        asked: Any = [{"role": role, "content": text} for role, text in messages]
        with (
            self._translated(),
            self._client.chat.completions.create(
                model=self._model, messages=asked, stream=True, **self._more
            ) as answer,
        ):
            finished, written = False, 0
            for event in answer:
                for choice in event.choices[:1]:
                    finished = finished or choice.finish_reason is not None
                    if text := choice.delta.content:
                        written += len(text)
                        yield text
                if written > LONGEST_ANSWER:
                    return
                if not finished and time.monotonic() > deadline:
                    raise ChatUnavailable(f"{self._told} did not finish in time (UPWELL_CHAT_TIMEOUT).")
            if not finished:
                raise ChatUnavailable(f"{self._told} broke off in the middle of an answer.")

    def close(self) -> None:
        """Give connections back."""
        self._client.close()

    @property
    def _told(self) -> str:
        return f"The chat endpoint {without_password(self._url)} (UPWELL_CHAT_URL)"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the client's exceptions into ours.  Theirs repeat what was sent, so nothing of them is kept."""
        try:
            yield
        except openai.APIStatusError as exc:
            raise self._refusal(exc) from None
        except openai.APITimeoutError:
            raise ChatUnavailable(f"{self._told} did not answer in time (UPWELL_CHAT_TIMEOUT).") from None
        except openai.APIConnectionError:
            raise ChatUnavailable(f"{self._told} cannot be reached.") from None
        except (openai.OpenAIError, httpx2.HTTPError):  # inside a stream that began well
            raise ChatUnavailable(f"{self._told} broke off in the middle of an answer.") from None
        except (ValueError, TypeError, AttributeError):
            raise ChatUnavailable(f"{self._told} does not answer as OpenAI's API does. Is the path right?") from None

    def _refusal(self, exc: openai.APIStatusError) -> ChatUnavailable | ChatMisconfigured:
        status = exc.status_code
        if status in (401, 403):
            return ChatMisconfigured(f"{self._told} refuses the key (UPWELL_CHAT_API_KEY): {status}.")
        if 300 <= status < 400:
            return ChatMisconfigured(f"{self._told} redirects ({status}), which is not followed: {ELSEWHERE}")
        if status == 404:
            return ChatMisconfigured(
                f"{self._told} does not know the model {self._model} (UPWELL_CHAT_MODEL), or has another path."
            )
        if out_of_quota(status, exc.body):
            return ChatUnavailable(
                f"{self._told} says that the quota of UPWELL_CHAT_API_KEY is used up.", retry_after=QUOTA_WAIT_S
            )
        if status == 429:
            return ChatUnavailable(f"{self._told} limits the rate.", retry_after=retry_after(exc.response.headers))
        if status in (400, 413, 422):
            return ChatMisconfigured(
                f"{self._told} refuses the request ({status}). Does {self._model} (UPWELL_CHAT_MODEL) take"
                " UPWELL_CHAT_TEMPERATURE, and as much text as UPWELL_ANSWER_CONTEXT_TOKENS?"
            )
        return ChatUnavailable(f"{self._told} answers {status}.", retry_after=retry_after(exc.response.headers))
