"""What of a model's words may leave: sentences that a passage supports, with citations that hold; no links, no images.

Pure.  Whole sentences are judged, because half a link or half a citation cannot be, and what was shown cannot be taken
back.  Each sentence has one of these ends:

* its cited passages say it: it leaves with the citations that contribute;
* they do not, but another passage that the model was given plainly does: it leaves with that citation instead;
* no passage does: it is removed, and counted;
* it says what is missing (a line of its own, see `prompt`): it leaves as such, because absence cannot be cited.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from workers.query.figures import digits
from workers.query.prompt import CONFLICT, MISSING, NO_ANSWER
from workers.query.search import Hit
from workers.query.sentences import Span
from workers.query.support import CONTRIBUTES, ENOUGH, PLAIN, Evidence, Source, together

Near = Callable[[str, str], bool]
"""Tells whether two texts mean the same, where words cannot tell: other words, another language."""

NOT_SAID = "Not in the documents:"
DIFFERENT = "The documents differ:"
LONGEST_MISSING = 300

_CITATION = re.compile(r"[\[【]\s*(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\s*[\]】]")
_LINK = re.compile(r"!?\[([^\[\]\n]{0,500})\]\(([^()\n]{0,2000})\)")
_REFERENCE = re.compile(r"!?\[([^\[\]\n]{0,500})\]\[(?!\s*\d{1,4}\s*\])[^\[\]\n]{0,500}\]")
_DEFINITION = re.compile(r"^[ ]{0,3}\[[^\[\]\n]{1,500}\]:\s*\S[^\n]*$", re.MULTILINE)
_ADDRESS = re.compile(
    r"(?:https?|ftp|data|javascript|vbscript|file|mailto):[^\s<>\[\]\"'）」]+|\bwww\.[^\s<>\[\]\"']+"
    r"|(?<![\w:/])//[\w.-]+\.[a-z]{2,}[^\s<>\[\]\"']*",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?[A-Za-z!][^<>\n]{0,1000}>")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")
_CITATIONS = r"(?:[ \t]*[\[【][\d\s,;]{1,40}[\]】][.。]?)*"
_UNIT = re.compile(
    rf"\n+|[^\n]*?(?:[.!?…]+[\"'»”’)*_]*{_CITATIONS}(?=\s)|[。！？]+[」』”’）]*{_CITATIONS})[ \t]*|[^\n]+(?=\n)"
)
_MARKS = re.compile(r"^\s*(?:[-*•‣–·#>]+|\(?\d{1,3}[.)])\s+|[*_`]{1,3}")
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|Sec|Art|Inc|Ltd|vs|z\.B|bzw|ca|approx)\.\s*$"
)

Fate = Literal["given", "removed", "layout", "missing", "conflict", "differ"]


@dataclass(frozen=True, slots=True)
class Said:
    """One piece of an answer as it may leave, and the spans of the passages (by number) that speak for it."""

    text: str
    fate: Fate
    quotes: tuple[tuple[int, Span], ...] = ()


class Checked:
    """Takes a model's words as they come and gives them on sentence by sentence, cleaned and checked."""

    def __init__(self, hits: Sequence[Hit], near: Near | None = None) -> None:
        self._near = near
        self._sources = [Source(hit.found.content, _context(hit)) for hit in hits]
        self._known = "\n".join(hit.found.content for hit in hits)
        self._held = ""
        self.said: list[Said] = []
        self.made_up = False
        self.removed = 0
        self.says_none = False

    def take(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield checked text; afterwards everything else here is final."""
        for piece in pieces:
            self._held += piece
            yield from self._release(last=False)
        yield from self._release(last=True)

    @property
    def refused(self) -> bool:
        """The model says that the passages do not answer, and said nothing that they do."""
        return self.says_none or not any(each.fate in ("given", "conflict") for each in self.said)

    @property
    def grounded(self) -> bool:
        """Every statement has a citation that holds, and none was made up."""
        return not self.made_up and bool(self.cited)

    @property
    def cited(self) -> list[int]:
        """Numbers of the passages that are cited, in the order of the answer."""
        return list(dict.fromkeys(number for each in self.said for number, _ in each.quotes))

    def _release(self, *, last: bool) -> Iterator[str]:
        while self._held:
            size = _ripe(self._held, last=last)
            if not size:
                return
            unit, self._held = self._held[:size], self._held[size:]
            said = self._judged(unit)
            self.said.append(said)
            if said.fate != "removed" and said.text:
                yield said.text

    def _judged(self, unit: str) -> Said:
        if NO_ANSWER in unit:
            self.says_none = True
            return Said("", "removed")
        text = self._cleaned(unit)
        numbers = self._numbers(text)
        bare = _MARKS.sub("", _CITATION.sub("", text)).strip()
        if not re.search(r"\w", bare):
            return Said(_CITATION.sub("", text), "layout")
        if bare.startswith(MISSING):
            open_part = " ".join(bare.removeprefix(MISSING).split())[:LONGEST_MISSING]
            return Said(f"{NOT_SAID} {open_part}{text[len(text.rstrip()) :]}", "missing")
        conflict = bare.startswith(CONFLICT)
        statement = bare.removeprefix(CONFLICT).strip()
        quotes = self._supported(statement, numbers)
        if not quotes:
            if bare.endswith((":", "：")) and not numbers and not digits(bare):
                return Said(text, "layout")  # leads over to a list; states nothing itself
            self.removed += 1
            return Said("", "removed")
        shown = text.replace(CONFLICT, DIFFERENT, 1) if conflict else text
        return Said(
            _recited(shown, numbers, [number for number, _ in quotes]), "conflict" if conflict else "given", quotes
        )

    def _supported(self, statement: str, numbers: Sequence[int]) -> tuple[tuple[int, Span], ...]:
        """Return the citations that hold: those of the model, else the one passage that plainly says it."""
        found = [(number, self._sources[number - 1].evidence(statement)) for number in numbers]
        held = [(number, each) for number, each in found if each is not None and each.share >= CONTRIBUTES]
        if held and together(statement, [each for _, each in held]) >= ENOUGH:
            return tuple((number, each.span) for number, each in _needed(statement, held))
        meant = tuple((number, span) for number in numbers if (span := self._meant(statement, number)) is not None)
        if meant:
            return meant
        return self._elsewhere(statement, numbers)

    def _elsewhere(self, statement: str, numbers: Sequence[int]) -> tuple[tuple[int, Span], ...]:
        best: tuple[float, int, Span] | None = None
        for number, source in enumerate(self._sources, 1):
            each = source.evidence(statement) if number not in numbers else None
            share = together(statement, [each]) if each is not None else 0.0
            if each is not None and share >= PLAIN and (best is None or share > best[0]):
                best = (share, number, each.span)
        return ((best[1], best[2]),) if best else ()

    def _meant(self, statement: str, number: int) -> Span | None:
        """Where words cannot tell, ask for the meaning; the figures must be there all the same."""
        source = self._sources[number - 1]
        if self._near is None or not digits(statement) <= source.figures:
            return None
        return next(
            (span for span in source.candidates(statement) if self._near(statement, source.content[slice(*span)])), None
        )

    def _numbers(self, text: str) -> list[int]:
        """Return the cited numbers that exist."""
        asked = [int(n) for match in _CITATION.finditer(text) for n in re.split(r"\s*[,;]\s*", match.group(1))]
        valid = [number for number in dict.fromkeys(asked) if 1 <= number <= len(self._sources)]
        self.made_up = self.made_up or len(valid) < len(set(asked))
        return valid

    def _cleaned(self, text: str) -> str:
        text = _INVISIBLE.sub("", text)
        text = _DEFINITION.sub("", text)
        text = _REFERENCE.sub(r"\1", _LINK.sub(r"\1", text))
        text = _TAG.sub("", text)
        return _ADDRESS.sub(self._address, text)

    def _address(self, match: re.Match[str]) -> str:
        """An address that a passage has is information; any other may carry the passages away."""
        address = match.group().rstrip(".,;:!?)")
        return match.group() if address in self._known else "(link removed)"


def joined(said: Sequence[Said]) -> str:
    """Return the pieces as one text, without the holes that removed ones leave."""
    text = "".join(each.text for each in said if each.fate != "removed")
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip()


def statements(answer: str) -> Iterator[tuple[str, list[int]]]:
    """Yield what a finished answer states, sentence by sentence: the bare words, and the numbers cited for them.

    A sentence without a citation of its own has the next one of its line.  What is said to be missing, and lines that
    state nothing (a heading of a list, "The documents differ:"), are passed over.
    """
    waiting: list[str] = []
    while answer:
        size = _ripe(answer, last=True)
        unit, answer = answer[:size], answer[size:]
        numbers = [int(n) for match in _CITATION.finditer(unit) for n in re.findall(r"\d+", match.group(1))]
        bare = _MARKS.sub("", _CITATION.sub("", unit)).strip().removeprefix(DIFFERENT).strip()
        leads_over = bare.endswith((":", "：")) and not numbers
        if re.search(r"\w", bare) and not bare.startswith(NOT_SAID) and not leads_over:
            waiting.append(bare)
        if numbers or "\n" in unit or not answer:
            yield from ((statement, list(dict.fromkeys(numbers))) for statement in waiting)
            waiting = []


def _ripe(held: str, *, last: bool) -> int:
    """Return how long the first whole unit of ``held`` is; 0: it is not whole yet.

    A citation may still follow a sentence's end, so a unit is whole only when something else follows it.
    """
    position = 0
    while match := _UNIT.match(held, position):
        end = match.end()
        if not last and (end >= len(held) or held[end] in "[【"):
            return 0
        if end > position and not _ABBREVIATED.search(held[:end]) and not held[end : end + 1].islower():
            return end
        position = end
    return len(held) if last else 0


def _needed(statement: str, held: Sequence[tuple[int, Evidence]]) -> list[tuple[int, Evidence]]:
    """Drop citations without which the rest says as much."""
    kept = list(held)
    for each in sorted(held, key=lambda pair: pair[1].share):
        rest = [other for other in kept if other is not each]
        if (
            rest
            and together(statement, [e for _, e in rest]) >= together(statement, [e for _, e in kept])
            and each[1].share < ENOUGH
        ):
            kept = rest
    return kept


def _recited(text: str, numbers: Sequence[int], held: Sequence[int]) -> str:
    """Return ``text`` with the citations that hold where the model put its own; at its end if it had none there."""
    if not numbers or not set(held) <= set(numbers):
        bare = _CITATION.sub("", text)
        body, space = bare.rstrip(), bare[len(bare.rstrip()) :]
        return re.sub(r"\s+([.!?。！？])$", r"\1", body) + " " + "".join(f"[{n}]" for n in held) + space

    def kept(match: re.Match[str]) -> str:
        here = [int(n) for n in re.split(r"\s*[,;]\s*", match.group(1))]
        return "".join(f"[{n}]" for n in here if n in held)

    return _CITATION.sub(kept, text)


def _context(hit: Hit) -> str:
    metadata = hit.found.metadata
    known = (metadata.get(name) for name in ("title", "heading", "path", "page", "modified", "created", "author"))
    return "\n".join(str(value) for value in known if value is not None)
