"""Tells when two sentences answer the same question differently.  Pure; it sees values and denials, not meaning.

A value is a number, a month, a day of the week, or a name where the sentence says that somebody or something *is* it.
Two sentences contradict each other when they say another value of the same kind of the same thing, or when one denies
what the other asserts.  They are of two things, and both may be true,

* where each names something of its own: another place, another product;
* where one is narrowed by a word that the other does not have: the boiler *of the flat*, the *summer* ticket;
* where one points at what stands before it, or at its own document (*this* agreement, *such* a fee), unless the two
  documents are versions of one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.adapters.bm25 import query_vector, word_ids
from workers.query.figures import Kind, values, without_values
from workers.query.support import denies

ALIKE = 0.4
"""Share of words that two sentences have in common (of all that either has) to be about the same thing."""

LEAST_WORDS = 2

LONGEST_NAME = 4
"""Words of a name that is said instead of another."""

_WORD = re.compile(r"[^\W_]+(?:[.'’-][^\W_]+)*\.?")


def _set(*words: str) -> frozenset[str]:
    return frozenset(" ".join(words).split())


_IS = _set("is was are were ist war sind waren est était sont es era son fue by von par por")
_THE = _set("the der die das den dem des le la les l' el los las our unser unsere notre nuestro nuestra")
_ARTICLES = _THE | _set(
    "a an ein eine einen einem einer eines un une una unos unas its their ihr ihre seine su sus leur"
)
_NARROWING = _set(
    "of in on at for during under with without inside outside per",
    "von vom in im an am auf für bei beim während unter mit ohne zu zur zum je pro der des",
    "de du des d' dans en sur pour pendant sous avec sans chez à au aux",
    "del en sobre para durante bajo con sin a al",
)
"""What comes after one of these says of what, where or when a sentence is true.  Not after by, from, since or until."""

_FUNCTION = (_IS | _ARTICLES | _NARROWING) | _set(
    "und oder auch nicht nur sich als wie wird werden wurde wurden hat haben dass wenn nach aus über durch es sie er",
    "et ou que qui ne pas se il elle ils elles ont sera été être plus y o no se que lo ha han ser más si cuando",
)
"""Words that say nothing of what a sentence is about; English ones have no tokens anyway."""

_SAYS_NOTHING = _set(
    "end total all general fact practice short particular addition case sum new current",
    "ende insgesamt summe allgemeinen allgemein regel praxis kürze fall neue neuer neuen neues aktuelle aktueller",
    "tout général fait bref somme cas nouveau nouvelle actuel actuelle total resumen suma caso nuevo nueva actual",
)
"""Words in such a place that narrow nothing: in total, im Allgemeinen, the new code."""

_POINTING = re.compile(
    r"\b(?:this|these|such|said|herein|hereof|hereby|hereunder|hereto|dies(?:e[rsmn]?)?|solche[rsmn]?|vorliegende[rsmn]?"
    r"|ce(?:t|tte|s)?|the present|este|esta|estos|estas|dicho|dicha|aquest[ae]?s?)\b",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"^\W*(?:\d+[.)]|\d+(?:\.\d+)+\.?(?-i:(?=\s+[A-ZÄÖÜ]))|\(?[a-z]{1,4}\))\s+"
    r"|(?:§§?|\b(?:sections?|articles?|clauses?|paragraphs?|chapters?|figures?|tables?|exhibits?|appendix|schedules?"
    r"|artikels?|art|abschnitts?|absatz|absätze|abs|nummer|nr|satz|buchstabe|anlage|kapitel|tabelle|abbildung|abb"
    r"|artículos?|apartados?|capítulos?|chapitres?|annexe|alinéa)\b\.?)\s*\d+[a-z]?(?:[.,]\d+)*"
    r"(?:\s*(?:,|and|or|und|oder|et|y|to|bis|-|–)\s*\d+[a-z]?(?:[.,]\d+)*)*"
    r"|\[[\d,\s–-]+\]|\(\d{1,3}(?:\s*[,–-]\s*\d{1,3})*\)",
    re.IGNORECASE,
)
"""A number that says where something stands: "7.2 Governing Law", "(vi) This covenant", "§ 12 Abs. 3", "[33]"."""

_NAMED = re.compile(r"\b(?!(?:EUR|USD|GBP|CHF)\d)[^\W\d_]+[-–]?\d[\w–-]*|\b\d+-[^\W\d_]*[A-Z]\w*")
"""A number that is a part of a name: ACE2, COVID-19, 2019-nCoV."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A sentence, as far as it can be compared: what it speaks of, what it says of it, what it names."""

    words: frozenset[int]
    values: dict[Kind, frozenset[str]]
    names: frozenset[str]
    denies: bool
    points: bool
    governed: tuple[frozenset[int], ...]
    """Words after "of", "in", "for": they narrow what is said, if the other sentence does not have them."""
    attributes: tuple[tuple[frozenset[int], frozenset[int]], ...]
    """Words that stand before another, and that one: they narrow it, if it is all that the other sentence has."""


def contradict(question: str, one: str, other: str, *, versions: bool = False) -> bool:
    """Tell whether two sentences say the same of the same thing, but for a value or a denial.

    A value of the question (pump 3, 2024) belongs to what is asked about, so both must have it or neither.
    ``versions``: they stand in two versions of one text.
    """
    first, second = _read(one), _read(other)
    if _narrower(first, second) or _narrower(second, first):
        return False
    return _differ(question, one, other, first, second, versions=versions)


