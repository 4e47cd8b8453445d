"""Reads the figures of a text: numbers however they are written, and what else has one value of a few.  Pure.

A number means the same with or without separators between its thousands (1,250 and 1.250 and 1 250), with a comma or a
point before its decimals, and with zeros at its end (3.50 and 3.5).  What has several separators that part no thousands
(12.03.2024, 2.0.1) is kept as it is written.
"""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["number", "month", "day"]

_NUMBER = re.compile(r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?![\d.,])|\d+(?:[.,'’]\d+)*")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:[.,'’ \u00a0\u202f]\d{3})+")
_SEPARATOR = re.compile(r"[.,'’ \u00a0\u202f]")
_WORD = re.compile(r"[^\W\d_]+")

_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve",
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze",
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce",
)
_NUMERALS = {word: str(value) for words in _COUNTING for value, word in enumerate(words.split())}
_ARTICLES = frozenset({"one", "un", "eins", "uno"})
_MONTHS = (
    "january february march april may june july august september october november december",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
)
_DAYS = (
    "monday tuesday wednesday thursday friday saturday sunday",
    "montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "lunes martes miércoles jueves viernes sábado domingo",
)
_CALENDAR = {word: f"month {at}" for words in _MONTHS for at, word in enumerate(words.split(), 1)} | {
    word: f"day {at}" for words in _DAYS for at, word in enumerate(words.split(), 1)
}
_ALSO_WORDS = frozenset({"may", "march", "mars"})
"""Months that are also plain words: they count only with a capital (May, March)."""


def digits(text: str) -> frozenset[str]:
    """Return the numbers that ``text`` has in digits."""
    return frozenset(map(_plain, _NUMBER.findall(text)))


def figures(text: str) -> frozenset[str]:
    """Return the numbers that ``text`` can vouch for: its digits, and its small numerals (seven is 7)."""
    return digits(text) | {_NUMERALS[word] for word in map(str.lower, _WORD.findall(text)) if word in _NUMERALS}


def values(text: str) -> dict[Kind, frozenset[str]]:
    """Return what ``text`` says of each kind that has one value of a few: numbers, months, days of the week.

    "One" is left out: it is an article more often than a number.
    """
    words = _WORD.findall(text)
    numbers = digits(text) | {
        _NUMERALS[word.lower()] for word in words if word.lower() in _NUMERALS and word.lower() not in _ARTICLES
    }
    dated = {
        _CALENDAR[word.lower()]
        for word in words
        if word.lower() in _CALENDAR and (word.lower() not in _ALSO_WORDS or word[:1].isupper())
    }
    return {
        "number": numbers,
        "month": frozenset(each for each in dated if each.startswith("month")),
        "day": frozenset(each for each in dated if each.startswith("day")),
    }


def without_values(text: str) -> str:
    """Return ``text`` without its numbers, months and days: what it says them of."""
    text = _NUMBER.sub(" ", text)
    return _WORD.sub(lambda found: " " if found.group().lower() in _NUMERALS | _CALENDAR else found.group(), text)


def _plain(number: str) -> str:
    """Return one spelling for all that write the same number."""
    if _THOUSANDS.fullmatch(number):
        return _SEPARATOR.sub("", number)
    parts = _SEPARATOR.split(number)
    if len(parts) == 1:
        return number
    last = re.split(r"[.,]", number)[-1]
    whole = number[: len(number) - len(last) - 1]
    grouped = _THOUSANDS.fullmatch(whole) and number[len(whole)] != whole[-4]
    if len(parts) > 2 and not grouped:
        return ".".join(parts)
    decimals = last.rstrip("0")
    whole = _SEPARATOR.sub("", whole)
    return f"{whole}.{decimals}" if decimals else whole
