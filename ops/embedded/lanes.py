"""Two lanes over one embedding model: passages use the processors, queries drive past them.

The model's engine keeps no state between calls, so threads may share it.  One text at a time per thread is as fast as
a batch, and two threads with a text each are faster than two threads inside one text; so a piece of work is one text.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Kind = Literal["query", "passage"]
Matrix = npt.NDArray[np.float32]

PASSAGE_NICENESS = 5  # a query that comes while passages are embedded gets most of a processor at once


class TooLong(Exception):
    """A text has more tokens than the endpoint takes."""

    def __init__(self, index: int, tokens: int) -> None:
        super().__init__(f"input {index} has {tokens} tokens")
        self.index = index
        self.tokens = tokens


class Closed(Exception):
    """The lanes are closed: the process is about to end."""


class Model(Protocol):
    """What we need of an embedding model; called by several threads at once."""

    dim: int

    def encode(self, texts: str, is_query: bool) -> Matrix:
        """Return the vector of one text."""

    def token_count(self, text: str, is_query: bool) -> int:
        """Return how many tokens the model reads for one text."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of one request, in the order of its texts, and the tokens that the model read."""

    vectors: Matrix
    tokens: int


@dataclass(slots=True, eq=False)
class _Job:
    """One request: its texts are worked off one by one, perhaps by several threads."""

    texts: Sequence[str]
    kind: Kind
    vectors: Matrix
    done: Future[Embedded] = field(default_factory=Future)
    next: int = 0
    finished: int = 0
    tokens: int = 0


class _Lane:
    """Jobs of one kind, in the order in which their next text is taken."""

    def __init__(self, *, fair: bool) -> None:
        self._fair = fair
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Return the number of texts that nobody has begun."""
        return self._waiting

    def put(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                raise Closed
            self._jobs.append(job)
            self._waiting += len(job.texts)
            self._changed.notify_all()

    def take(self) -> tuple[_Job, int] | None:
        """Wait for a text, and return its job and index; None when the lane is closed."""
        with self._changed:
            while True:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return None
                job = self._jobs.popleft()
                if job.done.done():  # refused or given up: nobody waits for the rest
                    self._waiting -= len(job.texts) - job.next
                    continue
                index, job.next = job.next, job.next + 1
                self._waiting -= 1
                if job.next < len(job.texts):
                    # A long list of queries takes turns with others; passages are sooner done one request at a time.
                    self._jobs.append(job) if self._fair else self._jobs.appendleft(job)
                return job, index

    def finish(self, job: _Job, index: int, vector: Matrix, tokens: int) -> Embedded | None:
        """Note one vector; return the answer when it was the last."""
        with self._changed:
            job.vectors[index] = vector
            job.tokens += tokens
            job.finished += 1
            return Embedded(job.vectors, job.tokens) if job.finished == len(job.texts) else None

    def close(self) -> list[_Job]:
        """Take no more; return what was not begun."""
        with self._changed:
            self._closed = True
            left = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
            return left


class Lanes:
    """Embeds texts on `threads` threads for passages and one for queries."""

    def __init__(self, model: Model, *, threads: int, max_tokens: int) -> None:
        self._model = model
        self._max_tokens = max_tokens
        self._lanes: dict[Kind, _Lane] = {"query": _Lane(fair=True), "passage": _Lane(fair=False)}
        for number in range(threads):
            self._start(f"passages-{number}", self._lanes["passage"], _be_nice)
        self._start("queries", self._lanes["query"], lambda: None)

    def submit(self, texts: Sequence[str], kind: Kind) -> Future[Embedded]:
        """Begin to embed; cancelling the future drops what has not been begun."""
        job = _Job(texts, kind, np.empty((len(texts), self._model.dim), dtype=np.float32))
        self._lanes[kind].put(job)
        return job.done

    def waiting(self, kind: Kind) -> int:
        """Return the number of texts of one kind that wait for their turn."""
        return self._lanes[kind].waiting

    def close(self) -> None:
        """Take no more; what is being embedded right now ends with the process, as its threads are daemons."""
        for lane in self._lanes.values():
            for job in lane.close():
                job.done.cancel()

    def _start(self, name: str, lane: _Lane, prepare: Callable[[], None]) -> None:
        def run() -> None:
            prepare()
            while (taken := lane.take()) is not None:
                self._embed(lane, *taken)

        threading.Thread(target=run, name=name, daemon=True).start()

    def _embed(self, lane: _Lane, job: _Job, index: int) -> None:
        text = job.texts[index]
        try:
            tokens = self._model.token_count(text, job.kind == "query")
            if tokens > self._max_tokens:
                raise TooLong(index, tokens)
            answer = lane.finish(job, index, self._model.encode(text, job.kind == "query"), tokens)
        except Exception as exc:  # noqa: BLE001 - the edge of a thread: whoever waits for the request is told
            _settle(job.done, exc)
        else:
            if answer is not None:
                _settle(job.done, answer)


def _settle(done: Future[Embedded], outcome: Embedded | Exception) -> None:
    try:
        if isinstance(outcome, Exception):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)
    except InvalidStateError:
        pass  # the client hung up, or another text of the same request failed first


def _be_nice() -> None:
    if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PASSAGE_NICENESS)
