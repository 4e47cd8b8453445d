"""What is wrong with a request, in words for whoever sent it: pydantic's findings, and never what was sent.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAID = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_type": "must be a text",
    "string_sub_type": "must be a text",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length:,} characters",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "list_type": "must be a list",
    "too_short": "must have at least {min_length:,}",
    "too_long": "must have at most {max_length:,}",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "json_invalid": "must be JSON",
    "uuid_type": "must be an id (a UUID)",
    "uuid_parsing": "must be an id (a UUID)",
}


def told(fault: Mapping[str, Any]) -> str:
    """Return what one finding of pydantic says, to be put after the field's name; pydantic's words where we have none.

    https://docs.pydantic.dev/latest/errors/validation_errors/
    """
    said = _SAID.get(str(fault["type"]))
    if said is None:
        return str(fault["msg"]).removeprefix("Value error, ")
    context: Mapping[str, Any] = fault.get("ctx") or {}
    if said == _SAID["string_too_short"] and context.get("min_length", 1) > 1:
        said = "must have at least {min_length:,} characters"
    return said.format(**context)
