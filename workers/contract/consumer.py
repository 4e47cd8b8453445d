"""Celery's consumer, which lives on when a message cannot be taken apart.

Celery drops a message with other types or an unknown task, but what its own code stumbles over ends the worker; not
acknowledged, the message comes back and ends the next one, for ever (S21 in tests/README.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from celery.worker import consumer

log = structlog.get_logger()

STUMBLES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What taking a message apart raises.  An error of the connection is none of these, and is Celery's own business."""


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Named by the setting `worker_consumer`."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Return what is called with each message."""
        handle = super().create_task_handler(*args, **kwargs)

        def careful(message: Any) -> Any:
            try:
                return handle(message)
            except STUMBLES as exc:
                log.error("message.dropped", error=type(exc).__name__, reason="no release of Upwell sends such a one")
                if not message.acknowledged:
                    message.reject_log_error(consumer.consumer.logger, self.connection_errors)
                return None

        return careful
