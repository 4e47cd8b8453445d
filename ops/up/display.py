"""What a person sees while Upwell runs: a live table on a terminal, a line per change anywhere else."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from ops.up.poll import Poller
from ops.up.progress import DISK, STATES, Picture, Progress, duration

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

QUIET_S = 2.0  # plain lines about progress come no faster than this
FRAME_S = 0.25

NAMES = {"index": "index worker", "query": "query worker", "watch": "watcher", "broker": "Valkey", "qdrant": "Qdrant"}


class Silent:
    """Shows nothing: what the supervisor talks to until the real display is there."""

    def restarting(self, name: str, how: str, wait_s: float, times: int) -> None:
        pass

    def replaced(self, name: str, wanted: int, port: int) -> None:
        pass

    def warning(self, name: str, line: str) -> None:
        pass

    def stopping(self) -> None:
        pass

    def tick(self) -> None:
        pass


class DiskLook:
    """Looks at the disk itself: the api, which would tell, may be unable to start for want of room."""

    def __init__(self, alarm: Callable[[], str | None], clock: Callable[[], float]) -> None:
        self._alarm = alarm
        self._clock = clock
        self._at = float("-inf")
        self._last: str | None = None

    def look(self) -> str | None:
        """Return the alarm, not older than `QUIET_S`; None: there is room."""
        if self._clock() - self._at >= QUIET_S:
            self._at = self._clock()
            told = self._alarm()
            self._last = f"{DISK} {told}" if told else None
        return self._last


def but_the_disk(alarms: tuple[str, ...]) -> tuple[str, ...]:
    """Return the alarms that the api is needed for."""
    return tuple(alarm for alarm in alarms if not alarm.startswith(DISK))


class Plain:
    """One line when something changes; with ``as_json`` one JSON object."""

    def __init__(
        self,
        poller: Poller,
        *,
        on_ready: Callable[[], None],
        disk: Callable[[], str | None] = lambda: None,
        out: TextIO | None = None,
        as_json: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._poller = poller
        self._disk = DiskLook(disk, clock)
        self._on_ready = on_ready
        self._out = out or sys.stdout
        self._as_json = as_json
        self._clock = clock
        self._progress = Progress()
        self._began = clock()
        self._ready = False
        self._seen = 0
        self._said: tuple[object, ...] = ()
        self._said_at = 0.0
        self._alarms: tuple[str, ...] = ()
        self._disk_told = False

    def addresses(self, places: dict[str, str], data_dir: str) -> None:
        """Say where everything is: the first lines."""
        if self._as_json:
            self._say("addresses", "", **places, data=data_dir)
            return
        for name, place in [*places.items(), ("data", data_dir)]:
            self._say("console" if name == "api" else name, place)

    def restarting(self, name: str, how: str, wait_s: float, times: int) -> None:
        text = f"{title(name)} {how}; starting it again in {wait_s:.1f} s (restart {times})"
        self._say("restart", text, part=name, wait_s=wait_s, times=times)

    def replaced(self, name: str, wanted: int, port: int) -> None:
        text = f"{wanted} is taken; {title(name)} uses {port} instead"
        self._say("port", text, part=name, wanted=wanted, port=port)

    def warning(self, name: str, line: str) -> None:
        self._say("warning", f"{title(name)}: {readable(line)}", part=name)

    def note(self, text: str) -> None:
        """Say something that is no cause for alarm."""
        self._say("note", text)

    def stopping(self) -> None:
        self._say("stopping", "everything, in order")

    def tick(self) -> None:
        if self._poller.ready and not self._ready:
            self._ready = True
            after = round(self._clock() - self._began, 1)
            self._say("ready", f"after {after} s", after_s=after)
            self._on_ready()
        if (alarm := self._disk.look()) is None:
            self._disk_told = False
        elif not self._disk_told:  # once, although the number in it changes
            self._disk_told = True
            self._say("alarm", alarm)
        answer = self._poller.last()
        if answer is None or answer[0] == self._seen:
            return
        self._seen = answer[0]
        now = self._clock()
        picture = self._progress.update(answer[1], now)
        for alarm in but_the_disk(picture.alarms):
            if alarm not in self._alarms:
                self._say("alarm", alarm)
        self._alarms = picture.alarms
        facts = (picture.documents, picture.chunks, picture.pending, picture.converged)
        if facts != self._said and (now - self._said_at >= QUIET_S or picture.converged):
            self._said, self._said_at = facts, now
            self._say("documents", summary(picture), **asdict(picture))

    def close(self) -> None:
        pass

    def _say(self, kind: str, text: str, **facts: object) -> None:
        line = f"{kind}: {text}"
        if self._as_json:
            line = json.dumps({"event": kind, **({"text": text} if text else {}), **facts}, ensure_ascii=False)
        with contextlib.suppress(OSError, ValueError):  # whoever read us may be gone; the work goes on
            print(line, file=self._out, flush=True)


class Screen:
    """A live table at the bottom of the terminal."""

    def __init__(
        self,
        poller: Poller,
        addresses: Callable[[], dict[str, str]],
        data_dir: str,
        *,
        on_ready: Callable[[], None],
        disk: Callable[[], str | None] = lambda: None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.live import Live

        self._poller = poller
        self._addresses = addresses
        self._data_dir = data_dir
        self._on_ready = on_ready
        self._clock = clock
        self._disk = DiskLook(disk, clock)
        self._progress = Progress()
        self._picture: Picture | None = None
        self._began = clock()
        self._ready_after: float | None = None
        self._seen = 0
        self._drawn_at = 0.0
        self._restarts = 0
        self._news: deque[str] = deque(maxlen=3)
        self._is_stopping = False
        self._live: Live = Live(console=console, auto_refresh=False, transient=False)
        self._live.start()

    def restarting(self, name: str, how: str, wait_s: float, times: int) -> None:
        self._restarts += 1
        self._news.append(f"{title(name)} {how}; starting it again in {wait_s:.1f} s (restart {times})")

    def replaced(self, name: str, wanted: int, port: int) -> None:
        self._news.append(f"port {wanted} is taken; {title(name)} uses {port} instead")

    def warning(self, name: str, line: str) -> None:
        self._news.append(f"{title(name)}: {readable(line)}")

    def note(self, text: str) -> None:
        """Say something that is no cause for alarm."""
        self._news.append(text)

    def stopping(self) -> None:
        self._is_stopping = True
        self._drawn_at = 0.0
        self.tick()

    def tick(self) -> None:
        now = self._clock()
        if self._poller.ready and self._ready_after is None:
            self._ready_after = now - self._began
            self._on_ready()
        answer = self._poller.last()
        if answer is not None and answer[0] != self._seen:
            self._seen = answer[0]
            self._picture = self._progress.update(answer[1], now)
        if now - self._drawn_at >= FRAME_S:
            self._drawn_at = now
            with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
                self._live.update(self._frame(), refresh=True)

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._live.stop()

    def _frame(self) -> Group:
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        where = Table.grid(padding=(0, 2))
        where.add_column(no_wrap=True)
        where.add_column(overflow="fold")  # an address that is cut off is none
        for name, address in self._where():
            where.add_row(Text(name, style="bold"), Text(address, style="cyan"))
        rows: list[object] = [where, Text()]
        picture = self._picture
        if self._is_stopping:
            rows.append(Text("Stopping ... (Ctrl-C again to stop at once)", style="yellow"))
        elif picture is None:
            rows.append(Text("Starting ..." if self._ready_after is None else "The api is away.", style="yellow"))
        else:
            rows.append(Text.from_markup(self._states(picture)))
            rows.append(Text(rates(picture), style="dim"))
        alarms = list(but_the_disk(picture.alarms)) if picture is not None else []
        if (full := self._disk.look()) is not None:
            alarms.append(full)
        rows += [Text(f"! {alarm}", style="bold red") for alarm in alarms]
        if self._restarts:
            rows.append(Text(f"{self._restarts} restart{'s' if self._restarts > 1 else ''}", style="yellow"))
        rows += [Text.from_markup(f"[dim]{escape(news)}[/dim]") for news in self._news]
        return Group(*rows)  # type: ignore[arg-type]

    def _where(self) -> list[tuple[str, str]]:
        places = self._addresses()
        return [
            ("Console", places["api"] + "/"),
            ("Search", places["api"] + "/v1/search"),
            ("Qdrant", places["qdrant"]),
            ("Data", self._data_dir),
        ]

    def _states(self, picture: Picture) -> str:
        colours = {"ready": "green", "parked": "red", "failed": "red", "held": "red", "deleted": "dim"}
        shown = [
            f"[{colours.get(state, 'default')}]{picture.documents[state]} {state}[/]"
            for state in STATES
            if picture.documents.get(state)
        ]
        return "  ".join(shown) or "No documents yet: drop a file into the folder."


def title(name: str) -> str:
    """Return the name of a part as people say it."""
    kind, _, number = name.partition("-")
    return f"{NAMES.get(kind, kind)} {number}".rstrip()


def summary(picture: Picture) -> str:
    """Return the state of the index in one line."""
    states = ", ".join(f"{picture.documents[state]} {state}" for state in STATES if picture.documents.get(state))
    return f"{states or 'none'}; {rates(picture)}"


def rates(picture: Picture) -> str:
    """Return chunks, what is pending, and how fast it goes."""
    text = f"{picture.chunks} chunks, {picture.pending} embeddings pending"
    if picture.converged:
        return text + ", all done"
    if picture.per_second > 0:
        text += f", {picture.per_second:.1f} documents/s"
    if picture.eta_s is not None:
        text += f", about {duration(picture.eta_s)} left"
    return text


def readable(line: str) -> str:
    """Return a log line for people: the event and its facts, without time stamps and braces."""
    line = line.removeprefix("upwell: ")
    if line.startswith("{"):
        try:
            raw = json.loads(line)
        except ValueError:
            return line[:300]
        event = raw.pop("event", "")
        for noise in ("timestamp", "level", "process", "logger", "exception"):
            raw.pop(noise, None)
        facts = " ".join(f"{key}={value}" for key, value in raw.items())
        line = f"{event} {facts}".strip()
    return line[:300]
