"""How much of a finished answer its own citations hold, as its reader sees it: sentences against quotes.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.query.support import ENOUGH, Source, together
from workers.query.written import statements


@dataclass(frozen=True, slots=True)
class Upheld:
    """Of so many sentences that state something, so many have their words and figures in what they cite."""

    sentences: int
    supported: int


def upheld(answer: str, citations: Sequence[Mapping[str, Any]]) -> Upheld:
    """Compare each sentence with the quotes of its own citations (as `/v1/answer` returns them).

    It trusts nothing but the quotes: a sentence without a citation is not supported, nor is one in words of its own or
    in another language than its document.
    """
    sources = {
        each["n"]: Source(
            "\n".join(each.get("quotes") or [each["quote"]]), f"{each.get('title') or ''}\n{each.get('path') or ''}"
        )
        for each in citations
    }
    said = list(statements(answer))
    return Upheld(len(said), sum(_holds(text, [sources[n] for n in numbers if n in sources]) for text, numbers in said))


def _holds(statement: str, cited: Sequence[Source]) -> bool:
    found = [evidence for source in cited if (evidence := source.evidence(statement)) is not None]
    return together(statement, found) >= ENOUGH
