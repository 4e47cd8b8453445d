"""`upwell up`: everything on one machine."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from ops.cli.errors import EXIT_FAILED, CliError


def up(
    context: typer.Context,
    folders: list[str] = typer.Argument(
        None,
        metavar="[DIR]...",
        help="Folders to watch, or NAME=DIR to name the source. Default: inbox.",
        show_default=False,
    ),
    data_dir: Path | None = typer.Option(
        None, help="Where everything is kept (UPWELL_DATA_DIR). Default: .upwell", show_default=False
    ),
    port: int | None = typer.Option(
        None,
        min=1,
        max=65535,
        help="Port of the console and the api (UPWELL_API_PORT); another is used if it is taken. Default: 8080",
        show_default=False,
    ),
    no_browser: bool = typer.Option(False, "--no-browser", help="Do not open the console page."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object a line instead of text."),
) -> None:
    """Start everything on this machine and watch DIRs; Ctrl-C stops it.

    UPWELL_BROKER_URL, UPWELL_QDRANT_URL and UPWELL_EMBEDDINGS_URL (with UPWELL_EMBEDDINGS_MODEL and
    UPWELL_EMBEDDINGS_API_KEY) each replace an embedded part by a real server.
    """
    from ops.up.main import UpError, run

    try:
        code, fault = run(
            folders or [],
            data_dir=data_dir,
            port=port,
            browser=not no_browser,
            as_json=as_json,
            children=context.obj,
        )
    except UpError as exc:
        raise CliError(str(exc), exit_code=exc.exit_code) from exc
    if fault:
        raise CliError(fault, exit_code=code or EXIT_FAILED)
    sys.exit(code)
