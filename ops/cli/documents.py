"""`upwell documents …`: what is known of each file, why, and what to do about it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import typer

from ops.cli.client import Api, find_api
from ops.cli.errors import CliError, UsageError
from ops.cli.output import JSON_OPTION, clean, clean_lines, counted, print_json, remark

app = typer.Typer(help="List documents, see what became of one, and try again what failed.", no_args_is_help=True)

PAGE = 200
MOST = 10_000
WHICH = typer.Argument(..., metavar="ID", help="Id of a document, or its path or file name where only one has it.")


@app.command("list")
def list_documents(
    state: str | None = typer.Option(None, help="Only this state: ready, failed, parked, skipped, …"),
    path: str | None = typer.Option(None, help="Only this path, or paths that begin so."),
    contains: str | None = typer.Option(None, help="Only paths that have this in them, in capitals or not."),
    source: str | None = typer.Option(None, help="Only this source."),
    limit: int = typer.Option(1000, min=1, help="Most documents."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List documents with their state and reason.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    asked = {"state": state, "path": path, "contains": contains, "source": source, "limit": min(limit, PAGE)}
    found = list(islice(find_api().pages("/v1/documents", "documents", **asked), limit))
    if as_json:
        print_json({"documents": found})
        return
    for document in found:
        reason = f"  {clean(document['reason'])}" if document.get("reason") else ""
        print(f"{document['state']:<10} {clean(document['source'])}/{clean(document['path'])}{reason}")
    if not found:
        remark("No documents.")
    elif len(found) == limit:
        remark(f"The first {limit}; more with --limit.")


@app.command("show")
def show(which: str = WHICH, as_json: bool = JSON_OPTION) -> None:
    """Show everything that is known of one document.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    api = find_api()
    document = api.get(f"/v1/documents/{document_id(api, which)}")
    if as_json:
        print_json(document)
        return
    _print_fields(document)


@app.command("retry")
def retry(
    which: str | None = typer.Argument(None, metavar="[ID]", help="Id or path of one document.", show_default=False),
    failed: bool = typer.Option(False, "--failed", help="All that failed or are parked."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Try again what failed or is parked.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    if (which is None) == (not failed):
        raise UsageError("Say which document, or --failed for all that failed or are parked.")
    api = find_api()
    if which is not None:
        api.post(f"/v1/documents/{document_id(api, which)}/retry")
        count = 1
    else:
        count = sum(api.post("/v1/documents/retry", state=state)["retried"] for state in ("failed", "parked"))
    if as_json:
        print_json({"retried": count})
    else:
        print(f"{counted(count, 'document')} will be tried again. Follow with: upwell status --wait")


@app.command("why")
def why(
    path: str = typer.Argument(..., metavar="PATH", help="A file, as a path here or relative to its source."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Tell what became of a file and by which rule.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    there = Path(path)
    asked = str(there.absolute()) if there.exists() else path
    answer = find_api().get("/v1/documents/why", path=asked)
    if as_json:
        print_json(answer)
        return
    print(f"{clean(answer['source'])}/{clean(answer['path'])}: {clean(answer['state'] or 'not indexed')}")
    print(clean(answer["reason"]))


@app.command("chunks")
def chunks(which: str = WHICH, as_json: bool = JSON_OPTION) -> None:
    """Show a document's chunks in order.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    api = find_api()
    answer = api.get(f"/v1/documents/{document_id(api, which)}/chunks")
    if as_json:
        print_json(answer)
        return
    for chunk in answer["chunks"]:
        page = f", page {chunk['page']}" if chunk["page"] is not None else ""
        heading = f"  {clean(chunk['heading'])}" if chunk["heading"] else ""
        vector = "" if chunk["embedded"] else "  (no vector yet)"
        print(f"--- {chunk['index']}{page}{heading}{vector}")
        print(clean_lines(chunk["content"]))


def document_id(api: Api, which: str) -> str:
    """Return the id for an id or a path that only one source has."""
    try:
        return str(UUID(which))
    except ValueError:
        pass
    found = _named(api, which)
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        raise CliError(f"No document has the path {which!r}. What became of the file: upwell documents why {which}")
    names = ", ".join(f"{document['source']}/{document['path']}: {document['id']}" for document in found[:5])
    raise CliError(f"{which!r} is not unique. Take the id of one of these: {names}")


def _named(api: Api, which: str) -> list[dict[str, Any]]:
    """Return the documents called ``which``: PATH, SOURCE/PATH as lists show it, or a file's name."""
    if found := _at(api, which):
        return found
    source, slash, path = which.removeprefix("./").partition("/")
    return _at(api, path, source=source) if slash else _of_name(api, which)


def _of_name(api: Api, name: str) -> list[dict[str, Any]]:
    """Return the documents whose file is called so; none where too many names begin so to look at all of them."""
    beginning = list(islice(api.pages("/v1/documents", "documents", contains=f"/{name}", limit=PAGE), MOST + 1))
    return [one for one in beginning if one["path"].endswith(f"/{name}")] if len(beginning) <= MOST else []


def _at(api: Api, path: str, **asked: str) -> list[dict[str, Any]]:
    """Return the documents at a path.  The api lists every path that begins so."""
    listed = api.pages("/v1/documents", "documents", path=path, limit=PAGE, **asked)
    return [document for document in islice(listed, MOST) if document["path"] == path]


def _print_fields(answer: dict[str, Any]) -> None:
    for name, value in answer.items():
        if value is None or value == {} or value == []:
            continue
        print(f"{name}: {clean(value)}")
