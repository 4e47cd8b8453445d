"""The ledger's tables.  The ledger is durable and is the only place where progress is remembered (ADR 0002).

Times are seconds since the epoch as floats, taken from the database's clock, so that a process with a wrong clock can
neither keep nor steal a lease.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
    literal_column,
    select,
)
from sqlalchemy.engine import Connection, make_url

SCHEMA_VERSION = 3

_CREATING = 7_593_214_410  # any number that no other program on this database uses

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))

sources = Table(
    "sources",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("kind", String(16), nullable=False),  # folder | uploads
    Column("root", Text, nullable=False),  # absolute path, as the index workers see it
    Column("marker", String(64)),  # content of the root's marker file; None: not yet placed
    Column("alarm", Text),  # why the source is not being followed right now, for people; None: all well
    Column("scanned_at", Float),  # end of the last full scan
    Column("added_at", Float, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("id", String(36), primary_key=True),  # identity.document_id(source, path)
    Column("source", String(255), nullable=False),
    Column("path", Text, nullable=False),  # relative to the root, forward slashes, NFC
    Column("raw_path", LargeBinary, nullable=False),  # the name as the file system has it, for open(); relative
    # What is wanted: bumped whenever somebody noticed that the document may have changed.
    Column("desired_generation", BigInteger, nullable=False, default=1),
    Column("wanted", String(8), nullable=False, default="present"),  # present | absent
    Column("absent_as", String(8)),  # with wanted=absent: deleted | skipped
    Column("absent_reason", Text),  # with absent_as=skipped: which rule
    Column("seen_size", BigInteger),  # stat of the file when last noticed; what a rescan compares
    Column("seen_mtime_ns", BigInteger),
    Column("seen_inode", BigInteger),
    Column("bulk", Boolean, nullable=False, default=False),
    Column("observed_at", Float, nullable=False),  # when the desired generation was noticed
    # What is indexed: written only by commit.
    Column("indexed_generation", BigInteger, nullable=False, default=0),
    Column("version", String(64)),  # sha256 of the indexed bytes
    Column("recipe", String(64)),  # fingerprint of parser + chunker that made the indexed chunks
    Column("collection", String(255)),  # physical collection the chunks are in
    Column("chunks", Integer, nullable=False, default=0),
    Column("vectors_pending", Integer, nullable=False, default=0),
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("tokens", BigInteger, nullable=False, default=0),  # tokens sent to the embedding endpoint, ever
    Column("title", Text),
    Column("filetype", String(64)),
    # How it is going.
    Column("state", String(12), nullable=False),
    Column("reason", Text),  # for people: what is the matter and what to do; never document text
    Column("error_class", String(64)),
    Column("token", BigInteger, nullable=False),  # grows with every claim; fences writes to Qdrant
    Column("lease_until", Float),  # None: nobody holds it
    Column("lease_owner", String(128)),
    Column("attempts", Integer, nullable=False, default=0),  # at this generation, counted at pick-up
    Column("interruptions", Integer, nullable=False, default=0),  # attempts that ended with all of `upwell up`
    Column("next_try_at", Float),
    Column("verify_at", Float),  # a takeover happened: compare with Qdrant once its late writes must have landed
    Column("embed_lease_until", Float),
    Column("embed_lease_owner", String(128)),
    Column("embed_next_try_at", Float),
    Column("searchable_at", Float),
    Column("indexed_at", Float),
    Column("parse_ms", Float),
    Column("extra", Text),  # JSON: the user's own metadata (uploads)
)
Index("documents_source_path", documents.c.source, documents.c.path)
Index("documents_state", documents.c.state, documents.c.bulk, documents.c.observed_at)


def _few(name: str, condition: ColumnElement[bool], *columns: Column[Any]) -> Index:
    """An index of the few rows that a question in a loop is after: the many others cost it nothing (ADR 0037)."""
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


BEHIND = documents.c.desired_generation != documents.c.indexed_generation
# A literal, not a parameter: a database must see that a question and its index mean the same rows.
PENDING = documents.c.vectors_pending > literal_column("0")
_few("documents_behind", BEHIND, documents.c.bulk, documents.c.observed_at)
_few("documents_leased", documents.c.lease_until.is_not(None), documents.c.lease_until)
_few("documents_to_verify", documents.c.verify_at.is_not(None), documents.c.verify_at)
_few("documents_pending", PENDING, documents.c.id)
Index("documents_recipe", documents.c.recipe)

processes = Table(
    "processes",
    metadata,
    Column("name", String(160), primary_key=True),  # kind@host:pid
    Column("kind", String(32), nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("beat_at", Float, nullable=False),
    Column("info", Text, nullable=False, default="{}"),  # JSON, by kind; a watcher's: dirty, scanning, sources
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(96), primary_key=True),  # embedding.tokens, stage.parse.seconds, ...
    Column("value", Float, nullable=False, default=0.0),
)

audits = Table(
    "audits",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("asked_at", Float, nullable=False),
    Column("asked_by", String(16), nullable=False),  # person | schedule | count
    Column("repair", Boolean, nullable=False, default=False),
    Column("deep", Boolean, nullable=False, default=False),  # read every file again instead of its size and times
    Column("state", String(8), nullable=False),  # asked | running | done | failed
    Column("lease_until", Float),  # whoever runs it renews this; past it, another one starts it again
    Column("lease_owner", String(128)),
    Column("starts", Integer, nullable=False, default=0),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("progress", Text, nullable=False, default="{}"),  # JSON: step, documents, points, files
    Column("report", Text),  # JSON: housekeeping.report
)
Index("audits_asked_at", audits.c.asked_at)

queries = Table(
    "queries",
    metadata,
    Column("id", String(36), primary_key=True),  # told to the caller, who may judge the result by it
    Column("at", Float, nullable=False),
    Column("tenant", String(255), nullable=False, default="default"),
    Column("face", String(16), nullable=False),  # search | answer | chat | ... : who asked
    Column("query", Text, nullable=False),
    Column("mode", String(16)),
    Column("filters", Text),  # JSON
    Column("hits", Text, nullable=False),  # JSON: [chunk id, document id, path] of each, best first
    Column("refused", Boolean),  # None: a search, not a question
    Column("grounded", Boolean),
    Column("took_ms", Float),
)
Index("queries_at", queries.c.at)

feedback = Table(
    "feedback",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("at", Float, nullable=False),
    Column("tenant", String(255), nullable=False, default="default"),
    Column("kind", String(8), nullable=False),  # hit | answer
    Column("vote", Integer, nullable=False),  # 1 up, -1 down
    Column("query_id", String(36)),
    Column("query", Text, nullable=False),  # copied: the query log forgets, a judgement does not
    Column("filters", Text),  # JSON; what was right with them may be wrong without
    Column("doc_id", String(36)),
    Column("chunk_id", String(36)),
    Column("path", Text),
    Column("answer", Text),
    Column("text", Text),  # what the judge wrote
)
Index("feedback_at", feedback.c.at)


class LedgerUnusable(RuntimeError):
    """The ledger was written by another release, or its driver is missing; the text says what to do."""


def now(connection: Connection | Engine) -> ColumnElement[float]:
    """Return the database's clock as an SQL expression, in seconds since the epoch (millisecond resolution)."""
    return clock(connection.dialect.name)


