"""Two lanes over one embedding model: passages use the processors, queries drive past them.

The model keeps no state between calls, so threads may share it.  Two threads with texts of their own are faster than
two threads inside one text, and a few hundred tokens at a time are as fast as thousands; so a piece of work is one long
text or a handful of short ones.
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

TOGETHER_CHARS = 2000
"""Characters that go through the model together: some five hundred tokens."""
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

    def tokens(self, text: str, *, is_query: bool) -> list[int]:
        """Return the tokens of one text; two more mark its beginning and end."""

    def embed(self, texts: Sequence[Sequence[int]]) -> Matrix:
        """Return the vectors of texts that are given as tokens: (n, dim)."""


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

    def take(self) -> tuple[_Job, range] | None:
        """Wait for some texts of one job, and return it with their indices; None when the lane is closed."""
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
                indices = _together(job)
                job.next = indices.stop
                self._waiting -= len(indices)
                if job.next < len(job.texts):
                    # A long list of queries takes turns with others; passages are sooner done one request at a time.
                    self._jobs.append(job) if self._fair else self._jobs.appendleft(job)
                return job, indices

    def finish(self, job: _Job, indices: range, vectors: Matrix, tokens: int) -> Embedded | None:
        """Note some vectors; return the answer when they were the last."""
        with self._changed:
            job.vectors[indices.start : indices.stop] = vectors
            job.tokens += tokens
            job.finished += len(indices)
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

    def _embed(self, lane: _Lane, job: _Job, indices: range) -> None:
        try:
            texts = [self._model.tokens(job.texts[index], is_query=job.kind == "query") for index in indices]
            lengths = [len(tokens) + 2 for tokens in texts]
            for index, length in zip(indices, lengths, strict=True):
                if length > self._max_tokens:
                    raise TooLong(index, length)
            answer = lane.finish(job, indices, self._model.embed(texts), sum(lengths))
        except Exception as exc:  # noqa: BLE001 - the edge of a thread: whoever waits for the request is told
            _settle(job.done, exc)
        else:
            if answer is not None:
                _settle(job.done, answer)


def _together(job: _Job) -> range:
    """Return the next texts of a job: one at least, and no more than are worth doing together."""
    end, size = job.next + 1, len(job.texts[job.next])
    while end < len(job.texts) and size + len(job.texts[end]) <= TOGETHER_CHARS:
        size += len(job.texts[end])
        end += 1
    return range(job.next, end)


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
