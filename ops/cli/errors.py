"""How a command fails: one line that says what is wrong and what to do next, and an exit code."""

from __future__ import annotations

EXIT_FAILED = 1


class CliError(Exception):
    """An expected failure: shown as ``upwell: …``, never as a traceback."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NoAnswer(CliError):
    """Nobody listens where the api should be."""


class Refused(CliError):
    """The api answered with an error of its own."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