def clock(dialect: str) -> ColumnElement[float]:
    """Return the same for statements that are made before there is a connection; ``dialect`` as SQLAlchemy names it."""
    if dialect == "sqlite":
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float())
    return literal_column("extract(epoch from clock_timestamp())", Float())


def open_ledger(url: str, *, busy_timeout_s: float = 10.0) -> Engine:
    """Open the ledger at ``url``, creating its tables on first use.

    Raises:
        LedgerUnusable: the tables belong to another release, or the database's driver is not installed.
        sqlalchemy.exc.OperationalError: the database does not answer.
    """
    parsed = make_url(url)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        options = {"connect_args": {"timeout": busy_timeout_s, "check_same_thread": False}}
    try:
        engine = create_engine(parsed, **options)
    except ModuleNotFoundError as exc:
        raise LedgerUnusable(
            f"UPWELL_LEDGER_URL asks for {parsed.drivername}, whose driver {exc.name} is not installed."
            " For PostgreSQL: pip install 'upwell[postgres]', and a URL that starts with postgresql+psycopg://"
        ) from None
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    _create(engine)
    return engine


def directory_of(url: str) -> Path | None:
    """Return the directory that the ledger at ``url`` lies in; None: it is no file of this machine."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database).absolute().parent


def _prepare_sqlite(engine: Engine) -> None:
    """WAL lets readers pass the one writer; FULL survives a power cut; IMMEDIATE avoids upgrade deadlocks."""

    @event.listens_for(engine, "connect")
    def pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.create_function("lower", 1, _lower, deterministic=True)  # SQLite's own knows ASCII alone
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA secure_delete=ON")  # what is forgotten (a query, a title) is overwritten
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("upwell_read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _create(engine: Engine) -> None:
    if not inspect(engine).has_table("meta"):
        with engine.begin() as connection:
            take_turns(connection)
            metadata.create_all(connection, checkfirst=True)
            if connection.scalar(select(meta.c.value).where(meta.c.key == "schema")) is None:
                connection.execute(insert(meta).values(key="schema", value=str(SCHEMA_VERSION)))
    with engine.connect() as connection:
        found = connection.scalar(select(meta.c.value).where(meta.c.key == "schema"))
    if found != str(SCHEMA_VERSION):
        raise LedgerUnusable(
            f"The ledger has schema {found}, this release needs {SCHEMA_VERSION}. Point UPWELL_LEDGER_URL at another"
            " database, or move the old one away: a new scan rebuilds it without embedding anything again."
        )


def take_turns(connection: Connection) -> None:
    """Let processes that create the same tables do so one after the other, until the transaction ends.

    SQLite's transactions begin with the write lock anyway.  PostgreSQL's CREATE TABLE IF NOT EXISTS fails when another
    process does the same at that moment.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CREATING})")


def reading(engine: Engine) -> Engine:
    """Return ``engine`` with transactions that only read: on SQLite they never wait for a writer."""
    return engine.execution_options(upwell_read_only=True)
