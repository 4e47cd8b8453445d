"""`upwell watch`, `upwell api`, `upwell worker …`: one process each, as containers and `upwell up` run them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ops.cli.errors import CliError
from workers.contract.exits import EXIT_MISCONFIGURED, EXIT_TAKEN, EXIT_UNAVAILABLE

OBJECTS_BETWEEN_COLLECTIONS = 10_000
JSON_LOGS = typer.Option(False, "--json", help="Log JSON, whatever UPWELL_LOG_FORMAT says.")

worker = typer.Typer(
    help="Run one worker process: index (reads documents), query (searches and answers), beat (housekeeping).",
    no_args_is_help=True,
)


def watch(
    folders: list[str] = typer.Argument(..., metavar="DIR...", help="Folders to watch, or NAME=DIR."),
    as_json: bool = JSON_LOGS,
) -> None:
    """Watch folders and record what changed in the ledger.

    Environment: UPWELL_LEDGER_URL, UPWELL_BROKER_URL.
    """
    _begin(as_json)
    from producers import watch as watcher
    from producers.roots import parse_roots
    from producers.settings import WatcherSettings

    with _in_words():
        watcher.run(WatcherSettings(), parse_roots(folders))


def api(as_json: bool = JSON_LOGS) -> None:
    """Serve uploads, search, answers, status, metrics and the console.

    Environment: UPWELL_API_HOST, UPWELL_API_PORT.
    """
    _begin(as_json)
    from ops.api import main
    from ops.api.settings import ApiSettings

    with _in_words():
        main.run(ApiSettings())


@worker.command("index")
def index(as_json: bool = JSON_LOGS) -> None:
    """Make the index agree with the sources.

    Environment: UPWELL_QDRANT_URL, UPWELL_EMBEDDINGS_URL, UPWELL_LEDGER_URL.
    """
    _begin(as_json)
    from workers.indexing import main

    main.run()


@worker.command("query")
def query(as_json: bool = JSON_LOGS) -> None:
    """Search and answer.

    Environment: UPWELL_QDRANT_URL, UPWELL_EMBEDDINGS_URL, UPWELL_CHAT_URL.
    """
    _begin(as_json)
    from workers.query import main

    with _in_words():
        main.run()


@worker.command("beat")
def beat(as_json: bool = JSON_LOGS) -> None:
    """Sweep, retry what is due, audit the index; safe to run twice.

    Environment: UPWELL_LEDGER_URL, UPWELL_QDRANT_URL, UPWELL_AUDIT_INTERVAL.
    """
    _begin(as_json)
    from producers.listing import FilesOnDisk
    from workers.housekeeping import main

    with _in_words():
        main.run(FilesOnDisk())


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn what a process can expect to go wrong at its start into one line and a telling exit code."""
    try:
        yield
    except Exception as exc:
        if (known := _known(exc)) is None:
            raise
        raise known from exc


def _known(exc: Exception) -> CliError | None:
    """Return ``exc`` in words; imports are here because a process that starts well needs none of them."""
    from sqlalchemy.exc import OperationalError

    from ops.api.main import ApiRefuses
    from producers.roots import RootError
    from workers.contract.schema import LedgerUnusable

    if isinstance(exc, RootError | LedgerUnusable):
        return CliError(str(exc), exit_code=EXIT_MISCONFIGURED)
    if isinstance(exc, ApiRefuses):
        # A port that is taken may be free, or another, next time; anything else will not mend by itself.
        return CliError(str(exc), exit_code=EXIT_TAKEN if isinstance(exc.__cause__, OSError) else EXIT_MISCONFIGURED)
    if isinstance(exc, OperationalError):
        why = type(exc.orig).__name__
        message = f"The ledger does not answer ({why}). Start its server, or correct UPWELL_LEDGER_URL."
        return CliError(message, exit_code=EXIT_UNAVAILABLE)
    return None


def _begin(as_json: bool) -> None:
    """Set up what all processes share, before their imports.

    The flag is a short way to write a setting; the settings class of the process reads it back.
    """
    # What is imported stays, and hardly anything here has cycles: looking through it every 700 objects, as Python does
    # unless told, takes an index worker a twentieth of its processor time (ADR 0043).
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    if as_json:
        import os

        os.environ["UPWELL_LOG_FORMAT"] = "json"


def healthy(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Tell whether the process of this container lives: exit code 0 when one of this host beat lately.

    Environment: UPWELL_LEDGER_URL.  The health checks of docker-compose.yml use it.
    """
    from ops.cli.health import beats_here
    from workers.contract.settings import LedgerSettings

    if not beats_here(LedgerSettings().ledger_url.get_secret_value()):
        raise CliError("No Upwell process of this host has beaten within the last 30 s.")
    if as_json:
        from ops.cli.output import print_json

        print_json({"healthy": True})