def narrows(question: str, one: str, other: str) -> bool:
    """Tell whether ``other`` says another value than ``one`` of a part, a place or a time of the same thing.

    Both may be true, and who asked for the code of the boiler without a word of the flat wants to see both.
    """
    first, second = _read(one), _read(other)
    return (
        first.denies == second.denies
        and _narrower(second, first)
        and _differ(question, one, other, first, second, versions=False)
    )


def _differ(question: str, one: str, other: str, first: _Said, second: _Said, *, versions: bool) -> bool:
    """Tell whether two sentences that may be about the same thing say another value of it, or deny each other."""
    asked = _values(question)
    if any(first.values[kind] & asked[kind] != second.values[kind] & asked[kind] for kind in asked):
        return False
    if (first.points or second.points) and not versions:
        return False
    if _named_otherwise(question, one, other):
        return first.denies == second.denies
    common = first.words & second.words
    if len(common) < LEAST_WORDS or len(common) < ALIKE * len(first.words | second.words):
        return False
    if first.names - second.names and second.names - first.names:
        return False
    said = [(first.values[kind] - asked[kind], second.values[kind] - asked[kind]) for kind in asked]
    if first.denies != second.denies:
        return all(mine == theirs for mine, theirs in said)
    return any(not (mine <= theirs or theirs <= mine) for mine, theirs in said)


def _read(text: str) -> _Said:
    text = _REFERENCE.sub(" ", text)
    return _Said(
        frozenset(query_vector(_WORD.sub(_content, without_values(text))).indices),
        _values(text),
        _names(text),
        denies(text),
        _POINTING.search(text) is not None,
        *_narrowing(text),
    )


def _content(found: re.Match[str]) -> str:
    return "" if found.group().rstrip(".").casefold() in _FUNCTION else found.group()


def _values(text: str) -> dict[Kind, frozenset[str]]:
    return values(_NAMED.sub(" ", _REFERENCE.sub(" ", text)))


def _narrower(one: _Said, other: _Said) -> bool:
    """Tell whether ``one`` is about a part, a place or a time of what ``other`` is about."""
    return any(not ids & other.words for ids in one.governed) or any(
        ids & other.words and not before & other.words for before, ids in one.attributes
    )


def _narrowing(text: str) -> tuple[tuple[frozenset[int], ...], tuple[tuple[frozenset[int], frozenset[int]], ...]]:
    """Return the words that others govern, and those that stand before another at the beginning of its phrase."""
    words = [word.rstrip(".").casefold() for word in _WORD.findall(text)]
    meant = [frozenset[int]() if _says_nothing(word) else frozenset(word_ids(word)) for word in words]
    governed, attributes = [], []
    begins, rules = True, False  # a phrase begins here; a word before it governs it
    for at, (word, ids) in enumerate(zip(words, meant, strict=True)):
        if word in _NARROWING or word in _ARTICLES:
            begins, rules = True, rules or word in _NARROWING
            continue
        if ids and rules:
            governed.append(ids)
        if ids and begins and at + 1 < len(words) and meant[at + 1]:
            attributes.append((ids, meant[at + 1]))
        begins = rules = False
    return tuple(governed), tuple(attributes)


def _says_nothing(word: str) -> bool:
    return word in _SAYS_NOTHING or word in _FUNCTION or denies(word) or not without_values(word).strip()


def _names(text: str) -> frozenset[str]:
    """Return the words with a capital; the first only if it has another inside (MERS-CoV).  In German: the nouns."""
    first, *others = _WORD.findall(without_values(text)) or [""]
    names = others if first[1:] == first[1:].lower() else [first, *others]
    return frozenset(word.rstrip(".").casefold() for word in names if word[:1].isupper())


def _named_otherwise(question: str, one: str, other: str) -> bool:
    """Tell whether the sentences are equal but for a name, in a place where there can be only one.

    "The head of the clinic *is* Weber", "it was founded *by* Weber", "Weber *is the* head of the clinic".
    """
    first, second = _WORD.findall(one), _WORD.findall(other)
    start = _common(first, second)
    while start and first[start - 1][:1].isupper() and first[start - 1].casefold() not in _THE:
        start -= 1  # a title, or a first name that both have
    end = _common(first[start:][::-1], second[start:][::-1])
    mine, theirs = first[start : len(first) - end], second[start : len(second) - end]
    if start + end < LEAST_WORDS + 1 or not (_is_name(mine) and _is_name(theirs)):
        return False
    if {word.casefold() for word in (*mine, *theirs)} & {word.casefold() for word in _WORD.findall(question)}:
        return False
    after = [word.casefold() for word in first[len(first) - end :][:2]]
    before = first[start - 1].casefold() if start else ""
    return before in _IS or (not start and len(after) == 2 and after[0] in _IS and after[1] in _THE)


def _is_name(words: list[str]) -> bool:
    return 0 < len(words) <= LONGEST_NAME and all(word[:1].isupper() for word in words)


def _common(one: list[str], other: list[str]) -> int:
    """Return how many words two lists have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a.casefold() != b.casefold()), min(len(one), len(other)))
