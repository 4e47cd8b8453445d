"""`upwell up`: check, choose, start, and stay until stopped."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.up import ahead, stack
from ops.up.children import BROWSER_MARK, Children
from ops.up.datadir import DataDir, DataDirError, DataDirTaken
from ops.up.display import Plain, Screen, Silent
from ops.up.lives import Lives
from ops.up.poll import Poller
from ops.up.settings import UpSettings
from ops.up.supervisor import Supervisor
from ops.up.welcome import DEFAULT_FOLDER, make_default_folder
from workers.contract.exits import EXIT_TAKEN, EXIT_UNAVAILABLE


class UpError(Exception):
    """`upwell up` cannot start; the text says why and what to do.  ``exit_code`` as in `workers.contract.exits`."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Look:
    """How to show things: may a browser be opened, JSON instead of text, was the default folder made just now."""

    browser: bool
    as_json: bool
    made: bool


def run(
    roots: Sequence[str],
    *,
    data_dir: Path | None = None,
    port: int | None = None,
    browser: bool = True,
    as_json: bool = False,
    children: Children | None = None,
) -> tuple[int, str | None]:
    """Run everything on this machine until stopped; returns (exit code, what was wrong).

    ``children`` are those that have been begun already.

    Raises:
        UpError: it cannot even start.
    """
    settings = UpSettings()
    roots = tuple(roots) or (DEFAULT_FOLDER,)
    directory = data_dir or settings.data_dir
    made = _check_folders(roots, directory)
    _check_servers(settings)
    try:
        data = DataDir(directory)
    except DataDirTaken as exc:
        raise UpError(str(exc), exit_code=EXIT_TAKEN) from exc
    except DataDirError as exc:
        raise UpError(str(exc)) from exc
    try:
        return _run(settings, roots, data, port, Look(browser, as_json, made), children)
    except DataDirError as exc:
        raise UpError(str(exc)) from exc
    finally:
        data.unpublish()
        data.close()


def _run(
    settings: UpSettings,
    roots: tuple[str, ...],
    data: DataDir,
    port: int | None,
    look: Look,
    children: Children | None,
) -> tuple[int, str | None]:
    ports, replaced = stack.choose_ports(settings, port, data)
    # The children's environment is ours and what we decide on top; only settings classes *read* it.
    plan = stack.Plan(settings, roots, data.path, data.password(), dict(os.environ), stack.cpu_count())
    started_at = time.time()

    def publish(current: Mapping[str, int], pids: Mapping[str, int]) -> None:
        data.remember_ports(data.ports() | dict(current))
        data.publish(
            {
                "pid": os.getpid(),
                "started_at": started_at,
                "addresses": stack.addresses(plan, current),
                "roots": list(roots),
                "processes": dict(pids),
            }
        )

    publish(ports, {})
    lives = Lives(data.begin_run)
    children = children or Children(ahead.template(plan.environ))
    try:
        children.settle(data.logs, data.lock_fd)
        supervisor = Supervisor(
            children, lambda current: stack.parts(plan, current), ports, Silent(), lives, on_change=publish
        )
        supervisor.start()  # now: the children need longer to start than we need to get ready to watch them
        key = settings.api_key.get_secret_value() if settings.api_key else None
        poller = Poller(lambda: stack.addresses(plan, ports)["api"], key)
        display = _display(plan, ports, poller, look, replaced)
        supervisor.use(display)
        poller.start()
        try:
            code = supervisor.run()
        finally:
            poller.stop()
            display.close()
        return code, supervisor.fault
    finally:
        children.close()


def _check_folders(words: tuple[str, ...], data_dir: Path) -> bool:
    """Make the default folder if it is the one that is missing; True when it was made."""
    from producers.roots import parse_roots

    made = DEFAULT_FOLDER in words and not Path(DEFAULT_FOLDER).exists() and make_default_folder(Path(DEFAULT_FOLDER))
    try:
        roots = parse_roots(words)
    except ValueError as exc:
        raise UpError(str(exc)) from exc
    data = data_dir.resolve()
    for root in roots:
        if root.path != data and root.path.is_relative_to(data):
            raise UpError(
                f"The watched folder {root.path} lies in the data directory {data}, which is Upwell's own. Move it out,"
                " or give another data directory with --data-dir."
            )
        if data == root.path or (data.is_relative_to(root.path) and not _is_ignored(root.path, data)):
            raise UpError(
                f"The data directory {data} lies in the watched folder {root.path}: Upwell would index its own files."
                " Give another one with --data-dir; one whose name starts with a dot is left out."
            )
    return made


def _is_ignored(root: Path, data: Path) -> bool:
    from producers.ignore import IgnoreRules

    return IgnoreRules(root).explain(data.relative_to(root).as_posix(), is_dir=True).ignored


def _check_servers(settings: UpSettings) -> None:
    if settings.broker_url or settings.qdrant_url or settings.embeddings_url:
        from ops.up.reach import unreachable

        if faults := unreachable(settings):
            raise UpError("\n".join(faults), exit_code=EXIT_UNAVAILABLE)


def _display(
    plan: stack.Plan, ports: dict[str, int], poller: Poller, look: Look, replaced: list[stack.Replaced]
) -> Plain | Screen:
    def where() -> dict[str, str]:
        return stack.addresses(plan, ports)

    live = sys.stdout.isatty() and not look.as_json
    can_say_everything()

    def on_ready() -> None:
        if look.browser and live:
            open_browser(where()["api"], plan.environ)

    from workers.contract.disk import room  # imported while the parts start: it brings structlog

    def disk() -> str | None:
        try:
            return room(plan.directory).alarm
        except OSError:
            return None

    from producers.roots import remote_type

    display: Plain | Screen
    if live:
        display = Screen(poller, where, str(plan.directory), on_ready=on_ready, disk=disk)
    else:
        display = Plain(poller, on_ready=on_ready, disk=disk, as_json=look.as_json)
        display.addresses(where(), str(plan.directory))
    for change in replaced:
        display.replaced(change.name, change.wanted, change.port)
    if kind := remote_type(plan.directory):
        display.warning(
            "up",
            f"the data directory {plan.directory} is on another machine's file system ({kind}), where ledger and index"
            " can be damaged: give one on a disk of this machine with --data-dir; watched folders may be anywhere",
        )
    if look.made:
        display.note(f"made the folder {DEFAULT_FOLDER} with a first document in it, welcome.md")
    return display


def can_say_everything() -> None:
    """Let standard output take every name: where the locale is narrow, better a strange one than no line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def open_browser(url: str, environ: Mapping[str, str]) -> None:
    """Show the console page, where there is a screen to show it on."""
    opener = shutil.which("open") if sys.platform == "darwin" else shutil.which("xdg-open")
    on_screen = sys.platform == "darwin" or environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    if not opener or not on_screen:
        return
    subprocess.Popen(
        [opener, url],
        env=dict(environ) | {BROWSER_MARK: "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
