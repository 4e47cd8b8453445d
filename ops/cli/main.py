"""The `upwell` command: one file per noun, and one place where errors become words.

Nothing heavy is imported here: every command imports what it needs when it is called.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from ops.cli import (
    add,
    ask,
    contract,
    doctor,
    documents,
    evaluate,
    explain,
    held,
    mcp,
    processes,
    search,
    status,
    up,
    verify,
    version,
)
from ops.cli.errors import EXIT_MISCONFIGURED, CliError

app = typer.Typer(
    name="upwell",
    help=(
        "Drop a file in a folder; a moment later it can be found, and questions about it are answered with"
        " citations.\n\n"
        "Start with: upwell up FOLDER. Commands that need a running Upwell find it at UPWELL_API_URL, or through"
        " .upwell/up.json in the current folder."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: quicker, and the same on every terminal
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("up")(up.up)
app.command("add")(add.add)
app.command("search")(search.search)
app.command("ask")(ask.ask)
app.command("explain")(explain.explain)
app.command("evaluate")(evaluate.evaluate)
app.command("status")(status.status)
app.add_typer(documents.app, name="documents")
app.add_typer(held.app, name="held")
app.add_typer(contract.app, name="contract")
app.command("mcp")(mcp.mcp)
app.command("verify")(verify.verify)
app.command("doctor")(doctor.doctor)
app.command("watch")(processes.watch)
app.command("api")(processes.api)
app.command("healthy", hidden=True)(processes.healthy)
app.add_typer(processes.worker, name="worker")
app.command("version")(version.version)


def main() -> NoReturn:
    """Run a command; expected failures are one line on standard error."""
    code = 0
    try:
        app()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except CliError as exc:
        code = _fail(str(exc), exc.exit_code)
    except KeyboardInterrupt:
        code = 130  # 128 + SIGINT, as shells say it
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has seen enough
        code = 1
    except ValueError as exc:
        faults = _settings_faults(exc)
        if faults is None:
            raise
        code = _fail(faults, EXIT_MISCONFIGURED)
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        print(f"upwell: {line}", file=sys.stderr)
    return code


def _settings_faults(exc: ValueError) -> str | None:
    """Return what is wrong with the environment, in the names that were typed; None if that is not what it is."""
    from pydantic import ValidationError

    if not isinstance(exc, ValidationError) or not exc.title.endswith("Settings"):
        return None
    lines = []
    for fault in exc.errors(include_url=False, include_input=False, include_context=False):
        name = "_".join(str(part) for part in fault["loc"]).upper()
        message = fault["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:] if name else message
        lines.append(f"UPWELL_{name}: {message}. Correct it or unset it." if name else message)
    return "\n".join(lines)
