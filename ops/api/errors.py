"""Errors as the api tells them: one shape, with what to do next."""

from __future__ import annotations

from starlette.responses import JSONResponse


class ApiError(Exception):
    """Answered as {"error": {"code", "message", "next"}} with an HTTP status."""

    def __init__(self, status: int, code: str, message: str, following: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.following = status, code, message, following


def refusal(status: int, code: str, message: str, following: str) -> JSONResponse:
    """Return the answer that tells an error."""
    headers = {"Retry-After": "2"} if status == 503 else {}
    body = {"error": {"code": code, "message": message, "next": following}}
    return JSONResponse(body, status_code=status, headers=headers)
