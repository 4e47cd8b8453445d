"""How commands speak: results on standard output, remarks on standard error, JSON when asked."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

JSON_OPTION = typer.Option(False, "--json", help="Print JSON, for programs.")


def print_json(value: Any) -> None:
    """Print ``value`` as JSON."""
    plain = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not plain, indent=2))


def remark(text: str) -> None:
    """Say something on standard error that is no part of the result."""
    print(text, file=sys.stderr, flush=True)


def counted(count: int, what: str) -> str:
    """Return how many there are: "1 file", "2 files"."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def clean(text: object) -> str:
    """Return ``text`` on one line, without control characters that a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def clean_lines(text: object) -> str:
    """Return ``text`` with its line breaks, without control characters that a terminal would obey."""
    return "\n".join(clean(line).rstrip() for line in str(text).splitlines())


def takes_styles() -> bool:
    """Tell whether standard output is a terminal that knows bold letters, and nobody asked for plain ones."""
    if not is_terminal():
        return False
    from rich.console import Console  # knows TERM and NO_COLOR

    console = Console()
    return not (console.is_dumb_terminal or console.no_color)


def is_terminal() -> bool:
    """Tell whether somebody watches what is printed."""
    return sys.stdout.isatty()
