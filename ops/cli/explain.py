"""`upwell explain`: why an expected document is, or is not, among the hits of a search."""

from __future__ import annotations

from typing import Any

import typer

from ops.cli.client import find_api
from ops.cli.documents import document_id
from ops.cli.filters import FILTER_HELP, parse_filters
from ops.cli.output import JSON_OPTION, clean, print_json
from ops.cli.search import NAMES, Mode


def explain(
    which: str = typer.Argument(
        ..., metavar="DOC", help="Id of a document, or its path or file name where only one has it."
    ),
    text: str = typer.Argument(..., metavar="QUERY", help="What was looked for."),
    limit: int = typer.Option(10, "-k", "--limit", min=1, max=100, help="Hits that the search shows."),
    filters: list[str] = typer.Option([], "--filter", metavar="CONDITION", help=FILTER_HELP),
    mode: Mode = typer.Option(
        Mode.HYBRID, case_sensitive=False, help="hybrid: words and meaning; lexical: words; semantic: meaning."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say why a document is, or is not, found: its state, a filter, its words, a better hit.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    api = find_api()
    body = {"query": text, "limit": limit, "mode": mode.value, "filters": parse_filters(filters)}
    why = api.post(f"/v1/documents/{document_id(api, which)}/explain", body)
    if as_json:
        print_json(why)
        return
    document = why["document"]
    print(f"{clean(document['source'])}/{clean(document['path'])}: {clean(why['summary'])}")
    for line in _details(why):
        print(f"  {clean(line)}")


def _details(why: dict[str, Any]) -> list[str]:
    lines = [f"state: {why['document']['state']}, {why['chunks']} chunks in the index"]
    for each in why["filters"]:
        has = "; ".join(f"{field} = {_values(values)}" for field, values in each["document_has"].items())
        lines.append(f"filter {each['condition']}: {'passes' if each['passes'] else 'fails'} (it has {has})")
    for name, place in (why.get("lists") or {}).items():
        at = f"number {place['rank']}, score {place['score']:.3f}" if place else "not among the first 1,000"
        lines.append(f"{NAMES.get(name, name)}: {at}")
    if why.get("matched") is not None:
        lines.append(f"words of the query that it has: {', '.join(why['matched']) or 'none'}")
    if why.get("named"):
        lines.append(f"words of the query in its file's name: {', '.join(why['named'])}")
    if why.get("missing"):
        lines.append(f"words that neither it nor its name has: {', '.join(why['missing'])}")
    best = why.get("best")
    if best:
        page = f", page {best['page']}" if best.get("page") is not None else ""
        lines.append(f"best chunk: number {best['chunk']}{page}: {best['begins']}")
    if why.get("degraded"):
        lines.append(f"this search: {why['mode']}. {why['degraded']}")
    return lines


def _values(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values) or "nothing"
