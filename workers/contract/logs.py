"""One way to log: events have names, context is bound once, secrets and document text never appear.

Whose exception it is decides what is told of it: ours are written not to repeat what somebody gave us; those of others
do (pydantic its input, SQLAlchemy its parameters, Celery the body of a message), so that of them only the class and
the lines of code are told.  UPWELL_LOG_LEVEL=debug is for our own events; a library that is asked for its debug output
repeats what it handles, so libraries tell "info" at most (ADR 0045).
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any, Literal

import structlog

OURS = ("workers", "producers", "ops")


def set_up_logs(process: str, *, level: str = "info", fmt: Literal["json", "console"] = "json") -> None:
    """Send structlog's and the standard library's records to standard error in one shape."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if fmt == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_without_data)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(_told),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.getLevelName(level.upper()), logging.INFO))
    for ours in OURS:
        logging.getLogger(ours).setLevel(level.upper())
    for noisy in ("httpx", "httpx2", "httpcore", "openai", "watchdog", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(process=process)
    sys.excepthook = _unhandled
    threading.excepthook = lambda args: _unhandled(args.exc_type, args.exc_value, args.exc_traceback)


def _unhandled(kind: type[BaseException], exc: BaseException | None, trace: TracebackType | None) -> None:
    """Log what nobody has caught; Python would print it whole."""
    if exc is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        structlog.get_logger().critical("unhandled", error=kind.__name__, exc_info=(kind, exc, trace))


def _told(exc_info: Any) -> str:
    """Return a traceback with the lines of code, and the text of an exception only where it is one of ours."""
    parts: list[str] = []
    exc: BaseException | None = exc_info[1]
    while exc is not None and len(parts) < 10:
        frames = "".join(traceback.format_tb(exc.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{_class_and_text(exc)}")
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return "\n\n".join(reversed(parts))


def _class_and_text(exc: BaseException) -> str:
    kind = type(exc)
    if kind.__module__.partition(".")[0] in OURS:
        return f"{kind.__name__}: {exc}"
    if isinstance(exc, OSError) and exc.strerror:
        return f"{kind.__name__}: {exc.strerror}"
    return f"{kind.__module__}.{kind.__name__}"


def _without_data(record: logging.LogRecord) -> bool:
    """Take out of the records of others what they repeat: bodies of messages, arguments, texts of exceptions."""
    if record.name.startswith("celery.worker.consumer") and "body" in str(record.msg):
        record.msg, record.args, record.exc_info = "A message that no release of Upwell sends was dropped.", (), None
    elif record.name.startswith("celery") and isinstance(record.args, dict) and "exc" in record.args:
        kind = record.exc_info[0] if record.exc_info else None
        record.args = record.args | {"exc": kind.__name__ if kind else "", "args": "", "kwargs": "", "traceback": ""}
    elif record.name == "asyncio":
        record.msg, record.args = record.getMessage().partition("\n")[0], ()
    return True
