"""Turns the bytes of a file into elements, in child processes that may die."""

from workers.indexing.parse.limits import Limits
from workers.indexing.parse.pool import ParserPool

PARSER_VERSION = "4"

__all__ = ["PARSER_VERSION", "Limits", "ParserPool"]
