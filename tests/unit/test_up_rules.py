"""What `upwell up` decides before and while it runs: restarts, ports, environments, progress, words."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from ops.up import ahead, main, ports, stack
from ops.up.datadir import DataDir, DataDirError, read_state
from ops.up.display import Plain, readable
from ops.up.lives import KEPT, Lives, Run
from ops.up.main import UpError, run
from ops.up.poll import AT_REST_S, Poller
from ops.up.progress import Progress, alarms, duration
from ops.up.restarts import Backoff
from ops.up.settings import UpSettings
from ops.up.supervisor import how_it_ended
from ops.up.welcome import make_default_folder
from workers.contract.disk import LEAST_FREE, LITTLE, Room, room, wait_for_room


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("UPWELL_")]:
        monkeypatch.delenv(name)


# ----------------------------------------------------------------------------------------------------------- restarts


def test_waits_double_up_to_ten_seconds() -> None:
    backoff = Backoff()
    assert [backoff.died(0.0) for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_half_a_minute_of_health_is_forgiveness() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.died(0.0)
    backoff.started(100.0)
    assert backoff.died(129.9) == 6.4
    backoff.started(200.0)
    assert backoff.died(230.0) == 0.2


def test_exit_codes_are_told_in_words() -> None:
    assert how_it_ended(-9) == "was killed by SIGKILL"
    assert how_it_ended(1) == "ended with exit code 1"


# -------------------------------------------------------------------------------------------------------------- lives


def test_a_start_is_told_who_it_is_and_which_starts_of_the_same_part_are_over() -> None:
    lives = Lives(lambda: Run("b2", ("a1",)))
    first, other = lives.start("index"), lives.start("index-2")
    lives.ended("index")
    again = lives.start("index")

    assert [told["UPWELL_LIFE"] for told in (first, other, again)] == ["b2/index/1", "b2/index-2/1", "b2/index/2"]
    assert [told["UPWELL_ENDED_LIVES"] for told in (first, other, again)] == ["[]", "[]", '["b2/index/1"]']
    assert {told["UPWELL_ENDED_RUNS"] for told in (first, other, again)} == {'["a1"]'}


def test_a_part_that_dies_again_and_again_is_told_of_its_last_lives() -> None:
    lives = Lives(lambda: Run("b2"))
    for _ in range(100):
        told = json.loads(lives.start("index")["UPWELL_ENDED_LIVES"])
        lives.ended("index")
    assert told == [f"b2/index/{number}" for number in range(100 - KEPT, 100)]


def test_when_all_ended_at_once_the_run_is_over_and_another_one_begins() -> None:
    runs = iter([Run("a1"), Run("b2", ("a1",))])
    lives = Lives(lambda: next(runs))
    lives.start("index")
    lives.all_ended()

    told = lives.start("index")

    assert (told["UPWELL_LIFE"], told["UPWELL_ENDED_LIVES"]) == ("b2/index/1", "[]")
    assert told["UPWELL_ENDED_RUNS"] == '["a1"]'


def test_a_data_directory_remembers_its_runs_and_a_copy_of_it_believes_none_of_them_dead(tmp_path: Path) -> None:
    first = DataDir(tmp_path / "data")
    began = first.begin_run()
    assert began.ended == ()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    first.close()

    second = DataDir(tmp_path / "data")
    copy = DataDir(tmp_path / "copy")

    assert second.begin_run().ended == (began.name,)
    assert copy.begin_run().ended == ()
    second.close()
    copy.close()


# -------------------------------------------------------------------------------------------------------------- ports


def test_a_taken_port_is_replaced_by_a_free_one_nearby() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        assert not ports.is_free(wanted)
        found = ports.near(wanted, {wanted + 1})
        assert found not in (wanted, wanted + 1)
        assert ports.is_free(found)


def test_free_ports_are_not_among_those_the_kernel_gives_to_clients() -> None:
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if first_ephemeral < ports.LOWEST + 1000:
        pytest.skip("this machine leaves no room below its ephemeral range")
    assert all(ports.LOWEST <= ports.any_free(set()) < first_ephemeral for _ in range(20))


def test_ports_are_kept_from_start_to_start_and_a_taken_one_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = ports.any_free(set())  # whoever tests beside us may have started a stack on Qdrant's own
    monkeypatch.setitem(stack.WANTED_PORTS, "qdrant", usual)
    data = DataDir(tmp_path / "data")
    first, replaced = stack.choose_ports(UpSettings(), ports.any_free({usual}), data)
    assert replaced == []
    assert first["qdrant"] == usual
    again, _ = stack.choose_ports(UpSettings(), None, data)
    assert again == first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["broker"]))
        taken.listen()
        third, replaced = stack.choose_ports(UpSettings(), None, data)
    assert [(change.name, change.wanted) for change in replaced] == [("broker", first["broker"])]
    assert third["broker"] != first["broker"]
    assert str(replaced[0]).startswith(f"port {first['broker']} is taken; broker uses ")
    data.close()


# --------------------------------------------------------------------------------------------------------- environment


def plan(tmp_path: Path, environ: dict[str, str] | None = None, **settings: Any) -> stack.Plan:
    return stack.Plan(UpSettings(**settings), ("inbox",), tmp_path, "secret", environ or {}, cpus=2)


PORTS = {"api": 8080, "broker": 21000, "qdrant": 21001, "embeddings": 21002}


def parts_by_name(chosen: stack.Plan, used: dict[str, int]) -> dict[str, Any]:
    return {part.name: part for part in stack.parts(chosen, used)}


def test_everything_embedded_is_told_to_the_children(tmp_path: Path) -> None:
    env = parts_by_name(plan(tmp_path), PORTS)["index"].env

    assert env["UPWELL_BROKER_URL"] == "redis://:secret@127.0.0.1:21000/0"
    assert env["UPWELL_QDRANT_URL"] == "http://127.0.0.1:21001"
    assert env["UPWELL_EMBEDDINGS_URL"] == "http://127.0.0.1:21002/v1"
    assert env["UPWELL_EMBEDDINGS_MODEL"] == "multilingual-e5-small-q4"
    assert env["UPWELL_LEDGER_URL"] == f"sqlite:///{tmp_path}/ledger.db"
    assert env["UPWELL_DATA_DIR"] == str(tmp_path)
    assert env["REMAP_SIGTERM"] == "SIGQUIT"
    assert env["OMP_NUM_THREADS"] == "1"


def test_a_forked_part_has_the_environment_that_its_template_imported_under(tmp_path: Path) -> None:
    """Libraries look at it while they are imported; what is ours is read by nobody before a part begins."""
    chosen = plan(tmp_path, {"OMP_NUM_THREADS": "4", "TZ": "UTC"})
    template = ahead.template(chosen.environ)
    threads = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    assert {template.env[name] for name in threads} == {"1"}, "threads would be missing in a fork"

    for part in stack.parts(chosen, PORTS):
        differs = {name for name, _ in set(part.env.items()) ^ set(template.env.items())} - threads
        assert all(name.startswith("UPWELL_") for name in differs), part.name
        assert part.layer in {name for name, _ in template.layers} or part.name == "broker"
        if part.layer:
            assert part.argv[:3] == (sys.executable, "-P", "-m")


@pytest.mark.parametrize(
    ("cpus", "asked", "workers", "children"),
    [(1, {}, 1, "1"), (2, {}, 1, "2"), (4, {}, 2, "2"), (64, {}, 4, "8"), (2, {"index_workers": 4}, 4, "1")],
)
def test_index_workers_and_their_parsers_are_as_many_as_the_machine_can_use(
    tmp_path: Path, cpus: int, asked: dict[str, int], workers: int, children: str
) -> None:
    chosen = replace(plan(tmp_path, **asked), cpus=cpus)

    found = parts_by_name(chosen, PORTS)

    indexing = [name for name in found if name.startswith("index")]
    assert indexing == ["index", "index-2", "index-3", "index-4"][:workers]
    assert {found[name].env["UPWELL_PARSER_CHILDREN"] for name in indexing} == {children}


def test_a_real_server_replaces_its_embedded_part_and_no_other(tmp_path: Path) -> None:
    environ = {"UPWELL_QDRANT_URL": "http://q:6333", "UPWELL_QDRANT_API_KEY": "k"}
    chosen = plan(tmp_path, environ, qdrant_url="http://q:6333")

    assert stack.listeners(chosen.settings) == ["api", "broker", "embeddings"]
    found = parts_by_name(chosen, {name: port for name, port in PORTS.items() if name != "qdrant"})

    assert "qdrant" not in found
    assert {"broker", "embeddings"} <= set(found)
    assert found["index"].env["UPWELL_QDRANT_URL"] == "http://q:6333"
    assert found["index"].env["UPWELL_QDRANT_API_KEY"] == "k"


def test_keys_for_other_servers_do_not_reach_embedded_ones(tmp_path: Path) -> None:
    environ = {"UPWELL_QDRANT_API_KEY": "k", "UPWELL_EMBEDDINGS_API_KEY": "k", "UPWELL_EMBEDDINGS_DIMENSIONS": "1536"}
    env = parts_by_name(plan(tmp_path, environ), PORTS)["index"].env

    assert not set(environ) & set(env)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPWELL_QDRANT_URL", "")
    assert UpSettings().qdrant_url is None


def test_no_password_is_in_any_command_or_address(tmp_path: Path) -> None:
    chosen = plan(tmp_path, broker_url="redis://user:hidden@r:6379/0", qdrant_url="http://user:hidden@q:6333")
    used = {name: port for name, port in PORTS.items() if name in ("api", "embeddings")}

    assert "hidden" not in json.dumps(stack.addresses(chosen, used))
    embedded = plan(tmp_path)
    assert not any("secret" in word for part in stack.parts(embedded, PORTS) for word in part.argv)
    assert "secret" not in json.dumps(stack.addresses(embedded, PORTS))


@pytest.mark.parametrize(("listens", "reached"), [("0.0.0.0", "127.0.0.1"), ("10.0.0.5", "10.0.0.5"), ("::1", "[::1]")])
def test_the_api_is_reached_where_it_listens(tmp_path: Path, listens: str, reached: str) -> None:
    assert stack.addresses(plan(tmp_path, api_host=listens), PORTS)["api"] == f"http://{reached}:8080"


def test_producers_stop_first_and_stores_last(tmp_path: Path) -> None:
    stages = {part.name: part.stage for part in stack.parts(plan(tmp_path), PORTS)}

    assert max(stages["watch"], stages["api"]) < min(stages["index"], stages["query"])
    assert max(stages["index"], stages["query"]) < min(stages["broker"], stages["qdrant"], stages["embeddings"])


def test_a_file_in_the_users_folder_cannot_shadow_a_module(tmp_path: Path) -> None:
    assert all("-P" in part.argv for part in stack.parts(plan(tmp_path), PORTS) if part.name != "broker")


# ------------------------------------------------------------------------------------------------------------- folders


def test_a_missing_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UpError, match="There is no folder gone"):
        run(["gone"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("", "name of a folder is empty"),
        ("file.md", "file.md is no folder. Name the folder that it is in"),
        ("~nobody-is-called-so/docs", "cannot be found"),
        ("n" * 5000, "cannot be looked at"),
    ],
    ids=["empty", "a file", "nobody's home", "too long"],
)
def test_what_cannot_be_watched_is_said_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.md").touch()
    with pytest.raises(UpError, match=told):
        run([word], data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_folder_in_the_data_directory_is_not_watched(tmp_path: Path) -> None:
    (tmp_path / "data" / "logs").mkdir(parents=True)
    with pytest.raises(UpError, match="lies in the data directory"):
        run([str(tmp_path / "data" / "logs")], data_dir=tmp_path / "data")


def test_a_data_directory_that_would_be_indexed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for data in (tmp_path / "docs", tmp_path / "docs" / "data"):
        with pytest.raises(UpError, match="would index its own files"):
            run([str(tmp_path / "docs")], data_dir=data)


def test_the_default_folder_is_made_once_with_something_to_find(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    assert make_default_folder(inbox)
    text = (inbox / "welcome.md").read_text()
    assert "upwell ask" in text
    (inbox / "welcome.md").unlink()
    assert not make_default_folder(inbox)
    assert list(inbox.iterdir()) == []


def test_the_data_directory_and_all_in_it_is_private(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    password = data.password()
    data.publish({"pid": 1})

    assert data.password() == password
    assert len(password) >= 32
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    for name in ("broker.password", "up.json", "lock"):
        assert (tmp_path / "data" / name).stat().st_mode & 0o777 == 0o600
    data.unpublish()
    assert read_state(tmp_path / "data") == {}
    data.close()


def test_who_outlived_an_earlier_run_is_named_by_what_cannot_start_because_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.up.datadir.PATIENCE_S", 0.0)
    gone = subprocess.Popen(["true"])
    gone.wait()
    first = DataDir(tmp_path)
    first.publish({"pid": gone.pid, "processes": {"index": os.getpid(), "api": gone.pid}})

    with pytest.raises(DataDirError, match=f"pid {gone.pid}.* has ended, but .*kill -9 {os.getpid()}\\)"):
        DataDir(tmp_path)
    first.close()


def test_a_data_directory_on_another_machines_disk_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("producers.roots.remote_type", lambda _: "nfs4")

    main._display(plan(tmp_path), PORTS, FakePoller(), main.Look(False, False, False), [])  # type: ignore[arg-type]

    assert "(nfs4), where ledger and index can be damaged" in capsys.readouterr().out


def test_a_data_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match="UPWELL_DATA_DIR"):
        DataDir(tmp_path / "file" / "data")


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\udcff"], ids=["quote", "backslash", "line", "no UTF-8"])
def test_a_data_directory_whose_name_valkey_cannot_take_is_refused_before_anything_is_made(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(DataDirError, match="--data-dir"):
        DataDir(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ progress


def answer(pending: int = 0, **documents: int) -> dict[str, Any]:
    working = {"queued", "parsing", "embedding", "failed"} & set(documents)
    return {"documents": documents, "chunks": 7, "embeddings_pending": pending, "converged": not working}


def test_rate_and_time_left_come_from_what_was_settled_lately() -> None:
    progress = Progress()
    progress.update(answer(queued=30), 0.0)
    picture = progress.update(answer(queued=20, ready=10), 5.0)

    assert picture.per_second == 2.0
    assert picture.eta_s == 10.0
    assert (picture.settled, picture.total) == (10, 30)


def test_the_slower_road_decides_the_time_left() -> None:
    progress = Progress()
    progress.update(answer(pending=100, queued=2), 0.0)
    assert progress.update(answer(pending=90, queued=1, ready=1), 1.0).eta_s == 9.0


def test_nothing_to_do_has_no_time_left_and_standing_still_promises_nothing() -> None:
    progress = Progress()
    assert progress.update(answer(ready=3), 0.0).eta_s is None
    progress.update(answer(ready=3, queued=5), 1.0)
    assert progress.update(answer(ready=3, queued=5), 2.0).eta_s is None


def test_durations_are_said_as_people_do() -> None:
    assert [duration(s) for s in (7.4, 89, 200, 7500)] == ["7 s", "89 s", "3 min", "2 h 5 min"]


def test_a_full_disk_is_an_alarm_that_says_what_is_full_how_much_is_left_and_what_to_do(tmp_path: Path) -> None:
    for free, words in [
        (LITTLE, None),
        (LITTLE - 1, "filling up: 199 MB are left"),
        (LEAST_FREE - 1, "is full: 63 MB are left"),
    ]:
        alarm = Room("/data", free).alarm
        assert (alarm is None) if words is None else (words in alarm and "/data" in alarm and "Make room" in alarm)
    told = {"alarm": Room("/data", 0).alarm}
    assert alarms({"disk": told}) == (f"disk: {told['alarm']}",)
    assert alarms({"disk": {"alarm": None}}) == alarms({"disk": None}) == ()
    assert room(tmp_path).free > 0


def test_a_full_disk_is_told_once_and_again_after_there_was_room_although_the_api_is_away() -> None:
    out, now, left = io.StringIO(), [0.0], [0]

    def disk() -> str | None:
        return Room("/d", left[0] << 20).alarm

    display = Plain(FakePoller(), on_ready=lambda: None, out=out, clock=lambda: now[0], disk=disk)  # type: ignore[arg-type]
    for left[0] in (10, 9, 8, 500, 7):
        now[0] += 5.0
        display.tick()

    assert [line[:36] for line in out.getvalue().splitlines()] == ["alarm: disk: The disk of /d is full:"] * 2


def test_who_needs_room_waits_until_there_is_some_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = iter([Room("/d", 5), Room("/d", 6), Room("/d", LEAST_FREE)])
    slept: list[float] = []
    monkeypatch.setattr("workers.contract.disk.room", lambda _: next(found))

    with structlog.testing.capture_logs() as said:
        wait_for_room(tmp_path, sleep=slept.append)

    assert len(slept) == 2
    assert [line["event"] for line in said] == ["disk.full", "disk.has_room"]


def test_the_alarm_of_a_source_is_shown_with_its_name() -> None:
    sources = [{"name": "inbox", "alarm": "its marker is missing"}, {"name": "docs", "alarm": None}]
    assert Progress().update({**answer(), "sources": sources}, 0.0).alarms == ("inbox: its marker is missing",)


# ------------------------------------------------------------------------------------------------------------- display


@pytest.mark.parametrize(
    ("ready", "answer", "seconds"),
    [
        (False, None, 0.2),
        (True, None, 0.5),
        (True, (1, {"converged": False}), 0.5),
        (True, (1, {"converged": True}), AT_REST_S),
    ],
    ids=["starting", "the api away", "at work", "at rest"],
)
def test_the_status_is_asked_for_less_often_when_there_is_nothing_to_do(ready, answer, seconds):
    poller = Poller(lambda: "http://127.0.0.1:9", None)
    poller.ready, poller._answer = ready, answer

    assert poller._pause() == seconds


class FakePoller:
    ready = False
    answer: tuple[int, dict[str, Any]] | None = None

    def last(self) -> tuple[int, dict[str, Any]] | None:
        return self.answer


def test_plain_output_is_one_line_per_change_not_faster_than_people_read() -> None:
    poller, out, now, said_ready = FakePoller(), io.StringIO(), [0.0], []
    display = Plain(poller, on_ready=lambda: said_ready.append(1), out=out, clock=lambda: now[0])  # type: ignore[arg-type]
    for moment, status in enumerate([answer(queued=3), answer(queued=2, ready=1), answer(queued=2, ready=1)], 1):
        poller.answer = (moment, status)
        now[0] += 0.5
        display.tick()
    poller.ready = True
    now[0] = 3.0
    poller.answer = (9, answer(ready=3))
    display.tick()
    display.tick()

    lines = out.getvalue().splitlines()
    assert lines[-1] == "documents: 3 ready; 7 chunks, 0 embeddings pending, all done"
    assert lines[-2] == "ready: after 3.0 s"
    assert len(lines) <= 3
    assert said_ready == [1]


def test_json_output_is_one_object_a_line() -> None:
    out = io.StringIO()
    display = Plain(FakePoller(), on_ready=lambda: None, out=out, as_json=True)  # type: ignore[arg-type]
    display.addresses({"api": "http://a"}, "/d")
    display.restarting("index", "was killed by SIGKILL", 0.2, 1)

    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert events[0] == {"event": "addresses", "api": "http://a", "data": "/d"}
    assert events[1]["part"] == "index"


def test_log_lines_are_made_readable() -> None:
    raw = json.dumps({"event": "hint.not_sent", "level": "warning", "timestamp": "t", "process": "api", "count": 2})
    assert readable(raw) == "hint.not_sent count=2"
    assert readable("upwell: No answer.") == "No answer."
    assert readable("{broken") == "{broken"


def test_an_output_nobody_reads_any_more_does_not_stop_the_work() -> None:
    out = io.StringIO()
    out.close()
    Plain(FakePoller(), on_ready=lambda: None, out=out).stopping()  # type: ignore[arg-type]


def test_a_narrow_terminal_cuts_no_address_off() -> None:
    from rich.console import Console

    from ops.up.display import Screen

    out, data = io.StringIO(), "/home/somebody/Documents/projects/of-last-year/.upwell"
    console = Console(file=out, force_terminal=True, width=40, color_system=None)
    places = {"api": "http://127.0.0.1:8080", "qdrant": "http://127.0.0.1:6333"}
    screen = Screen(FakePoller(), lambda: places, data, on_ready=lambda: None, console=console)  # type: ignore[arg-type]
    screen.tick()
    screen.close()

    assert data in "".join(line.removeprefix("Data").strip() for line in out.getvalue().splitlines())


def test_in_a_narrow_locale_a_line_is_told_with_what_it_cannot_spell_spelt_otherwise(tmp_path: Path) -> None:
    """The whole line used to be lost.  Asked of a process of its own, because it changes its standard output."""
    code = "from ops.up.main import can_say_everything; can_say_everything(); print('made the folder \u6587\u6863')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "made the folder \\u6587\\u6863\n"


def test_the_live_table_shows_addresses_states_restarts_and_alarms() -> None:
    from rich.console import Console

    from ops.up.display import Screen

    poller, out, now = FakePoller(), io.StringIO(), [0.0]
    console = Console(file=out, force_terminal=True, width=100)
    places = {"api": "http://127.0.0.1:8080", "qdrant": "http://127.0.0.1:6333"}
    screen = Screen(poller, lambda: places, "/d", on_ready=lambda: None, console=console, clock=lambda: now[0])  # type: ignore[arg-type]
    poller.ready = True
    poller.answer = (
        1,
        {
            **answer(pending=4, ready=2, parked=1, queued=1),
            "sources": [{"name": "inbox", "alarm": "the disk [full] is full"}],
        },
    )
    screen.restarting("index", "was killed by SIGKILL", 0.2, 1)
    now[0] = 1.0
    screen.tick()
    screen.stopping()
    screen.close()

    shown = out.getvalue()
    facts = ["http://127.0.0.1:8080/v1/search", "2 ready", "1 parked", "1 queued", "4 embeddings pending", "1 restart"]
    for words in [*facts, "index worker was killed by SIGKILL", "the disk [full] is full", "Stopping"]:
        assert words in shown, words
