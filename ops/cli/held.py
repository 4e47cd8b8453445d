"""`upwell held …`: deletions that wait for a person, because too much vanished at once."""

from __future__ import annotations

from typing import Any

import typer

from ops.cli.client import find_api
from ops.cli.errors import UsageError
from ops.cli.output import JSON_OPTION, clean, counted, print_json, remark

app = typer.Typer(help="Deletions that wait for approval: too many files vanished at once.", no_args_is_help=True)

IDS = typer.Argument(None, metavar="[ID]...", help="Ids of held documents.", show_default=False)
ALL = typer.Option(False, "--all", help="All of them.")


@app.command("list")
def list_held(as_json: bool = JSON_OPTION) -> None:
    """List the documents whose deletion waits.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    answer = find_api().get("/v1/held")
    if as_json:
        print_json(answer)
        return
    for document in answer["documents"]:
        reason = f"  {clean(document['reason'])}" if document.get("reason") else ""
        print(f"{document['id']}  {clean(document['source'])}/{clean(document['path'])}{reason}")
    if not answer["documents"]:
        remark("Nothing is held.")


@app.command("approve")
def approve(ids: list[str] = IDS, every: bool = ALL, as_json: bool = JSON_OPTION) -> None:
    """The files are really gone: delete these documents from the index.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    _decide("approve", ids, every=every, as_json=as_json, said="will be deleted from the index")


@app.command("reject")
def reject(ids: list[str] = IDS, every: bool = ALL, as_json: bool = JSON_OPTION) -> None:
    """The files will come back: keep these documents in the index.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.
    """
    _decide("reject", ids, every=every, as_json=as_json, said="will be kept")


def _decide(verb: str, ids: list[str] | None, *, every: bool, as_json: bool, said: str) -> None:
    if bool(ids) == every:
        raise UsageError(f"Name the documents (upwell held list shows them), or: upwell held {verb} --all")
    body: dict[str, Any] = {"all": True} if every else {"ids": ids}
    answer = find_api().post(f"/v1/held/{verb}", body)
    if as_json:
        print_json(answer)
        return
    print(f"{counted(len(answer['ids']), 'document')} {said}.")
