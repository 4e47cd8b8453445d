"""Reads JSON objects field by field, and lets no unknown field pass: what we do not know, we do not do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar, cast
from uuid import UUID

from ops.embedded.qdrant.errors import BadRequest, Invalid

T = TypeVar("T")

_USUAL_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""How a UUID is nearly always written; what else it may look like takes ten times as long to tell."""


def malformed(what: str) -> BadRequest:
    """Return the error for JSON of the wrong shape."""
    return BadRequest(f"Format error in JSON body: {what}")


class Fields:
    """One JSON object; each known field is taken once, and `done` refuses what is left.  null is the same as absent."""

    __slots__ = ("_left", "_where")

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise malformed(f"{where} must be an object")
        self._left: dict[str, Any] = {name: field for name, field in value.items() if field is not None}
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def __bool__(self) -> bool:
        return bool(self._left)

    def any(self, name: str) -> Any:
        """Take a field of any type; None when absent."""
        return self._left.pop(name, None)

    def required(self, name: str) -> Any:
        """Take a field that must be there."""
        if name not in self._left:
            raise malformed(f"missing field `{name}` in {self._where}")
        return self._left.pop(name)

    def text(self, name: str) -> str | None:
        """Take a string."""
        return cast(str | None, self._typed(name, (str,), "a string"))

    def required_text(self, name: str) -> str:
        """Take a string that must be there."""
        value = self.required(name)
        if not isinstance(value, str):
            raise malformed(f"{self._where}.{name} must be a string")
        return value

    def flag(self, name: str) -> bool | None:
        """Take a boolean."""
        return cast(bool | None, self._typed(name, (bool,), "a boolean"))

    def whole(self, name: str, *, at_least: int = 0) -> int | None:
        """Take an integer with a lower limit."""
        value = cast(int | None, self._typed(name, (int,), "an integer"))
        if value is not None and value < at_least:
            raise Invalid(
                f"Validation error in JSON body: [{self._where}.{name}: value {value} invalid,"
                f" must be {at_least} or larger]"
            )
        return value

    def number(self, name: str) -> float | None:
        """Take a number."""
        value = self._typed(name, (int, float), "a number")
        return None if value is None else float(cast(float, value))

    def words(self, name: str) -> list[str] | None:
        """Take a list of strings."""
        value = self.any(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise malformed(f"{self._where}.{name} must be a list of strings")
        return cast(list[str] | None, value)

    def items(self, name: str) -> list[Any] | None:
        """Take a list."""
        return cast(list[Any] | None, self._typed(name, (list,), "a list"))

    def object(self, name: str) -> dict[str, Any] | None:
        """Take an object."""
        return cast(dict[str, Any] | None, self._typed(name, (dict,), "an object"))

    def one_of(self, name: str, choices: dict[str, T]) -> T | None:
        """Take one of several words."""
        word = self.text(name)
        return None if word is None else chosen(word, choices, f"{self._where}.{name}")

    def read(self, name: str, reader: Callable[[Any], T]) -> T | None:
        """Take a field through a reader of its own."""
        value = self.any(name)
        return None if value is None else reader(value)

    def ignore(self, *names: str) -> None:
        """Take fields that change nothing in the result."""
        for name in names:
            self._left.pop(name, None)

    def done(self) -> None:
        """Refuse what nobody took."""
        for name in self._left:
            raise malformed(f"unknown field `{name}` in {self._where}")

    def _typed(self, name: str, types: tuple[type, ...], wanted: str) -> Any:
        value = self._left.pop(name, None)
        # bool is an int to Python, and none to JSON.
        if value is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            raise malformed(f"{self._where}.{name} must be {wanted}")
        return value


def has_just(value: Any, names: frozenset[str]) -> bool:
    """Tell whether a value is an object with these fields, none of them null, and no other: what `Fields` would find.

    Nearly all points look like that, and to take their fields out of `Fields` one by one takes longer than to look.
    """
    return isinstance(value, dict) and value.keys() == names and None not in value.values()


def chosen(word: Any, choices: dict[str, T], where: str) -> T:
    """Return what a word stands for."""
    if not isinstance(word, str) or word not in choices:
        raise malformed(f"{where} must be one of {', '.join(choices)}")
    return choices[word]


def point_id(value: Any) -> int | str:
    """Return a point's id, if it can be one: an unsigned integer or a UUID."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return value
    if isinstance(value, str):
        if _USUAL_ID.fullmatch(value):
            return value
        try:
            UUID(value)
        except ValueError:
            pass
        else:
            return value
    raise malformed("value is not a valid point ID, which is either an unsigned integer or a UUID")


def point_ids(value: Any) -> list[int | str]:
    """Return a list of points' ids."""
    if not isinstance(value, list):
        raise malformed("ids must be a list")
    return [point_id(item) for item in value]


def enum_words(enum: Any) -> dict[str, Any]:
    """Return the words that JSON has for an enum of the engine: `OneAndHalfBits` -> `one_and_half_bits`."""
    names = [name for name in vars(enum) if not name.startswith("_")]
    return {_snake(name): getattr(enum, name) for name in names if isinstance(getattr(enum, name), enum)}


def enum_word(value: Any) -> str:
    """Return the word that JSON has for a value of one of the engine's enums."""
    return _snake(str(value).rpartition(".")[2])


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
