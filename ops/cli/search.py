"""`upwell search`: hits, best first."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import typer

from ops.cli.client import find_api
from ops.cli.filters import FILTER_HELP, parse_filters
from ops.cli.output import JSON_OPTION, clean, is_terminal, print_json, remark

SNIPPET = 320


class Mode(StrEnum):
    """How to search."""

    HYBRID = "hybrid"
    LEXICAL = "lexical"
    SEMANTIC = "semantic"


def search(
    text: str = typer.Argument(..., help="What to look for."),
    limit: int = typer.Option(10, "-k", "--limit", min=1, max=100, help="Most hits."),
    filters: list[str] = typer.Option([], "--filter", metavar="KEY=VALUE", help=FILTER_HELP),
    mode: Mode = typer.Option(Mode.HYBRID, help="hybrid: words and meaning; lexical: words; semantic: meaning."),
    explain: bool = typer.Option(False, "--explain", help="Show how each score came about."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Search the index.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    body = {"query": text, "limit": limit, "mode": mode.value, "filters": parse_filters(filters), "explain": explain}
    answer = find_api().post("/v1/search", body)
    if as_json:
        print_json(answer)
        return
    hits = answer.get("hits", [])
    if answer.get("mode") and answer["mode"] != mode.value:
        remark(f"upwell: searched {answer['mode']} only; vectors are not available right now. See: upwell status")
    if not hits:
        remark("Nothing found. What is indexed: upwell documents list")
    for number, hit in enumerate(hits, 1):
        _show(number, hit, explain=explain)


def _show(number: int, hit: dict[str, Any], *, explain: bool) -> None:
    metadata = hit.get("metadata", {})
    place = clean(place_of(metadata))
    heading = metadata.get("heading")
    score = f"{hit.get('score', 0.0):.3f}"
    if is_terminal():
        typer.echo(f"{number}. {typer.style(place, bold=True)}  {typer.style(score, dim=True)}")
    else:
        print(f"{number}. {place}  {score}")
    if heading:
        print(f"   {clean(heading)}")
    print(f"   {snippet(hit.get('content', ''))}")
    if explain and hit.get("explain") is not None:
        print(f"   {clean(hit['explain'])}")


def place_of(metadata: dict[str, Any]) -> str:
    """Return where a hit or citation is: its path, and the page where there is one."""
    page = metadata.get("page")
    return f"{metadata.get('path', '?')}" + (f", page {page}" if page is not None else "")


def snippet(content: str) -> str:
    """Return the beginning of ``content`` on one line."""
    line = " ".join(clean(content).split())
    return line if len(line) <= SNIPPET else line[: SNIPPET - 2].rsplit(" ", 1)[0] + " …"
