"""The `upwell` command: one file per noun, and one place where errors become words.

Nothing heavy is imported here: every command imports what it needs when it is called, and `upwell up` starts what it
can before it imports anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING, NoReturn

from ops.cli.errors import CliError
from workers.contract.exits import EXIT_MISCONFIGURED

if TYPE_CHECKING:
    import typer

    from ops.up.children import Children

COMMANDS = {
    "up": "ops.cli.up:up",
    "add": "ops.cli.add:add",
    "search": "ops.cli.search:search",
    "ask": "ops.cli.ask:ask",
    "explain": "ops.cli.explain:explain",
    "evaluate": "ops.cli.evaluate:evaluate",
    "status": "ops.cli.status:status",
    "documents": "ops.cli.documents:app",
    "held": "ops.cli.held:app",
    "contract": "ops.cli.contract:app",
    "mcp": "ops.cli.mcp:mcp",
    "verify": "ops.cli.verify:verify",
    "doctor": "ops.cli.doctor:doctor",
    "watch": "ops.cli.processes:watch",
    "api": "ops.cli.processes:api",
    "healthy": "ops.cli.processes:healthy",
    "worker": "ops.cli.processes:worker",
    "version": "ops.cli.version:version",
}
"""Each command, or group of commands, and where it is."""
HIDDEN = frozenset({"healthy"})


def command_line(words: Sequence[str] = ()) -> typer.Typer:
    """Return the command line for ``words``: the command that they begin with, or all when they begin with none.

    What is not asked for is not imported: that is half of what a short command takes, and `upwell up` waits for it.
    """
    import typer

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
    app.callback()(lambda: None)  # or a command that is alone would be called without its name
    for name in words[:1] if words[:1] and words[0] in COMMANDS else COMMANDS:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name, hidden=name in HIDDEN)(command)
    return app


def main() -> NoReturn:
    """Run a command; expected failures are one line on standard error."""
    words = sys.argv[1:]
    try:
        if words[:1] == ["up"]:
            from ops.up.ahead import begun

            with begun(words) as children:
                code = _run(words, children)
        else:
            code = _run(words)
    except KeyboardInterrupt:
        code = 130  # 128 + SIGINT, as shells say it
    sys.exit(code)


def _run(words: Sequence[str], children: Children | None = None) -> int:
    """Run the command that ``words`` are; returns its exit code."""
    _fit_locale()
    try:
        command_line(words)(words, obj=children)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except CliError as exc:
        return _fail(str(exc), exc.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has seen enough
        return 1
    except ValueError as exc:
        faults = _settings_faults(exc)
        if faults is None:
            raise
        return _fail(faults, EXIT_MISCONFIGURED)
    return 0


def _fit_locale() -> None:
    """Let what a locale has no letters for be printed as an escape: a name is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
