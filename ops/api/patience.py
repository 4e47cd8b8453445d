"""uvicorn's protocol with an end to its patience: a request's head has a size and a time.

uvicorn waits for ever for a head that does not come, and its C parser collects one of any length; enough of such
connections, or one, and there are no descriptors or no memory left.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_S = 15.0
"""Seconds from the first byte of a head (of the first request: from the connection) to its last."""
MOST_HEAD = 64 << 10
"""Bytes of a head; whatever was read together with its end is not counted."""


class Patient(HttpToolsProtocol):
    """One connection.  After an answer, uvicorn's own time to keep it alive begins."""

    head_s = HEAD_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._got_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._got_head()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        waiting_for = self._overdue
        super().data_received(data)
        if self._overdue is None:
            return
        if self._overdue is not waiting_for:
            self._head_bytes = 1  # begun by the way, behind a body; how much of this was its head is not known
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD:
            self._refuse(431)

    def _expect_head(self) -> None:
        if self._overdue is None:
            self._head_bytes = 0
            self._overdue = self.loop.call_later(self.head_s, self._refuse, 408)

    def _got_head(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _refuse(self, status: int) -> None:
        self._got_head()
        if self.transport.is_closing():
            return
        if self._head_bytes:  # a browser opens connections that it may need: who said nothing has asked nothing
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
