"""Listens to a model that writes: with patience that ends, and an ear for callers who go away.

A model may send nothing for a minute, and a read from a socket cannot be interrupted; so the reading is done on a
thread of its own, and whoever waits looks up several times a second.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

from workers.errors import ChatMisconfigured, ChatUnavailable
from workers.indexing.breaker import Breaker
from workers.query.ports import Chat, Role

LOOK_UP_S = 0.2
MISCONFIGURED_S = 30.0


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Writer:
    """A chat model behind a breaker: one that is down costs one question its patience, not every question."""

    chat: Chat
    patience_s: float
    breaker: Breaker = field(default_factory=Breaker)

    @property
    def model(self) -> str:
        """Its name."""
        return self.chat.model

    def write(
        self, messages: Sequence[tuple[Role, str]], *, cancelled: Callable[[], bool], patience_s: float | None = None
    ) -> Generator[str]:
        """Yield the text as it is written; closing the iterator stops the model.

        Raises:
            ChatUnavailable, ChatMisconfigured: no text, or no more of it, can be had now.
            Cancelled: nobody waits any more.
        """
        if (rest := self.breaker.seconds_open()) > 0:
            raise ChatUnavailable(
                f"The chat endpoint (UPWELL_CHAT_URL) failed a moment ago and is left alone for {math.ceil(rest)} s.",
                retry_after=rest,
            )
        try:
            yield from _heard(lambda: self.chat.stream(messages), patience_s or self.patience_s, cancelled)
        except ChatUnavailable as exc:
            self.breaker.failed(exc.retry_after)
            raise
        except ChatMisconfigured:
            self.breaker.failed(MISCONFIGURED_S)
            raise
        self.breaker.succeeded()


def _heard(start: Callable[[], Iterator[str]], patience_s: float, cancelled: Callable[[], bool]) -> Generator[str]:
    pieces: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()
    stop = threading.Event()

    def read() -> None:
        source = start()
        try:
            for piece in source:
                pieces.put(piece)
                if stop.is_set():
                    return
            pieces.put(None)
        except Exception as exc:  # noqa: BLE001 - the edge of a thread: it is raised again where somebody waits
            pieces.put(exc)
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    threading.Thread(target=read, name="chat", daemon=True).start()
    deadline = time.monotonic() + patience_s
    try:
        while (piece := _next(pieces, deadline, patience_s, cancelled)) is not None:
            yield piece
    finally:
        stop.set()


def _next(
    pieces: queue.SimpleQueue[str | Exception | None], deadline: float, patience_s: float, cancelled: Callable[[], bool]
) -> str | None:
    """Return the next piece; None: that was all."""
    while True:
        if cancelled():
            raise Cancelled
        if time.monotonic() > deadline:
            raise ChatUnavailable(f"The chat endpoint did not finish within {patience_s:g} s (UPWELL_CHAT_TIMEOUT).")
        try:
            piece = pieces.get(timeout=LOOK_UP_S)
        except queue.Empty:
            continue
        if isinstance(piece, Exception):
            raise piece
        return piece
