"""`upwell ask`: an answer with its citations, as it comes."""

from __future__ import annotations

from typing import Any

import typer

from ops.cli.client import find_api
from ops.cli.errors import CliError
from ops.cli.filters import FILTER_HELP, parse_filters
from ops.cli.output import JSON_OPTION, clean, clean_lines, is_terminal, print_json, remark
from ops.cli.search import place_of


def ask(
    text: str = typer.Argument(..., help="The question."),
    limit: int = typer.Option(8, "-k", "--limit", min=1, max=100, help="Most passages to answer from."),
    filters: list[str] = typer.Option([], "--filter", metavar="CONDITION", help=FILTER_HELP),
    as_json: bool = JSON_OPTION,
) -> None:
    """Answer a question from the documents, with citations.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    body = {"query": text, "limit": limit, "filters": parse_filters(filters)}
    if as_json:
        print_json(find_api().post("/v1/answer", body))
        return
    answer, shown = _listen(body)
    text = clean_lines(answer["answer"]).strip()
    if shown.strip() != text:
        if shown:
            remark("upwell: the answer was corrected after it was checked:")
        print(text)
    elif shown and not shown.endswith("\n"):
        print()
    for citation in answer["citations"]:
        print(f"[{citation['n']}] {clean(place_of(citation))}")
    _remarks(answer)


def _listen(body: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the finished answer and what of it has been shown already: on a terminal, words appear as they come."""
    live = is_terminal()
    shown = ""
    for event in find_api().stream("/v1/answer", body):
        match event.name:
            case "delta" if live:
                piece = event.data["text"]
                shown += piece
                print("\n".join(clean(line) for line in piece.split("\n")), end="", flush=True)
            case "restart":
                if shown:
                    print()
                shown = ""
            case "error":
                raise CliError(f"{event.data['message']} {event.data.get('next', '')}".strip())
            case "done":
                return event.data, shown
    raise CliError("The answer broke off. See how Upwell is: upwell status")


def _remarks(answer: dict[str, Any]) -> None:
    if answer.get("question"):
        remark(f"upwell: understood as: {clean(answer['question'])}")
    for citation in answer["citations"]:
        if citation.get("reindexing"):
            remark(f"upwell: [{citation['n']}] has changed since; it is being indexed again.")
    if answer.get("note"):
        remark(f"upwell: {clean(answer['note'])}")
    if answer.get("refused"):
        remark("upwell: nothing in the documents answers this. What is indexed: upwell documents list")
    elif answer.get("generated_by") == "extractive":
        # Where a note says that a model failed, one is set.
        more = "" if answer.get("note") else " For a written one, set UPWELL_CHAT_URL."
        remark(f"upwell: extractive answer, in the documents' own words.{more}")
    elif answer.get("grounded") is False:
        remark("upwell: not every statement of this answer is backed by a citation.")
