"""Which language a text is in, as far as BM25 wants to know: told by its stop words, in microseconds.  Pure.

Only languages that Qdrant can stem count.  Each distinct stop word gives its vote to the languages that have it, in
equal parts; scripts that one such language has to itself need no vote.  Whole documents are told by the parser
(`langdetect`, milliseconds); chunks and queries, which may be in another language than their document, by this.
"""

from __future__ import annotations

import re
from functools import cache
from math import lcm
from struct import Struct

from workers.adapters.stop_words import STOP_WORDS

NAMES = {
    "ar": "arabic",
    "da": "danish",
    "nl": "dutch",
    "en": "english",
    "fi": "finnish",
    "fr": "french",
    "de": "german",
    "el": "greek",
    "hu": "hungarian",
    "it": "italian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "es": "spanish",
    "sv": "swedish",
    "tr": "turkish",
}
"""ISO 639-1 code -> Qdrant's name of the language."""

SAMPLE = 4000
_SCRIPTS = {
    "arabic": re.compile("[\u0600-\u06ff]"),
    "greek": re.compile("[\u0370-\u03ff]"),
    "russian": re.compile("[\u0400-\u04ff]"),
}
_OWN_SCRIPT = re.compile("[\u0370-\u03ff\u0400-\u04ff\u0600-\u06ff]")
_LATIN = tuple(STOP_WORDS)
_STOP_WORDS = frozenset(" ".join(STOP_WORDS.values()).split())
_LETTERS = re.compile(r"[^\W\d_]+")
_NO_LETTERS = bytes(code if chr(code).isalpha() else ord(" ") for code in range(128)).ljust(256)
_VOTE = lcm(*range(1, len(_LATIN) + 1))
"""One vote, as a number that all shares of it divide: a sum must not depend on the order of its parts."""
_COUNTERS = Struct(f"<{len(_LATIN)}Q")
_LEAD = 1.25
"""How many times the votes of the second the first needs: Danish and Norwegian, Spanish and Portuguese are close."""


def language_of(text: str, *, question: bool = False) -> str | None:
    """Return Qdrant's name of the language that ``text`` is in; None when its stop words do not tell.

    A ``question`` is short: one stop word is enough there, where a text needs two.
    """
    sample = text[:SAMPLE].lower()
    if not sample.isascii() and _OWN_SCRIPT.search(sample):
        joined = "".join(_words(sample))
        for name, script in _SCRIPTS.items():
            if len(script.findall(joined)) * 2 > len(joined):
                return name
    ballots = map(_ballots().__getitem__, _STOP_WORDS.intersection(_words(sample)))
    votes = _COUNTERS.unpack(sum(ballots).to_bytes(_COUNTERS.size, "little"))
    second, most = sorted(votes)[-2:]
    if most < (0.5 if question else 1.5) * _VOTE or most < _LEAD * second:
        return None
    return _LATIN[votes.index(most)]


@cache
def _ballots() -> dict[str, int]:
    """Return how each stop word votes: a counter for each language in one number, since adding up is the most work."""
    speakers: dict[str, list[int]] = {}
    for place, name in enumerate(_LATIN):
        for word in STOP_WORDS[name].split():
            speakers.setdefault(word, []).append(place)
    return {word: sum(_VOTE // len(places) << 64 * place for place in places) for word, places in speakers.items()}


def _words(sample: str) -> list[str]:
    if sample.isascii():  # the same in an eighth of the time
        return sample.encode().translate(_NO_LETTERS).decode().split()
    return _LETTERS.findall(sample)
