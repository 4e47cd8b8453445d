"""How a command fails: one line that says what is wrong and what to do next, and an exit code."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2
"""It was called wrongly; typer ends so by itself where a word of the command line is not what it should be."""

INVALID = "invalid_request"


class CliError(Exception):
    """An expected failure: shown as ``upwell: …``, never as a traceback."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class UsageError(CliError):
    """What was typed makes no sense, whatever the state of the world."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=EXIT_USAGE)


class NoAnswer(CliError):
    """Nobody listens where the api should be."""


class Refused(CliError):
    """The api answered with an error of its own; what it takes for a request that makes no sense was called wrongly."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message, exit_code=EXIT_USAGE if code == INVALID else EXIT_FAILED)
        self.status = status
        self.code = code
