"""Which language a text is in, as far as BM25 wants to know: told by its stop words, in microseconds.  Pure.

Only languages that Qdrant can stem count.  Each distinct stop word gives its vote to the languages that have it, in
equal parts; scripts that one such language has to itself need no vote.  Whole documents are told by the parser
(`langdetect`, milliseconds); chunks and queries, which may be in another language than their document, by this.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from math import lcm
from typing import Any

from qdrant_edge import Bm25, Bm25Config, Language, StopwordsSet

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
_LATIN = tuple(name for name in NAMES.values() if name not in _SCRIPTS)
_LETTERS = re.compile(r"[^\W\d_]+")
_NO_LETTERS = bytes(code if chr(code).isalpha() else ord(" ") for code in range(128)).ljust(256)
_LONGEST_STOP_WORD = 12
MOST_PLAIN = 1 << 16
_VOTE = lcm(*range(1, len(_LATIN) + 1))
"""One vote, as a number that all shares of it divide: a sum must not depend on the order of its parts."""
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
    words = set(_words(sample)) - _plain
    for word in words - _stop_words.keys():
        names = _stop_word_of(word) if len(word) <= _LONGEST_STOP_WORD else ()
        if names:
            _stop_words[word] = names
        else:
            _remember_plain(word)
    ballots = Counter(map(_stop_words.__getitem__, words & _stop_words.keys()))
    votes: dict[str, int] = {}
    for names, count in ballots.items():
        part = count * _VOTE // len(names)
        for name in names:
            votes[name] = votes.get(name, 0) + part
    if not votes:
        return None
    first = max(votes, key=votes.__getitem__)
    most = votes.pop(first)
    if most < (0.5 if question else 1.5) * _VOTE or most < _LEAD * max(votes.values(), default=0):
        return None
    return first


def _words(sample: str) -> list[str]:
    if sample.isascii():  # the same in an eighth of the time
        return sample.encode().translate(_NO_LETTERS).decode().split()
    return _LETTERS.findall(sample)


_plain: set[str] = set()
"""Words met before that are no stop words of anybody: nearly all of a text, and left out in one go."""


def _remember_plain(word: str) -> None:
    if len(_plain) >= MOST_PLAIN:
        _plain.clear()
    _plain.add(word)


_stop_words: dict[str, tuple[str, ...]] = {}
"""Words met before that are, and whose: some thousands at most, as the lists of all languages have no more."""


def _stop_word_of(word: str) -> tuple[str, ...]:
    if _anybodys().embed_query(word).indices:  # nearly every word: one question instead of one for each language
        return ()
    return tuple(name for name in _LATIN if not _model(name).embed_query(word).indices)


@cache
def _anybodys() -> Any:
    """Return a model that knows the stop words of all Latin languages."""
    languages = {getattr(Language, name.capitalize()) for name in _LATIN}
    return Bm25(Bm25Config(stopwords=StopwordsSet(languages=languages, custom=None)))


@cache
def _model(name: str) -> Any:
    return Bm25(Bm25Config(language=name))
