"""Errors as the api tells them: one shape, with what to do next."""

from __future__ import annotations


class ApiError(Exception):
    """Answered as {"error": {"code", "message", "next"}} with an HTTP status."""

    def __init__(self, status: int, code: str, message: str, following: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.following = status, code, message, following
