"""Makes one document true.  Read this file first: each step is a line, and their order is the architecture.

Created, modified, deleted, retried, restored, taken over from a dead worker: all the same road.

  claim      the lease and a token that only grows
  read       what is at the path now, whatever the hint said
  parse      in a child process; clean; chunk
  diff       what the index holds against what it should hold
  put        new chunks, with BM25 and, where the text was embedded before, with the dense vector
  restate    position, version and fence of the chunks that stay
  read back  every chunk is there under our token, so that no older attempt can take it away any more, or we go round
  drop       stale chunks; last, so that whatever happens leaves chunks too many and never too few
  look       the source has not moved on, or we go round
  commit     in the ledger; the document can be found

Documents of a backfill take these steps side by side (`company`); nothing here can tell the difference.

Dense vectors that are still missing follow in `embed`.  What each step defends against is in ADR 0001, and
tests/property/protocol_model.py searches what happens without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import structlog

from workers.contract.identity import TENANT
from workers.contract.states import State
from workers.errors import (
    DocumentTooBig,
    NotADocument,
    NoText,
    Permanent,
    SourceUnavailable,
    SourceUnsettled,
    TooManyAttempts,
)
from workers.indexing import steps
from workers.indexing.chunk import ChunkOptions, named
from workers.indexing.company import Company, Ports, Result, alone
from workers.indexing.deadline import LeaseLost
from workers.indexing.desk import Wanted
from workers.indexing.ledger import MAX_ATTEMPTS, Claim, Indexed, Ledger
from workers.indexing.metadata import NO_RULES, Described, FolderRules, describe
from workers.indexing.ports import Index, Parser, Point, StoredPoint
from workers.indexing.recipe import Space
from workers.indexing.sources import Look, OpenFile, look_again, open_document
from workers.indexing.steps import DropDocument, Put, Walk
from workers.indexing.values import Chunk, DocumentMetadata

log = structlog.get_logger()

T = TypeVar("T")

WRITE_BATCH = 256
"""Most chunks that one look at the lease lets through."""

ROUNDS = 5
"""How often one attempt goes round when the source or the index moves under it, before it lets others have a turn."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one reconcile did.  ``added == removed == 0`` means that the chunks were right already."""

    document_id: str
    state: State
    added: int = 0
    removed: int = 0
    kept: int = 0
    vectors_pending: int = 0
    embeds_here: bool = False
    moved_on: bool = False
    parse_s: float = 0.0
    store_s: float = 0.0
    asked_index: bool = True  # False: the bytes were the indexed ones, and nobody asked Qdrant anything


@dataclass(frozen=True, slots=True)
class _Written:
    """How many points were added, removed and kept, and which still lack a dense vector."""

    added: int
    removed: int
    kept: int
    pending: list[Point]


class Handover(Protocol):
    """Who goes on with the dense vectors in this process, without reading the texts back from the index."""

    def has_room(self, *, bulk: bool) -> bool:
        """Tell whether a document's texts would be taken."""

    def offer(self, document_id: str, token: int, *, bulk: bool, wanted: Sequence[Wanted]) -> None:
        """Take a document that is committed as being embedded here."""


