"""`upwell verify` and /v1/verify: how an audit is asked for, followed and told, and what its exit code means."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from pytest_httpserver import HTTPServer

from ops.api.app import make_app
from ops.api.settings import ApiSettings
from ops.cli import main as cli
from ops.cli import verify as command
from workers.contract import schema
from workers.housekeeping.docket import Docket

ID = "0d4c1f1e-6f0a-5d55-9a0e-1a6b0b4f7e11"
WELL = {
    "clean": True, "documents": 4, "points": 12, "files": 4, "busy": 0, "unchecked": [], "findings": {}, "took_s": 0.5,
}  # fmt: skip


def finding(kind: str, path: str = "a.md") -> dict:
    example = {"id": ID, "source": "docs", "path": path, "points": 2, "why": "2 of its 5 chunks are not in the index."}
    return {kind: {"documents": 1, "points": 2, "remedy": "Do this.", "examples": [example]}}


@pytest.fixture
def client(tmp_path, valkey_url):
    settings = ApiSettings(
        ledger_url=f"sqlite:///{tmp_path}/ledger.db",
        broker_url=valkey_url,
        data_dir=tmp_path / "data",
        qdrant_url="http://127.0.0.1:9",
    )
    engine = schema.open_ledger(settings.ledger_url.get_secret_value())
    with TestClient(make_app(settings, engine), base_url="http://127.0.0.1:8080") as client:
        client.docket = Docket(engine)
        yield client
    engine.dispose()


def gauge(client: TestClient, name: str) -> float | None:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name + " ")]
    return float(lines[0].split()[-1]) if lines else None


def test_an_audit_that_is_asked_for_waits_runs_and_is_told_with_its_report(client):
    key = client.post("/v1/verify", json={"repair": True}).json()["id"]
    assert client.get(f"/v1/verify/{key}").json()["state"] == "asked"
    assert client.get("/v1/verify").json()["running"]["id"] == key

    taken = client.docket.take()
    client.docket.progress(taken, {"step": "points", "points": 7})
    assert client.get(f"/v1/verify/{key}").json()["progress"] == {"step": "points", "points": 7}
    assert client.get("/v1/status").json()["audit"]["running"]

    report = WELL | {
        "findings": finding("lost") | finding("foreign"),
        "after": finding("lost"),
        "repaired": {"lost": 1},
    }
    client.docket.finish(taken, report | {"clean": False})
    told = client.get(f"/v1/verify/{key}").json()
    assert (told["state"], told["report"]["documents"]) == ("done", 4)
    assert client.get("/v1/verify").json()["running"] is None


def test_the_status_and_the_metrics_tell_what_the_last_audit_found_repaired_and_left(client):
    assert client.get("/v1/status").json()["audit"]["finished_at"] is None
    assert gauge(client, 'upwell_audit_findings{kind="lost"}') == 0.0
    assert gauge(client, "upwell_audit_finished_timestamp_seconds") is None

    client.post("/v1/verify", json={"repair": True})
    report = WELL | {"findings": finding("lost") | finding("foreign"), "after": {}, "repaired": {"lost": 1}}
    client.docket.finish(client.docket.take(), report | {"clean": False})

    audit = client.get("/v1/status").json()["audit"]
    assert (audit["found"], audit["repaired"], audit["left"]) == (
        {"lost": 1, "foreign": 1},
        {"lost": 1},
        {"foreign": 1},
    )
    assert gauge(client, 'upwell_audit_findings{kind="lost"}') == 1.0
    assert gauge(client, 'upwell_audit_findings_left{kind="lost"}') == 0.0
    assert gauge(client, 'upwell_audit_findings_left{kind="foreign"}') == 1.0
    assert gauge(client, "upwell_audit_documents") == 4.0
    assert gauge(client, "upwell_audit_finished_timestamp_seconds") > 1e9


def test_an_audit_that_waits_already_is_not_asked_for_twice(client):
    first = client.post("/v1/verify", json={}).json()["id"]

    assert client.post("/v1/verify", json={}).json()["id"] == first
    assert client.post("/v1/verify", json={"deep": True}).json()["id"] != first


def test_an_unknown_audit_and_an_unknown_wish_are_refused(client):
    assert client.get(f"/v1/verify/{ID}").status_code == 404
    assert client.post("/v1/verify", json={"repare": True}).status_code == 422


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def run(httpserver: HTTPServer, monkeypatch, capsys, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """Run `upwell verify` against an api that answers with a report; returns (exit code, output, errors)."""
    for name in [name for name in os.environ if name.startswith("UPWELL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UPWELL_API_URL", httpserver.url_for(""))
    monkeypatch.setattr(command, "EVERY_S", 0.01)

    def verify(report: dict, *words: str, asks: dict | None = None, state: str = "done") -> tuple[int, str, str]:
        wanted = {"repair": False, "deep": False} | (asks or {})
        audit = {"id": ID, "state": "running", "repair": wanted["repair"], "progress": {}, "report": None}
        told = audit | {"progress": {"step": "points", "points": 5}}
        httpserver.expect_ordered_request("/v1/verify", method="POST", json=wanted).respond_with_json({"id": ID})
        httpserver.expect_ordered_request(f"/v1/verify/{ID}").respond_with_json(told)
        httpserver.expect_ordered_request(f"/v1/verify/{ID}").respond_with_json(
            audit | {"state": state, "report": report}
        )
        monkeypatch.setattr(sys, "argv", ["upwell", "verify", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        httpserver.check_assertions()
        return int(ended.value.code or 0), captured.out, captured.err

    return verify


def test_when_all_is_well_it_says_so_and_ends_with_0(run):
    code, out, err = run(WELL)

    assert code == 0
    assert out == "all is well: 4 documents, 12 points, 4 files compared in 0.5 s\n"
    assert "points: 0 files, 5 points" in err


def test_findings_are_told_with_an_example_and_a_remedy_and_end_with_1(run):
    code, out, err = run(
        WELL | {"clean": False, "findings": finding("lost", "a\x1b[31m.md")}, "--deep", asks={"deep": True}
    )

    assert code == 1
    assert "lost: 1 documents, 2 points" in out
    assert "docs/a [31m.md: 2 of its 5 chunks are not in the index." in out
    assert "what to do: Do this." in out
    assert "upwell verify --repair" in err


def test_what_was_repaired_ends_with_0(run):
    report = WELL | {"findings": finding("lost"), "after": {}, "repaired": {"lost": 1}}
    code, out, _ = run(report, "--repair", asks={"repair": True})

    assert code == 0
    assert "lost: 1 documents, 2 points, 1 repaired" in out
    assert "what to do" not in out


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"findings": finding("foreign")}, 0),
        ({"findings": finding("foreign") | finding("lost")}, 1),
        ({"findings": finding("foreign") | finding("lost"), "after": {}}, 0),
        ({"findings": finding("foreign") | finding("vanished"), "after": {}}, 1),
        ({"findings": finding("foreign"), "unsettled": 2, "after": {}}, 1),
        ({"findings": finding("foreign"), "unchecked": [{"source": "docs", "why": "It is away."}]}, 1),
        ({"failed": "No answer from Qdrant."}, 1),
    ],
)
def test_foreign_points_can_be_accepted_and_nothing_else(run, change, code):
    assert run(WELL | {"clean": False} | change, "--accept-foreign")[0] == code


def test_a_failed_audit_says_why(run):
    code, out, err = run({"clean": False, "failed": "No answer from Qdrant."}, state="failed")

    assert (code, out) == (1, "")
    assert "No answer from Qdrant." in err


def test_programs_get_the_whole_audit_as_json(run):
    code, out, _ = run(WELL | {"clean": False, "findings": finding("lost")}, "--json")

    told = json.loads(out)
    assert code == 1
    assert told["ok"] is False
    assert told["report"]["findings"]["lost"]["examples"][0]["path"] == "a.md"


def test_without_a_housekeeper_it_says_how_to_start_one(httpserver, monkeypatch, capsys, tmp_path):
    waiting = {"id": ID, "state": "asked", "progress": {}, "report": None}
    httpserver.expect_request("/v1/verify", method="POST").respond_with_json({"id": ID})
    httpserver.expect_request(f"/v1/verify/{ID}").respond_with_json(waiting)
    httpserver.expect_request("/v1/verify", method="GET").respond_with_json({"last": None, "running": waiting})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UPWELL_API_URL", httpserver.url_for(""))
    monkeypatch.setattr(command, "NOBODY_S", 0.05)
    monkeypatch.setattr(command, "EVERY_S", 0.01)
    monkeypatch.setattr(sys, "argv", ["upwell", "verify"])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 1
    assert "upwell worker beat" in capsys.readouterr().err
