"""A body that is too long or too slow is cut off while it comes in, whatever its Content-Length says.

The framework reads a whole body before anybody of ours sees it: an upload onto the disk, JSON into memory.
"""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.api.errors import refusal

UPLOAD = "/v1/documents"
MOST_JSON = 1 << 20
AROUND_FILES = 1 << 20
"""Bytes of an upload that are not the files: their names, the sender's own fields, boundaries."""
PAUSE_S = 30.0
"""Seconds in which a body that is not complete must go on."""
LEAST_PER_S = 1024
"""Bytes a second that a body must have on average, once it has taken as long as a pause may."""


class BoundedBody:
    """Gives every request its limit: one file for an upload, a megabyte for anything else."""

    def __init__(self, app: ASGIApp, most_upload: int, pause_s: float = PAUSE_S) -> None:
        self._app = app
        self._pause_s = pause_s
        self._most_upload = most_upload + AROUND_FILES
        self._upload_too_long = refusal(
            413,
            "too_large",
            f"An upload may have {most_upload:,} bytes (UPWELL_UPLOAD_MAX_BYTES).",
            "Raise UPWELL_UPLOAD_MAX_BYTES, split the file, or send several files one by one.",
        )
        self._too_long = refusal(413, "too_large", f"A request may have {MOST_JSON:,} bytes.", "Send less.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):  # nobody reads a body of those
            await self._app(scope, receive, send)
            return
        upload = scope["path"] == UPLOAD
        most, too_long = (self._most_upload, self._upload_too_long) if upload else (MOST_JSON, self._too_long)
        length = Headers(scope=scope).get("content-length", "")
        if length.isdigit() and int(length) > most:
            await too_long(scope, receive, send)
            return
        reading = _Reading(scope, receive, send, most, too_long, self._pause_s)
        await self._app(scope, reading.receive, reading.send)


class _Reading:
    """One request whose body is counted.  Once it is refused, the application hears that its client has gone."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, most: int, too_long: JSONResponse, pause_s: float
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._most, self._too_long, self._pause_s = most, too_long, pause_s
        self._began = time.monotonic()
        self._size = 0
        self._whole = self._answered = self._refused = False

    async def receive(self) -> Message:
        """Return what comes next, or that the client has gone."""
        if self._whole:
            return await self._receive()
        if self._refused:
            return {"type": "http.disconnect"}
        try:
            async with asyncio.timeout(self._pause_s):
                message = await self._receive()
        except TimeoutError:
            return await self._refuse(_too_slow())
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._size > self._most:
            return await self._refuse(self._too_long)
        late_s = time.monotonic() - self._began - self._pause_s
        if not self._whole and late_s > 0 and self._size < late_s * LEAST_PER_S:
            return await self._refuse(_too_slow())
        return message

    async def send(self, message: Message) -> None:
        """Send what the application answers, unless somebody was faster."""
        if not self._refused:
            self._answered = True
            await self._send(message)

    async def _refuse(self, answer: JSONResponse) -> Message:
        self._refused = True
        if not self._answered:
            await answer(self._scope, self._receive, self._send)
        return {"type": "http.disconnect"}


def _too_slow() -> JSONResponse:
    answer = refusal(408, "too_slow", "The rest of the request did not come in time.", "Send it again.")
    answer.headers["Connection"] = "close"
    return answer