@dataclass(frozen=True)
class Pipeline:
    """The ports and settings that every reconcile of a process shares."""

    ledger: Ledger
    index: Index
    parser: Parser
    space: Space
    collection: str
    recipe: str
    options: ChunkOptions
    max_bytes: int
    rules: FolderRules = NO_RULES
    handover: Handover | None = None
    parsing: Executor | None = None  # on what files are parsed that are indexed side by side

    def reconcile(self, claim: Claim) -> Outcome:
        """Make the index agree with whatever is at the claimed path now, and commit.

        Raises:
            Transient: try again later.  Everything else that a document can be is an outcome.
        """
        return alone(self._walk(claim), self._ports)

    def reconcile_all(self, claims: Sequence[Claim]) -> list[Result[Outcome]]:
        """Do the same for several documents side by side; what each would return, or raise, is in its result."""
        return Company(self._ports, self.parsing).walk([self._walk(claim) for claim in claims])

    @property
    def _ports(self) -> Ports:
        return Ports(self.ledger, self.index, self.parser)

    def _walk(self, claim: Claim) -> Walk[Outcome]:
        for _ in range(ROUNDS):
            outcome = yield from self._attempt(claim)
            if outcome is not None:
                return outcome
            # What this round has written is not what the next may want: no short cut.
            claim = replace(claim, doubt=True)
        raise SourceUnsettled("It keeps changing while it is being read. It is tried again when it has been quiet.")

    def park(self, claim: Claim, reason: str, error_class: str) -> Outcome:
        """Give up on this version of the document: nothing of it stays in the index, and people are told why."""
        return alone(self._parked(claim, reason, error_class), self._ports)

    def _parked(self, claim: Claim, reason: str, error_class: str) -> Walk[Outcome]:
        return self._without_chunks(claim, State.PARKED, reason=reason, error_class=error_class)

    def _attempt(self, claim: Claim) -> Walk[Outcome | None]:
        """One round; None when the source or the index moved on meanwhile."""
        if claim.attempts > MAX_ATTEMPTS:
            reason = f"It ended its worker {MAX_ATTEMPTS} times. Change it, or run: upwell documents retry"
            return (yield from self._parked(claim, reason, TooManyAttempts.__name__))
        if claim.wanted == "absent" and claim.absent_as == "skipped":
            return (yield from self._without_chunks(claim, State.SKIPPED, reason=claim.absent_reason))
        with open_document(claim.root, claim.raw_path, claim.marker) as file:
            if file is None:
                return (yield from self._absent(claim))
            return (yield from self._present(claim, file))

    def _absent(self, claim: Claim) -> Walk[Outcome]:
        if claim.wanted == "absent":
            return (yield from self._without_chunks(claim, State.DELETED))
        # The watcher decides about deletions: it looks twice, and knows whether the whole folder is gone.
        raise SourceUnavailable(
            "It is not there any more. It stays searchable until its watcher confirms the deletion."
        )

    def _present(self, claim: Claim, file: OpenFile) -> Walk[Outcome | None]:
        started = time.monotonic()
        state: State
        fault: Exception
        try:
            if file.look.size > self.max_bytes:
                raise DocumentTooBig(
                    f"It has {file.look.size:,} bytes; the limit is {self.max_bytes:,} (UPWELL_PARSE_MAX_BYTES)."
                )
            version = file.digest()
            if self._already_indexed(claim, version):
                return self._unchanged(claim, version, file.look)
            cut = yield from steps.parse(file.fd, claim.path, self.options, urgent=not claim.bulk)
            wanted = named(claim.document_id, cut.pieces)
            if not wanted:
                raise NoText("There is no text in it.")
        except NoText as nothing:
            state, fault = State.EMPTY, nothing
        except NotADocument as other:
            state, fault = State.SKIPPED, other
        except Permanent as error:
            state, fault = State.PARKED, error
        else:
            parse_ms = (time.monotonic() - started) * 1000
            return (yield from self._store(claim, file, version, cut.metadata, wanted, parse_ms))
        name = None if state == State.EMPTY else type(fault).__name__
        size = file.look.size
        return (yield from self._without_chunks(claim, state, reason=str(fault), size=size, error_class=name))

    def _store(
        self, claim: Claim, file: OpenFile, version: str, facts: DocumentMetadata, wanted: list[Chunk], parse_ms: float
    ) -> Walk[Outcome | None]:
        started = time.monotonic()
        look = file.look
        described = describe(
            facts,
            source=claim.source,
            path=claim.path,
            sidecar=file.sidecar,
            extra=claim.extra,
            rules=self.rules,
        )
        points = self._points(claim, look, version, facts, described, wanted)
        written = yield from self._written(claim, points, version)
        if written is None or look_again(claim.root, claim.raw_path) != look:
            return None
        pending = written.pending
        state = State.EMBEDDING if pending else State.READY
        here = bool(pending) and self.handover is not None and self.handover.has_room(bulk=claim.bulk)
        moved_on = yield from steps.commit(
            claim,
            Indexed(
                state=state,
                version=version,
                recipe=self.recipe,
                collection=self.collection,
                chunks=len(points),
                vectors_pending=len(pending),
                embeds_here=here,
                size=look.size,
                title=described.metadata["title"],
                reason=described.fault,
                filetype=facts.filetype,
                parse_ms=parse_ms,
            ),
        )
        if here and self.handover is not None:
            wanted_vectors = [Wanted(point.id, self.space.cache_key(point.text), point.text) for point in pending]
            self.handover.offer(claim.document_id, claim.token, bulk=claim.bulk, wanted=wanted_vectors)
        return Outcome(
            document_id=claim.document_id,
            state=state,
            added=written.added,
            removed=written.removed,
            kept=written.kept,
            vectors_pending=len(pending),
            embeds_here=here,
            moved_on=moved_on,
            parse_s=parse_ms / 1000,
            store_s=time.monotonic() - started,
        )

    def _written(self, claim: Claim, points: list[Point], version: str) -> Walk[_Written | None]:
        """Make the index hold these points of the document and no others; None when it moved on under us."""
        stored = yield from self._stored(claim)
        added = yield from self._with_known_vectors([point for point in points if point.id not in stored])
        kept = [point for point in points if point.id in stored]

        for start in range(0, len(added), WRITE_BATCH):
            yield Put(added[start : start + WRITE_BATCH], claim.token, claim.deadline)
        if kept:  # with none, what we have just put is ours, and no older attempt can take it away
            self._restate(claim, kept, stored, version)
            stored = self.index.stored(claim.document_id)
            if not _holds(stored, points, claim.token):
                return None
        stale = stored.keys() - {point.id for point in points}
        self._write(claim, sorted(stale), self.index.drop)

        pending = [point for point in added if point.vector is None]
        pending += [point for point in kept if not (stored[point.id].embedded or stored[point.id].refused)]
        return _Written(len(added), len(stale), len(kept), pending)

    def _restate(self, claim: Claim, kept: list[Point], stored: dict[str, StoredPoint], version: str) -> None:
        """Chunks that stay keep their vectors.  One write renews the fence of all; only those that differ get more."""
        moved = [
            point for point in kept if _told_of(point) != (stored[point.id].chunk_index, stored[point.id].metadata)
        ]
        self._write(claim, moved, lambda batch, token: self.index.restate(batch, token, stored))
        self._write(claim, [point.id for point in kept], lambda batch, token: self.index.restamp(batch, version, token))

    def _write(self, claim: Claim, items: Sequence[T], write: Callable[[Sequence[T], int], None]) -> None:
        """Send ``items``, and before each part of them look whether the lease still lasts."""
        for start in range(0, len(items), WRITE_BATCH):
            claim.deadline.check()
            write(items[start : start + WRITE_BATCH], claim.token)

    def _already_indexed(self, claim: Claim, version: str) -> bool:
        same = (claim.version, claim.recipe, claim.collection) == (version, self.recipe, self.collection)
        return same and not claim.doubt

    def _unchanged(self, claim: Claim, version: str, look: Look) -> Outcome | None:
        """The bytes are the indexed ones (a touch, a revert, a doubled hint): nothing is parsed, nothing is written."""
        if look_again(claim.root, claim.raw_path) != look:
            return None
        row = self.ledger.confirm(claim)
        return Outcome(
            claim.document_id,
            row.state,
            moved_on=row.moved_on,
            vectors_pending=row.vectors_pending,
            asked_index=False,
        )

    def _without_chunks(
        self,
        claim: Claim,
        state: State,
        *,
        reason: str | None = None,
        size: int = 0,
        error_class: str | None = None,
    ) -> Walk[Outcome]:
        """Nothing of this document belongs in the index: take away what is there, and say why."""
        removed = len((yield from self._stored(claim)))
        if removed:
            yield DropDocument(claim.document_id, claim.token, claim.deadline)
        moved_on = yield from steps.commit(
            claim,
            Indexed(
                state=state,
                version=None,
                recipe=self.recipe,
                collection=self.collection,
                size=size,
                reason=reason,
                error_class=error_class,
            ),
        )
        return Outcome(claim.document_id, state, removed=removed, moved_on=moved_on)

    def _stored(self, claim: Claim) -> Walk[dict[str, StoredPoint]]:
        """Return what the index holds; a token above ours means that the ledger is older than the index.

        It was restored from a copy, and gives tokens out a second time: every write of ours would lose against points
        of attempts that it does not remember.  It is moved past them, and the document is claimed anew.
        """
        stored = yield from steps.stored(claim.document_id)
        highest = max((point.token for point in stored.values()), default=0)
        if highest > claim.token:
            if self.ledger.outgrow(claim, highest):
                log.warning("ledger.behind", document=claim.document_id, token=claim.token, seen=highest)
            raise LeaseLost("The index has seen later attempts than this one.")
        return stored

    def _with_known_vectors(self, points: list[Point]) -> Walk[list[Point]]:
        """A text that was embedded before, in any document, is not sent again."""
        if not points:
            return points
        keys = {point.id: self.space.cache_key(point.text) for point in points}
        known = yield from steps.known(list(keys.values()))
        return [replace(point, vector=known[keys[point.id]]) if keys[point.id] in known else point for point in points]

    def _points(
        self, claim: Claim, look: Look, version: str, facts: DocumentMetadata, described: Described, wanted: list[Chunk]
    ) -> list[Point]:
        known = described.metadata
        modified = known["modified"] or datetime.fromtimestamp(look.mtime_ns // 10**9, UTC).isoformat()
        shared: dict[str, Any] = {
            **known,
            "source": claim.source,
            "path": claim.path,
            "filetype": facts.filetype,
            "modified": modified,
        }
        return [
            Point(
                id=piece.id_of(digest),
                text=piece.embedded_text,
                payload={
                    "content": piece.content,
                    "metadata": {**shared, "heading": piece.heading, "page": piece.page, "chunk": piece.index},
                    "doc_id": claim.document_id,
                    "version": version,
                    "chunk_index": piece.index,
                    "digest": digest,
                    "tenant": TENANT,
                },
                name=claim.path if piece.first else None,
                words=piece.words,
            )
            for piece, digest in ((piece, piece.digest) for piece in wanted)
        ]


def _told_of(point: Point) -> tuple[int, dict[str, Any]]:
    return point.payload["chunk_index"], point.payload["metadata"]


def _holds(found: dict[str, StoredPoint], wanted: list[Point], token: int) -> bool:
    """Tell whether the index holds every wanted chunk, stamped by this attempt.

    Raises:
        LeaseLost: a newer attempt has stamped one of them.
    """
    tokens = [found[point.id].token if point.id in found else 0 for point in wanted]
    if max(tokens) > token:
        raise LeaseLost("Another worker has taken over.")
    return all(found == token for found in tokens)
