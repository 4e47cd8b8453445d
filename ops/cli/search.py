"""`upwell search`: hits, best first."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import typer

from ops.cli.client import find_api
from ops.cli.filters import FILTER_HELP, parse_filters
from ops.cli.output import JSON_OPTION, clean, print_json, remark, takes_styles

SNIPPET = 320
NAMES = {"dense": "by meaning", "bm25": "by words", "name": "by name"}


class Mode(StrEnum):
    """How to search."""

    HYBRID = "hybrid"
    LEXICAL = "lexical"
    SEMANTIC = "semantic"


def search(
    text: str = typer.Argument(..., help="What to look for."),
    limit: int = typer.Option(10, "-k", "--limit", min=1, max=100, help="Most hits."),
    filters: list[str] = typer.Option([], "--filter", metavar="CONDITION", help=FILTER_HELP),
    mode: Mode = typer.Option(
        Mode.HYBRID, case_sensitive=False, help="hybrid: words and meaning; lexical: words; semantic: meaning."
    ),
    facets: list[str] = typer.Option(
        [],
        "--facet",
        metavar="FIELD",
        help="Count a field over all documents with a word of the query; date:year counts years.",
    ),
    neighbours: int = typer.Option(0, "--neighbours", min=0, max=5, help="Chunks before and after each hit to show."),
    join: bool | None = typer.Option(
        None, "--join/--no-join", help="Show chunks that stand side by side as one hit.  [default: up to ten hits]"
    ),
    newest: bool = typer.Option(False, "--newest", help="Newer documents first, half of the bonus gone in a year."),
    explain: bool = typer.Option(False, "--explain", help="Say why each hit is there."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Search the index.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    body: dict[str, Any] = {
        "query": text,
        "limit": limit,
        "mode": mode.value,
        "filters": parse_filters(filters),
        "explain": explain,
        "judge": True,
    }
    if facets:
        body["facets"] = facets
    if neighbours:
        body["neighbours"] = neighbours
    if join is not None:
        body["join"] = join
    if newest:
        body["recency"] = {}
    answer = find_api().post("/v1/search", body)
    if as_json:
        print_json(answer)
        return
    _tell(answer, asked=mode)
    for number, hit in enumerate(answer.get("hits", []), 1):
        _show(number, hit, explain=explain)
    if facets:
        _count(answer)


def _tell(answer: dict[str, Any], *, asked: Mode) -> None:
    """Say what whoever asked should know before the hits."""
    if answer.get("degraded"):
        remark(f"upwell: searched {answer.get('mode')}. {clean(answer['degraded'])}")
    elif answer.get("mode") and answer["mode"] != asked.value:
        remark(f"upwell: searched {answer['mode']} only; vectors are not available right now. See: upwell status")
    if answer.get("note"):
        remark(f"upwell: {clean(answer['note'])}")
    if not answer.get("hits"):
        remark("Nothing found. What is indexed: upwell documents list")
    elif answer.get("weak"):
        remark("upwell: nothing here seems to be about this. What is nearest:")


def _count(answer: dict[str, Any]) -> None:
    """Print the values of each facet, and over what they were counted."""
    for field, values in (answer.get("facets") or {}).items():
        counts = ", ".join(f"{each['value']} ({each['count']})" for each in values)
        print(f"{clean(field)}: {clean(counts) or 'none'}")
    over = answer.get("facets_over") or {}
    if over.get("note"):
        remark(f"upwell: {clean(over['note'])}")
    if not over.get("complete", True):
        remark(f"upwell: counted over {over['documents']} documents, the best; more fit. Narrow it with --filter.")


def _show(number: int, hit: dict[str, Any], *, explain: bool) -> None:
    metadata = hit.get("metadata", {})
    place = clean(place_of(metadata))
    heading = metadata.get("heading")
    score = f"{hit.get('score', 0.0):.3f}"
    if takes_styles():
        typer.echo(f"{number}. {typer.style(place, bold=True)}  {typer.style(score, dim=True)}")
    else:
        print(f"{number}. {place}  {score}")
    if heading:
        print(f"   {clean(heading)}")
    print(f"   {snippet(best_part(hit))}")
    for other in hit.get("neighbours") or []:
        print(f"   {other['offset']:+d}: {snippet(other['content'])}")
    duplicates = hit.get("duplicates") or []
    if duplicates:
        print(f"   the same in: {', '.join(sorted({clean(place_of(other)) for other in duplicates}))}")
    if explain and hit.get("explain") is not None:
        for line in reasons(hit["explain"]):
            print(f"   > {clean(line)}")


def reasons(why: dict[str, Any]) -> list[str]:
    """Return an explanation as lines for people, the sentence first."""
    lines = [str(why["summary"])] if why.get("summary") else []
    for name, place in (why.get("lists") or {}).items():
        lines.append(f"{NAMES.get(name, name)}: number {place['rank']}, score {place['score']:.3f}")
    if why.get("fusion"):
        lines.append(f"together ({why['fusion']}): {why['score']:.3f}")
    if why.get("embedded") is False:
        lines.append("its meaning is not computed yet")
    if why.get("missing"):
        lines.append(f"words that neither it nor its name has: {', '.join(why['missing'])}")
    if why.get("filters"):
        lines.append(f"passes: {'; '.join(why['filters'])}")
    at = [f"chunk {why['chunk']}"] if why.get("chunk") is not None else []
    at += [f"page {why['page']}"] if why.get("page") is not None else []
    at += [f"version {str(why['version'])[:12]}"] if why.get("version") else []
    return [*lines, ", ".join(at)] if at else lines


def place_of(metadata: dict[str, Any]) -> str:
    """Return where a hit or citation is: its path, and the page where there is one."""
    page = metadata.get("page")
    return f"{metadata.get('path', '?')}" + (f", page {page}" if page is not None else "")


def best_part(hit: dict[str, Any]) -> str:
    """Return the text of the chunk that was found; the chunks beside it may be shown with it."""
    content = str(hit.get("content", ""))
    start, end = next((part["span"] for part in hit.get("joined") or [] if part["offset"] == 0), (0, len(content)))
    return content[start:end]


def snippet(content: str) -> str:
    """Return the beginning of ``content`` on one line."""
    line = " ".join(clean(content).split())
    return line if len(line) <= SNIPPET else line[: SNIPPET - 2].rsplit(" ", 1)[0] + " …"
