"""The api process."""

from __future__ import annotations

import socket

import uvicorn

from ops.api.app import make_app
from ops.api.patience import Patient
from ops.api.settings import ApiSettings
from workers.contract import schema
from workers.contract.logs import set_up_logs
from workers.contract.loopback import is_loopback


class ApiRefuses(Exception):
    """The api will not start like this; the text says why and what to do."""


def run(settings: ApiSettings) -> None:
    """Serve until SIGTERM.

    Raises:
        ApiRefuses: open to the network without a key, or the port is taken.
    """
    set_up_logs("api", level=settings.log_level, fmt=settings.log_format)
    if not is_loopback(settings.api_host) and settings.api_key is None and not settings.api_open:
        raise ApiRefuses(
            f"The api would listen on {settings.api_host} for everybody. Set UPWELL_API_KEY, or listen on loopback"
            " (UPWELL_API_HOST=127.0.0.1), or say that you mean it with UPWELL_API_OPEN=true."
        )
    listener = socket.socket(socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.api_host, settings.api_port))
    except OSError as exc:
        raise ApiRefuses(
            f"Port {settings.api_port} on {settings.api_host} cannot be used ({exc.strerror}). Choose another with"
            " UPWELL_API_PORT."
        ) from exc
    engine = schema.open_ledger(settings.ledger_url.get_secret_value())
    config = uvicorn.Config(
        make_app(settings, engine),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
        http=Patient,
        ws="none",  # the doors are for requests; nothing here speaks anything else
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])
