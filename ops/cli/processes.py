"""`upwell watch`, `upwell api`, `upwell worker …`: one process each, as containers and `upwell up` run them."""

from __future__ import annotations

import typer

from ops.cli.errors import CliError

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
    _choose_json(as_json)
    from producers.roots import parse_roots
    from producers.settings import WatcherSettings

    from producers import watch as watcher

    try:
        roots = parse_roots(folders)
    except ValueError as exc:
        raise CliError(str(exc), exit_code=78) from exc
    watcher.run(WatcherSettings(), roots)


def api(as_json: bool = JSON_LOGS) -> None:
    """Serve uploads, search, answers, status, metrics and the console.

    Environment: UPWELL_API_HOST, UPWELL_API_PORT.
    """
    _choose_json(as_json)
    from ops.api import main
    from ops.api.settings import ApiSettings

    main.run(ApiSettings())


@worker.command("index")
def index(as_json: bool = JSON_LOGS) -> None:
    """Make the index agree with the sources.

    Environment: UPWELL_QDRANT_URL, UPWELL_EMBEDDINGS_URL, UPWELL_LEDGER_URL.
    """
    _choose_json(as_json)
    from workers.indexing import main

    main.run()


@worker.command("query")
def query(as_json: bool = JSON_LOGS) -> None:
    """Search and answer.

    Environment: UPWELL_QDRANT_URL, UPWELL_EMBEDDINGS_URL, UPWELL_CHAT_URL.
    """
    _choose_json(as_json)
    from workers.query import main

    main.run()


@worker.command("beat")
def beat(as_json: bool = JSON_LOGS) -> None:
    """Sweep, verify and retry what is due (UPWELL_LEDGER_URL); safe to run twice."""
    _choose_json(as_json)
    from workers.housekeeping import main

    main.run()


def _choose_json(as_json: bool) -> None:
    """The flag is a short way to write a setting; the settings class of the process reads it back."""
    if as_json:
        import os

        os.environ["UPWELL_LOG_FORMAT"] = "json"
