"""Asks Qdrant in plain JSON over its client's own connections, past the client's models.

To build and check those models costs more than all that they say, so what each document and each search costs goes
this way; everything else goes through the client (ADR 0034).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from pydantic_core import to_json

from workers.adapters.qdrant_models import QdrantClient, ResponseHandlingException

_JSON = {"Content-Type": "application/json"}


def ask(client: QdrantClient, collection: str, path: str, body: Mapping[str, Any], *, wait: bool = False) -> Any:
    """POST ``body`` to a path below a collection and return what Qdrant calls the result.

    Raises:
        UnexpectedResponse: another status than success.
        ResponseHandlingException: no answer, or none that makes sense.
    """
    try:
        answer = client.http.client.request(
            type_=dict,
            method="POST",
            url="/collections/{collection_name}" + path,
            path_params={"collection_name": collection},
            params={"wait": "true"} if wait else {},
            content=to_json(body),
            headers=_JSON,
        )
        return answer["result"]
    except (ValueError, KeyError) as exc:
        raise ResponseHandlingException(exc) from exc


def unanswered(exc: Exception, where: str, patience: str) -> str:
    """Say why there was no answer, and what to do.  ``where`` is the server, ``patience`` how long was waited."""
    match exc.source if isinstance(exc, ResponseHandlingException) else exc:
        case httpx.TimeoutException():
            return (
                f"{where} did not answer within {patience}. It is overloaded or hangs: see its log and how busy its"
                " machine is, and restart it if that does not pass."
            )
        case httpx.ConnectError():
            return f"{where} cannot be reached. Is it running, and is the address right?"
        case httpx.HTTPError() | OSError():
            return f"{where} broke the connection off before it had answered. If that does not pass, its log says why."
        case _:
            return f"{where} sent an answer that is not Qdrant's. Does the address lead to something else, or a proxy?"
