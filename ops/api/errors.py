"""Errors as the api tells them: one shape, with what to do next; and beside it the shape that a face's clients know."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

DIFY = "/retrieval"
OPENAI = ("/v1/chat/", "/v1/models", "/v1/embeddings", "/v1/vector_stores")
DIFY_CODES = {"malformed_key": 1001, "unauthorized": 1002, "no_knowledge": 2001}
"""https://docs.dify.ai/en/use-dify/knowledge/external-knowledge-api; what has no number of Dify's has that of HTTP."""


class ApiError(Exception):
    """Answered as {"error": {"code", "message", "next"}} with an HTTP status."""

    def __init__(self, status: int, code: str, message: str, following: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.following = status, code, message, following


def refusal(status: int, code: str, message: str, following: str, *, path: str = "") -> JSONResponse:
    """Return the answer that tells an error to whoever asked for ``path``."""
    headers = {503: {"Retry-After": "2"}, 401: {"WWW-Authenticate": "Bearer"}}.get(status, {})
    error: dict[str, Any] = {"code": code, "message": message, "next": following}
    body: dict[str, Any] = {"error": error}
    whole = " ".join(part for part in (message, following) if part)
    if path.startswith(OPENAI):  # OpenAI's clients show people the message alone
        kind = "invalid_request_error" if status < 500 else "server_error"
        error |= {"message": whole, "type": kind, "param": None}
    elif path == DIFY:
        body |= {"error_code": DIFY_CODES.get(code, status), "error_msg": whole}
    return JSONResponse(body, status_code=status, headers=headers)
