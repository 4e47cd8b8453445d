"""What may be asked: checked once at the edge, and refused in words that say which field is wrong."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from workers.query.values import Filters, Mode, Scalar

LONGEST_QUERY = 4_000
MOST_VALUES = 1_000


class BadRequest(ValueError):
    """The request makes no sense; the text says why and never repeats what was sent."""


class SearchRequest(BaseModel):
    """A search."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    query: str = Field(min_length=1, max_length=LONGEST_QUERY)
    limit: int = Field(10, ge=1, le=100)
    mode: Mode = "hybrid"
    filters: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict, max_length=32)
    explain: bool = False

    @field_validator("filters", mode="before")
    @classmethod
    def filters_are_values(cls, filters: Any) -> Any:
        if filters is None:
            return {}
        if isinstance(filters, dict):
            for value in filters.values():
                _check_filter(value)
            if any(not isinstance(field, str) or not _is_field(field) for field in filters):
                raise ValueError("a field name has 1 to 100 characters and no quotes, brackets or empty parts")
        return filters

    @property
    def wanted(self) -> Filters:
        """The filters as values: one is a list of one."""
        return {field: tuple(v) if isinstance(v, list) else (v,) for field, v in self.filters.items()}


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["user", "assistant", "system"]
    content: str = Field(max_length=32_000)


class AnswerRequest(SearchRequest):
    """A question; without ``query``, the last thing that the user said."""

    limit: int = Field(8, ge=1, le=100)
    messages: list[Message] = Field(default_factory=list, max_length=200)

    @model_validator(mode="before")
    @classmethod
    def the_last_message_may_be_the_question(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and not raw.get("query") and isinstance(raw.get("messages"), list):
            said = [m.get("content") for m in raw["messages"] if isinstance(m, dict) and m.get("role") == "user"]
            if said:
                return raw | {"query": said[-1]}
        return raw

    @property
    def history(self) -> list[Message]:
        """What was said before the question."""
        talk = [message for message in self.messages if message.role != "system"]
        if talk and talk[-1].role == "user" and talk[-1].content.strip() == self.query:
            talk.pop()
        return talk


_Asked = TypeVar("_Asked", bound=SearchRequest)


def read(model: type[_Asked], raw: object) -> _Asked:
    """Return the request in ``raw`` (a JSON object).

    Raises:
        BadRequest: it is not one.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        raise BadRequest("; ".join(_told(error) for error in exc.errors()[:5])) from None


def _told(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"][:1]) or "request"
    what = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}"


def _check_filter(value: Any) -> None:
    """Raise for what is not a value or a list of values; operators are refused, not ignored."""
    if isinstance(value, dict):
        raise ValueError("a filter is a value, or a list of values of which one must fit; there are no operators")
    values = value if isinstance(value, list) else [value]
    if not values or len(values) > MOST_VALUES:
        raise ValueError(f"a list of values has 1 to {MOST_VALUES} of them")
    for one in values:
        if not isinstance(one, str | int | float) or (isinstance(one, float) and not math.isfinite(one)):
            raise ValueError("a filter's value is a text, a number, true or false")
        if isinstance(one, int) and not -(2**63) <= one < 2**63:
            raise ValueError("a number is out of range")


def _is_field(name: str) -> bool:
    return 0 < len(name) <= 100 and all(name.split(".")) and not set(name) & set("\"'[]\\\0")
