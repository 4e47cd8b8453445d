"""`upwell status`: how the index is, and `--wait`: until it agrees with the sources."""

from __future__ import annotations

import sys
import time
from typing import Any

import typer

from ops.cli.client import find_api
from ops.cli.errors import CliError, NoAnswer
from ops.cli.output import JSON_OPTION, clean, print_json
from ops.up.progress import STATES, alarms

CONNECT_S = 60.0
EVERY_S = 0.2


def status(
    wait: bool = typer.Option(False, "--wait", help="Wait until every document is in its final state."),
    timeout: float | None = typer.Option(
        None, min=0.0, help="Seconds to wait at most; without it, only for the api to appear is there a limit (60 s)."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show documents by state, chunks, pending embeddings and queues.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.

    With --wait the exit code is 0 only if everything was done in time.
    """
    answer = _wait(timeout) if wait else find_api().get("/v1/status")
    if as_json:
        print_json(answer)
    else:
        _show(answer)
    if wait and not answer.get("converged"):
        raise CliError(f"Not done after {timeout:g} s: {_summary(answer)}. See why: upwell documents list")


def _wait(timeout: float | None) -> dict[str, Any]:
    """Return the first answer that says converged, or the last one in time."""
    begun = time.monotonic()
    line = ProgressLine()
    last: dict[str, Any] | None = None
    connected_at = begun
    try:
        while True:
            try:
                last = find_api().get("/v1/status")  # found anew each time: `upwell up` may just be starting
                connected_at = time.monotonic()
                if last.get("converged"):
                    return last
                line.show(_summary(last))
            except NoAnswer:
                away = time.monotonic() - connected_at
                if timeout is None and away > CONNECT_S:
                    raise
                line.show("waiting for the api")
                if timeout is not None and time.monotonic() - begun >= timeout and last is None:
                    raise
            if timeout is not None and time.monotonic() - begun >= timeout and last is not None:
                return {**last, "converged": False}
            time.sleep(EVERY_S)
    finally:
        line.close()


class ProgressLine:
    """One line on standard error: rewritten on a terminal, repeated elsewhere when it changes, not too often."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = ""
        self._at = 0.0

    def show(self, text: str) -> None:
        now = time.monotonic()
        if text == self._last or (not self._live and now - self._at < 2.0):
            return
        self._last, self._at = text, now
        print(f"\r\x1b[K{text}" if self._live else text, end="" if self._live else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._live and self._last:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _summary(answer: dict[str, Any]) -> str:
    documents = answer.get("documents") or {}
    states = ", ".join(f"{documents[state]} {state}" for state in STATES if documents.get(state))
    return f"{states or 'no documents'}; {answer.get('embeddings_pending', 0)} embeddings pending"


def _show(answer: dict[str, Any]) -> None:
    print(f"{'up to date' if answer.get('converged') else 'working'}: {_summary(answer)}")
    print(f"chunks: {answer.get('chunks', 0)} in {clean(answer.get('collection', '?'))}")
    for name, queue in (answer.get("queues") or {}).items():
        if queue is None:
            print(f"queue {clean(name)}: the broker does not answer")
            continue
        age = queue.get("oldest_age_s")
        print(f"queue {clean(name)}: {queue.get('length', 0)}" + (f", oldest {age:.0f} s" if age else ""))
    for name, address in (answer.get("addresses") or {}).items():
        print(f"{clean(name)}: {clean(address)}")
    _show_audit(answer.get("audit") or {})
    for alarm in alarms(answer):
        print(f"alarm: {clean(alarm)}")


def _show_audit(audit: dict[str, Any]) -> None:
    if audit.get("running"):
        print("audit: running")
    if not audit.get("finished_at"):
        return
    verdict = "all was well" if audit.get("clean") else "see upwell verify"
    counted = [f"{count} {kind}" for kind, count in (audit.get("found") or {}).items()]
    repaired = [f"{count} {kind}" for kind, count in (audit.get("repaired") or {}).items()]
    found = f"; found {', '.join(counted)}" if counted else ""
    found += f"; repaired {', '.join(repaired)}" if repaired else ""
    failed = f"; {clean(audit['failed'])}" if audit.get("failed") else ""
    print(f"audit: {clean(audit['finished_at'])}, {verdict}{found}{failed}")
