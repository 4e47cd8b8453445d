"""`--filter key=value`: what the api understands as filters."""

from __future__ import annotations

from collections.abc import Sequence

from ops.cli.errors import CliError

FILTER_HELP = (
    "Only documents whose metadata has this value, e.g. filetype=application/pdf; repeat a key for either value."
)


def parse_filters(words: Sequence[str]) -> dict[str, str | list[str]]:
    """Return ``key=value`` words as filters; a repeated key means any of its values."""
    found: dict[str, str | list[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise CliError(f"--filter {word!r} is not KEY=VALUE. Write for example: --filter source=inbox")
        known = found.get(key)
        if known is None:
            found[key] = value
        else:
            found[key] = [*([known] if isinstance(known, str) else known), value]
    return found
