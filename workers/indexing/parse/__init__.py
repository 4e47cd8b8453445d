"""Turns the bytes of a file into elements, in child processes."""

PARSER_VERSION = "0"
