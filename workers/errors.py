"""Every error the workers raise, sorted by what should happen to the document.

* WorkerError
  - Transient   try again later; the ledger says when
    . SourceUnsettled     the file changed while it was being read
    . SourceUnavailable   the file cannot be read right now (permission, I/O error, root away)
    . Outage              a server we need is away: consumes no attempt
      > IndexUnavailable, EmbedderUnavailable, ChatUnavailable, RerankerUnavailable, LedgerUnavailable
      > RateLimited         the embedding endpoint is well and asks to be asked more slowly
      > IndexGone          Qdrant answers, and our collection is not there: a housekeeper makes it again
    . ParserCrashed       the parser child died, ran out of time or of memory
  - Permanent   park the document; a person is told why
    . DocumentEncrypted, DocumentCorrupt, DocumentTooBig, DocumentHostile, TooManyAttempts
    . IndexMisconfigured, EmbedderMisconfigured (ModelSwapped), ChatMisconfigured, RerankerMisconfigured
  - NotADocument   nothing to index, and nothing wrong
    . UnsupportedType     we do not read this kind of file: skipped
    . NoText              parsed, but there is no text in it: empty
"""

from __future__ import annotations


class WorkerError(Exception):
    """Base of all.  ``str(error)`` is shown to people: what is the matter and what to do, never document text."""


class Transient(WorkerError):
    """Try again later."""

    retry_after: float | None = None

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SourceUnsettled(Transient):
    """The file changed while it was being read."""


class SourceUnavailable(Transient):
    """The file cannot be read right now."""


class Outage(Transient):
    """A server we need is away or refuses for now; no fault of the document, so it consumes no attempt."""


class IndexUnavailable(Outage):
    """Qdrant does not answer."""


class IndexGone(IndexUnavailable):
    """Qdrant answers and does not have our collection any more."""


class EmbedderUnavailable(Outage):
    """The embedding endpoint does not answer, or limits us."""


class RateLimited(EmbedderUnavailable):
    """The embedding endpoint is well; it asks to be asked more slowly."""


class LedgerUnavailable(Outage):
    """The ledger is busy or does not answer."""


class ChatUnavailable(Outage):
    """The chat endpoint does not answer."""


class RerankerUnavailable(Outage):
    """No answer from the reranker; hits stay in the order of the search."""


class ParserCrashed(Transient):
    """The parser child died, ran out of time or of memory.  Retried once or twice, then parked."""


class Permanent(WorkerError):
    """Never try this version again by itself."""


class DocumentEncrypted(Permanent):
    """It needs a password."""


class DocumentCorrupt(Permanent):
    """It is not what its name and first bytes say, or it is damaged."""


class DocumentTooBig(Permanent):
    """It is over a limit that protects the machine."""


class DocumentHostile(Permanent):
    """It is built to harm its reader (archive bomb, entity bomb)."""


class TooManyAttempts(Permanent):
    """It was tried as often as allowed."""


class IndexMisconfigured(Permanent):
    """Qdrant answered that what we ask for makes no sense there (dimension, collection, key)."""


class EmbedderMisconfigured(Permanent):
    """The embedding endpoint refuses us (key, model) or sends vectors of another shape."""


class ModelSwapped(EmbedderMisconfigured):
    """Another model answers under the same name: its vectors cannot be compared with the stored ones."""


class ChatMisconfigured(Permanent):
    """The chat endpoint refuses us (key, model)."""


class RerankerMisconfigured(Permanent):
    """The reranker refuses what we send, or answers in another shape."""


class NotADocument(WorkerError):
    """There is nothing to index, and nothing wrong."""


class UnsupportedType(NotADocument):
    """We do not read this kind of file."""


class NoText(NotADocument):
    """It was parsed, and there is no text in it."""
