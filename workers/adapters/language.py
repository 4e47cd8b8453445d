"""Which language a text is in, as far as BM25 wants to know: told by its stop words, in microseconds.  Pure.

Only languages that Qdrant can stem count.  Each distinct stop word gives its vote to the languages that have it, in
equal parts; scripts that one such language has to itself need no vote.  Whole documents are told by the parser
(`langdetect`, milliseconds); chunks and queries, which may be in another language than their document, by this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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
_ENGLISH_ONLY = frozenset(STOP_WORDS["english"].split()).difference(
    *(words.split() for name, words in STOP_WORDS.items() if name != "english")
)
_LETTERS = re.compile(r"[^\W\d_]+")
_LOWER_LETTERS = bytes(ord(chr(code).lower()) if chr(code).isalpha() else ord(" ") for code in range(128)).ljust(256)
_VOTE = lcm(*range(1, len(_LATIN) + 1))
"""One vote, as a number that all shares of it divide: a sum must not depend on the order of its parts."""
_COUNTERS = Struct(f"<{len(_LATIN)}Q")
_LEAD = 1.25
"""How many times the votes of the second the first needs: Danish and Norwegian, Spanish and Portuguese are close."""


def language_of(text: str, *, question: bool = False) -> str | None:
    """Return Qdrant's name of the language that ``text`` is in; None when its stop words do not tell.

    A ``question`` is short: one stop word is enough there, where a text needs two.
    """
    sample = _sample(text)
    return _of_script(sample) or _elected(_STOP_WORDS.intersection(_words(sample)), question=question)


def other_language_of(text: str) -> str | None:
    """Return what `language_of` does, but None for English: most texts are told to be in no other in half the time."""
    sample = _sample(text)
    if (own := _of_script(sample)) is not None:
        return own
    found = _STOP_WORDS.intersection(_words(sample))
    shared = len(found - _ENGLISH_ONLY)
    if shared < _LEAD * (len(found) - shared):  # no other language can have more votes than there are such words
        return None
    own = _elected(found)
    return own if own != "english" else None


def _sample(text: str) -> str:
    sample = text[:SAMPLE]
    return sample if sample.isascii() else sample.lower()


def _of_script(sample: str) -> str | None:
    if not sample.isascii() and _OWN_SCRIPT.search(sample):
        joined = "".join(_words(sample))
        for name, script in _SCRIPTS.items():
            if len(script.findall(joined)) * 2 > len(joined):
                return name
    return None


def _elected(stop_words: Iterable[str], *, question: bool = False) -> str | None:
    votes = _COUNTERS.unpack(sum(map(_ballots().__getitem__, stop_words)).to_bytes(_COUNTERS.size, "little"))
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
    """Return every run of letters; of a text in ASCII in lower case."""
    if sample.isascii():  # in an eighth of the time
        return sample.encode().translate(_LOWER_LETTERS).decode().split()
    return _LETTERS.findall(sample)
