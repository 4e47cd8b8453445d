"""Chunks that stand side by side in a document become one hit: a passage to read, and room for other places.  Pure.

A chunk is small, so that what is found is near to what was asked; what answers is often two or three of them in a row.
Those that were found together and are nearly as good as the best of them are shown as one text, in reading order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from workers.query.ranking import Candidate
from workers.query.values import Found
from workers.query.words import Span

MOST_CHUNKS = 5
"""Chunks of one hit at most: about 4,000 characters."""

AS_GOOD = 0.7
"""Share of the hit's score that a chunk beside it must have.

Less shows more in the same number of hits, and puts what is weak before the next hit: chosen on half of the questions
of COVID-QA and CUAD (ADR 0038).
"""


@dataclass(frozen=True, slots=True)
class Passage:
    """What a hit shows: its text, and where in it each of its chunks stands."""

    text: str
    parts: tuple[tuple[Found, Span], ...]

    @property
    def indices(self) -> range:
        """The places of its chunks in the document."""
        return range(self.parts[0][0].chunk_index, self.parts[-1][0].chunk_index + 1)


@dataclass(slots=True, eq=False)
class _Run:
    """Candidates in a row; the first of them is the best."""

    place: int
    best: Candidate
    others: list[Candidate] = field(default_factory=list)

    def takes(self, one: Candidate, nothing: float) -> bool:
        """Tell whether the candidate is good enough to be shown with the best one."""
        enough = one.found.score - nothing >= AS_GOOD * (self.best.found.score - nothing)
        return enough and len(self.others) + 2 <= MOST_CHUNKS

    def as_candidate(self) -> Candidate:
        if not self.others:
            return self.best
        members = [self.best, *self.others]
        chunks = sorted(one.found.chunk_index for one in members)
        return replace(
            self.best,
            beside=tuple(one.found for one in self.others),
            duplicates=tuple(other for one in members for other in one.duplicates),
            steps=(*self.best.steps, {"step": "join", "chunks": chunks}),
        )


def joined(ranked: Sequence[Candidate], nothing: float = 0.0) -> list[Candidate]:
    """Return the candidates in their order, each with those beside it that are nearly as good.

    ``nothing`` is the score of what has nothing to do with the query.
    """
    documents: dict[tuple[str, str], dict[int, _Run]] = {}
    kept: list[_Run] = []
    for place, one in enumerate(ranked):
        index = one.found.chunk_index
        runs = documents.setdefault((one.found.doc_id, one.found.version), {})
        beside = _distinct(runs.get(at) for at in (index - 1, index + 1)) if runs and index >= 0 else []
        run = next((each for each in beside if each.takes(one, nothing)), None)
        if run is None:
            run = _Run(place, one)
            kept.append(run)
        else:
            run.others.append(one)
        runs.setdefault(index, run)
    return [run.as_candidate() for run in kept]


def passage(one: Candidate) -> Passage:
    """Return the text of a hit.  Where another section begins, its heading stands between."""
    text, parts, heading = "", [], None
    for number, found in enumerate(sorted((one.found, *one.beside), key=lambda each: each.chunk_index)):
        if number:
            text += "\n\n"
            if found.metadata.get("heading") not in (heading, None):
                text += f"{found.metadata['heading']}\n\n"
        parts.append((found, (len(text), len(text) + len(found.content))))
        text += found.content
        heading = found.metadata.get("heading")
    return Passage(text, tuple(parts))


def _distinct(runs: Iterable[_Run | None]) -> list[_Run]:
    """Return the runs that there are, best first."""
    return sorted({id(run): run for run in runs if run is not None}.values(), key=lambda run: run.place)
