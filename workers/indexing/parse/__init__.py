"""Turns the bytes of a file into elements, in child processes that may die.

Nothing is imported here: every child pays for it at its start, and needs a reader, not the pool.
"""

PARSER_VERSION = "4"
