"""Are the documents that a test set calls right in the index at all?  What is not there cannot be found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ops.cli.client import Api
from ops.cli.judgements import Question, names_of
from ops.cli.output import clean

PAGE = 1000
SHOWN = 3


def presence(api: Api, asked: Sequence[Question]) -> dict[str, Any]:
    """Return how many right documents the questions name, and which of them no document of the index is called."""
    named = dict.fromkeys(name for one in asked for name, grade in one.grades.items() if grade > 0)
    missing = dict(named)
    if missing:
        for document in api.pages("/v1/documents", "documents", limit=PAGE):
            for name in names_of(document, str(document["id"])) if document.get("chunks") else ():
                missing.pop(name, None)
            if not missing:
                break
    return {"named": len(named), "missing": list(missing)}


def told(found: dict[str, Any]) -> str | None:
    """Return that in words; None when all are there."""
    missing = found["missing"]
    if not missing:
        return None
    some = ", ".join(clean(name) for name in missing[:SHOWN]) + (", …" if len(missing) > SHOWN else "")
    share = f"{len(missing)} of {found['named']} documents that the questions name"
    return f"{share} are not in the index ({some}), so no search finds them. What is indexed: upwell documents list"
