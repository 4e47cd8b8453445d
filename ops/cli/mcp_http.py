"""Serves the MCP server over HTTP: where it listens, and what is said when it cannot."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ops.cli.errors import CliError
from ops.cli.output import remark
from workers.contract.exits import EXIT_MISCONFIGURED, EXIT_TAKEN
from workers.contract.loopback import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def serve(app: ASGIApp, host: str, port: int, *, locked: bool) -> None:
    """Serve until interrupted.

    Raises:
        CliError: it would be open to the network without a key, or cannot listen there.
    """
    import uvicorn

    from ops.api.bodies import BoundedBody
    from ops.api.patience import Patient

    if not locked and not is_loopback(host):
        raise CliError(
            f"The MCP server would listen on {host} for everybody. Set UPWELL_API_KEY, or listen on loopback"
            " (--host 127.0.0.1).",
            exit_code=EXIT_MISCONFIGURED,
        )
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # what is said next is true: who comes before the server is ready waits in line
    except OSError as exc:
        raise CliError(
            f"Port {port} on {host} cannot be used ({exc.strerror}). Choose another: --port N", exit_code=EXIT_TAKEN
        ) from exc
    shown = f"[{host}]" if ":" in host else host
    remark(f"upwell: MCP at http://{shown}:{port}/mcp{' (bearer key: UPWELL_API_KEY)' if locked else ''}")
    config = uvicorn.Config(
        BoundedBody(app, most_upload=0),
        http=Patient,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])
