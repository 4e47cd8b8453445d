"""The bundled embedding endpoint with a memory on disk: a text that any run ever sent is never computed again.

    python -m tests.bench.remembered --port 9999 [--threads 1] [--vectors FILE]

Benchmarks that embed the same texts over and over (other chunk sizes, other fusions, other systems) put it in the
place of the endpoint.  It answers as `upwell up` serves the model, `input_type` and model names for passages and
queries included.  Vectors are kept by a digest of kind and text; `tests.bench.retrieval` uses the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from pathlib import Path

import numpy as np

from ops.embedded.e5 import E5
from ops.embedded.embeddings import MAX_BODY, MAX_TOKENS, Endpoint, Refused
from ops.embedded.http import Application, Service, listen
from ops.embedded.lanes import Embedded, Kind, Lanes
from workers.adapters.embeddings import estimate_tokens

VECTORS = Path(tempfile.gettempdir()) / "upwell-bench-vectors.db"
PIECE = 32
"""Texts that are computed and written together: what a killed run loses at most."""


class Memory:
    """Vectors by text, in one SQLite file; threads may share it."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(file, timeout=60, check_same_thread=False)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("create table if not exists v(k text primary key, v blob)")

    @staticmethod
    def key(text: str, kind: Kind) -> str:
        """Return what a text is kept under."""
        return hashlib.sha256(f"{kind[0]}{text}".encode("utf-8", "replace")).hexdigest()

    def known(self, texts: Sequence[str], kind: Kind) -> dict[str, np.ndarray]:
        """Return the vectors of those texts that are known."""
        with self._lock:
            rows = {
                text: self._db.execute("select v from v where k = ?", (self.key(text, kind),)).fetchone()
                for text in dict.fromkeys(texts)
            }
        return {text: np.frombuffer(row[0], dtype="<f4") for text, row in rows.items() if row is not None}

    def keep(self, vectors: Mapping[str, np.ndarray], kind: Kind) -> None:
        """Remember vectors for good."""
        rows = [(self.key(text, kind), vector.astype("<f4").tobytes()) for text, vector in vectors.items()]
        with self._lock, self._db:
            self._db.executemany("insert or ignore into v values(?, ?)", rows)


class RememberingLanes(Lanes):
    """Lanes that look into the memory first, and hand only what it has not to the model."""

    def __init__(self, model: E5, memory: Memory, *, threads: int) -> None:
        super().__init__(model, threads=threads, max_tokens=MAX_TOKENS)
        self._memory = memory

    def submit(self, texts: Sequence[str], kind: Kind) -> Future[Embedded]:
        """Return the vectors of all texts; tokens are estimated, as nobody counts those of remembered texts."""
        answer: Future[Embedded] = Future()
        known = self._memory.known(texts, kind)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        left = -(-len(missing) // PIECE)
        lock = threading.Lock()

        def settle() -> None:
            vectors = np.stack([known[text] for text in texts]).astype(np.float32)
            try:
                answer.set_result(Embedded(vectors, sum(map(_tokens, texts))))
            except InvalidStateError:
                pass  # the client hung up; what was computed is kept all the same

        def keep(piece: Sequence[str], done: Future[Embedded]) -> None:
            nonlocal left
            if done.cancelled() or (error := done.exception()) is not None:
                try:
                    answer.set_exception(error if not done.cancelled() and error else RuntimeError("stopped"))
                except InvalidStateError:
                    pass
                return
            fresh = dict(zip(piece, done.result().vectors, strict=True))
            self._memory.keep(fresh, kind)
            with lock:
                known.update(fresh)
                left -= 1
                last = left == 0
            if last:
                settle()

        if not missing:
            settle()
        for start in range(0, len(missing), PIECE):
            piece = missing[start : start + PIECE]
            super().submit(piece, kind).add_done_callback(lambda done, piece=piece: keep(piece, done))
        return answer


def _tokens(text: str) -> int:
    return max(estimate_tokens(text), len(text.split()))


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.remembered", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1, help="processors for passages; queries have one more")
    parser.add_argument("--vectors", type=Path, default=VECTORS, help="where vectors are remembered")
    args = parser.parse_args(argv)
    sock = listen(args.host, args.port, "embeddings")
    lanes = RememberingLanes(E5(), Memory(args.vectors), threads=args.threads)
    too_large = Refused(413, "The body is too large.").reply
    Service(Application(Endpoint(lanes).answer, lambda _: too_large(), MAX_BODY), sock).run()
    os._exit(0)  # threads may be deep inside the model; what they had computed is on disk


if __name__ == "__main__":
    main()
