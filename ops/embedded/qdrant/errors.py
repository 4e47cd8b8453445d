"""What can be wrong with a request, with the status code and the words that Qdrant's server has for it.

* ApiError
  - BadRequest (400), NotFound (404), Conflict (409), Invalid (422), EngineFailed (500), NotDone (501),
    StorageFull (507)
"""

from __future__ import annotations


class ApiError(Exception):
    """Base of all; `str(error)` is what the client reads."""

    status = 500


class BadRequest(ApiError):
    """The request makes no sense for this collection."""

    status = 400


class NotFound(ApiError):
    """There is no such collection, alias, point or route."""

    status = 404


class Conflict(ApiError):
    """The name is taken."""

    status = 409


class Invalid(ApiError):
    """A value is outside its limits."""

    status = 422


class EngineFailed(ApiError):
    """The engine failed for a reason that is not the client's."""

    status = 500


class NotDone(ApiError):
    """Qdrant's server can do it, the embedded one cannot; never answered with something similar."""

    status = 501

    def __init__(self, what: str) -> None:
        super().__init__(
            f"Not implemented: the embedded Qdrant does not do {what}. Use a Qdrant server (UPWELL_QDRANT_URL) for it."
        )


class StorageFull(ApiError):
    """The disk has too little room left to write; reading goes on."""

    status = 507


MISSING_POINT = "No point with id"

# How the engine's messages begin when the request is at fault.  It raises one class for everything.
_CLIENTS_FAULT = (
    "Vector dimension error",
    "Not existing vector name error",
    "Wrong usage of",
    "Payload type does not match",
    "Unable to infer type",
    "Validation failed",
    "Type Error",
    "No range index",
    "No appropriate index",
    "Expected ",
    "Missing ",
    "No value found",
    "The value of ",
    "Named vector",
    "Vector name",
)
# A formula that has no value for a point ends this way.
_NO_VALUE = "Operation cancelled"


class _Engine:
    """A block in which the engine is called; written out, because two of them are entered for each point."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, exc: BaseException | None, _traceback: object) -> None:
        if exc is None:
            return
        if isinstance(exc, ValueError | TypeError | OverflowError):
            raise BadRequest(f"Wrong input: {_first_line(exc)}") from exc
        if isinstance(exc, Exception):
            raise _translated(exc) from exc
        if type(exc).__name__ == "PanicException":  # pyo3's; no subclass of Exception
            raise EngineFailed("Service internal error: the engine panicked.") from exc


_ENGINE = _Engine()


def engine() -> _Engine:
    """Translate what the engine raises."""
    return _ENGINE


def _translated(exc: Exception) -> ApiError:
    text = _first_line(exc)
    if isinstance(exc, ApiError):
        return exc
    if text.startswith(MISSING_POINT):
        return NotFound(f"Not found: {text} found")
    if text.startswith(_CLIENTS_FAULT):
        return BadRequest(f"Wrong input: {text}")
    if text.startswith(_NO_VALUE):
        return BadRequest("Wrong input: the formula has no value for a point; give it one in `defaults`.")
    return EngineFailed(f"Service internal error: {text}")


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0][:300]
