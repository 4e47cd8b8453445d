"""Every command against a small server that answers as the api does: what is asked, what is said, how it ends."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ops.cli import main as cli

ID = "0d4c1f1e-6f0a-5d55-9a0e-1a6b0b4f7e11"


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def upwell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Run a command in this process, in an empty folder, without a setting of the machine."""
    for name in [name for name in os.environ if name.startswith("UPWELL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["upwell", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def api(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, upwell: object) -> HTTPServer:
    monkeypatch.setenv("UPWELL_API_URL", httpserver.url_for(""))
    return httpserver


def error(status: int, message: str, what_next: str) -> Response:
    body = {"error": {"code": "x", "message": message, "next": what_next}}
    return Response(json.dumps(body), status, content_type="application/json")


def document(path: str = "house.md", source: str = "inbox", state: str = "ready", **more: Any) -> dict[str, Any]:
    return {"id": ID, "source": source, "path": path, "state": state, "reason": None, "chunks": 1, **more}


def documents(api: HTTPServer, *found: dict[str, Any]) -> None:
    """Serve GET /v1/documents with exact filters."""

    def answer(request: Request) -> Response:
        wanted = {key: request.args[key] for key in ("path", "source", "state") if key in request.args}
        fitting = [d for d in found if all(d[key] == value for key, value in wanted.items())]
        body = {"documents": fitting, "next_cursor": None}
        return Response(json.dumps(body), content_type="application/json")

    api.expect_request("/v1/documents", method="GET").respond_with_handler(answer)


HIT = {
    "id": "p", "doc_id": ID, "score": 0.75, "content": "The boiler code\nis 4711.",
    "metadata": {"path": "house.md", "source": "inbox", "page": 3, "heading": "House › Cellar"},
    "highlights": [], "explain": {
        "summary": "It has the words boiler.", "lists": {"bm25": {"rank": 1, "score": 9.5}}, "fusion": None,
        "missing": ["cellar"], "filters": ["source = inbox"], "chunk": 4, "page": 3, "version": "abcdef",
    },
}  # fmt: skip


# -------------------------------------------------------------------------------------------------- search and ask


def test_search_sends_what_was_asked_and_shows_hits_best_first(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    body = {
        "query": "boiler", "limit": 3, "mode": "lexical", "explain": True, "judge": True,
        "filters": {"source": "inbox", "filetype": ["text/plain", "text/markdown"]},
    }  # fmt: skip
    api.expect_request("/v1/search", method="POST", json=body).respond_with_json(
        {"hits": [HIT], "mode": "lexical", "took_ms": 1}
    )

    done = upwell(
        "search", "boiler", "-k", "3", "--mode", "Lexical", "--explain", "--filter", "source=inbox",
        "--filter", "filetype=text/plain", "--filter", "filetype=text/markdown",
    )  # fmt: skip

    assert done.code == 0
    assert done.out.splitlines()[:3] == [
        "1. house.md, page 3  0.750",
        "   House › Cellar",
        "   The boiler code is 4711.",
    ]
    assert done.out.splitlines()[3:] == [
        "   > It has the words boiler.",
        "   > by words: number 1, score 9.500",
        "   > words that neither it nor its name has: cellar",
        "   > passes: source = inbox",
        "   > chunk 4, page 3, version abcdef",
    ]
    assert done.err == ""


def test_of_a_joined_hit_the_chunk_that_was_found_is_shown(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    body = {
        "query": "boiler",
        "limit": 10,
        "mode": "hybrid",
        "filters": {},
        "explain": False,
        "judge": True,
        "join": True,
    }
    joined = [{"offset": -1, "span": [0, 7]}, {"offset": 0, "span": [9, 33]}]
    api.expect_request("/v1/search", method="POST", json=body).respond_with_json(
        {"hits": [HIT | {"content": "Before.\n\nThe boiler code is 4711.", "joined": joined}], "mode": "hybrid"}
    )

    done = upwell("search", "boiler", "--join")

    assert done.out.splitlines()[2:] == ["   The boiler code is 4711."]


def test_search_says_when_it_had_to_do_without_vectors(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    api.expect_request("/v1/search").respond_with_json({"hits": [], "mode": "lexical", "took_ms": 1})

    done = upwell("search", "boiler")

    assert (done.code, done.out) == (0, "")
    assert "lexical only" in done.err
    assert "Nothing found" in done.err


def test_search_passes_on_what_must_be_known_of_the_request(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    note = "No document has a field 'jurisdiktion'. Is it 'jurisdiction'?"
    api.expect_request("/v1/search").respond_with_json({"hits": [], "mode": "hybrid", "took_ms": 1, "note": note})

    assert f"upwell: {note}\nNothing found" in upwell("search", "boiler").err


@pytest.mark.parametrize("complete", [True, False])
def test_counts_that_are_not_of_everything_say_so(
    api: HTTPServer, upwell: Callable[..., Outcome], complete: bool
) -> None:
    counts = {"facets": {"kind": [{"value": "law", "count": 3}]}, "facets_over": {"documents": 9, "complete": complete}}
    api.expect_request("/v1/search").respond_with_json({"hits": [HIT], "mode": "hybrid", "took_ms": 1, **counts})

    done = upwell("search", "boiler", "--facet", "kind")

    assert done.out.splitlines()[-1] == "kind: law (3)"
    assert ("counted over 9 documents" in done.err) is not complete


def test_json_is_the_apis_own_answer(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    answer = {"hits": [HIT], "mode": "hybrid", "took_ms": 2}
    api.expect_request("/v1/search").respond_with_json(answer)

    assert upwell("search", "boiler", "--json").json == answer


def test_text_of_documents_cannot_drive_the_terminal(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    hostile = {**HIT, "content": "a\x1b[2Jb", "metadata": {"path": "x\x1b]0;y\x07.md"}}
    api.expect_request("/v1/search").respond_with_json({"hits": [hostile], "mode": "hybrid", "took_ms": 1})

    assert "\x1b" not in upwell("search", "boiler").out


def sse(*events: tuple[str, Any]) -> Response:
    text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    return Response(text, content_type="text/event-stream; charset=utf-8")


ANSWER: dict[str, Any] = {
    "answer": "The boiler code is 4711. [1]",
    "citations": [{"n": 1, "doc_id": ID, "source": "inbox", "path": "house.md", "page": None}],
    "grounded": True, "refused": False, "hits": [HIT], "took_ms": 5,
}  # fmt: skip


def test_ask_prints_the_answer_then_its_citations_and_nothing_else(
    api: HTTPServer, upwell: Callable[..., Outcome]
) -> None:
    streamed = sse(("hits", {"hits": []}), ("delta", {"text": "The boiler code "}), ("done", ANSWER))
    api.expect_request("/v1/answer", method="POST", headers={"Accept": "text/event-stream"}).respond_with_response(
        streamed
    )

    done = upwell("ask", "What is the boiler code?")

    assert done.out == "The boiler code is 4711. [1]\n[1] house.md\n"
    assert (done.code, done.err) == (0, "")


def test_ask_shows_words_as_they_come_on_a_terminal(
    api: HTTPServer, upwell: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.cli.ask.is_terminal", lambda: True)
    events = [("delta", {"text": "The boiler code "}), ("delta", {"text": "is 4711. [1]"}), ("done", ANSWER)]
    api.expect_request("/v1/answer").respond_with_response(sse(*events))

    assert upwell("ask", "What is the boiler code?").out == "The boiler code is 4711. [1]\n[1] house.md\n"


def test_ask_corrects_words_that_did_not_stand_up_to_the_check(
    api: HTTPServer, upwell: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.cli.ask.is_terminal", lambda: True)
    api.expect_request("/v1/answer").respond_with_response(sse(("delta", {"text": "It is 9. [7]"}), ("done", ANSWER)))

    done = upwell("ask", "What is the boiler code?")

    assert "corrected" in done.err
    assert done.out.endswith("The boiler code is 4711. [1]\n[1] house.md\n")


def test_ask_names_the_page_and_says_when_the_answer_is_extractive(
    api: HTTPServer, upwell: Callable[..., Outcome]
) -> None:
    citation = {**ANSWER["citations"][0], "page": 12}
    api.expect_request("/v1/answer").respond_with_json(
        {**ANSWER, "citations": [citation], "generated_by": "extractive"}
    )

    done = upwell("ask", "What is the boiler code?")

    assert done.out.endswith("[1] house.md, page 12\n")
    assert "extractive" in done.err
    assert "set UPWELL_CHAT_URL" in done.err


def test_where_the_model_failed_nobody_is_told_to_set_one(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    note = "The chat endpoint (UPWELL_CHAT_URL) answers 500."
    api.expect_request("/v1/answer").respond_with_json({**ANSWER, "generated_by": "extractive", "note": note})

    told = upwell("ask", "What is the boiler code?").err

    assert note in told
    assert "extractive" in told
    assert "set UPWELL_CHAT_URL" not in told


def test_ask_says_when_nothing_answers_the_question(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    refusal = {**ANSWER, "answer": "I do not know.", "citations": [], "refused": True}
    api.expect_request("/v1/answer").respond_with_json(refusal)

    done = upwell("ask", "Who am I?")

    assert done.out == "I do not know.\n"
    assert "nothing in the documents" in done.err


def test_an_answer_that_breaks_off_is_a_failure(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    api.expect_request("/v1/answer").respond_with_response(sse(("hits", {"hits": []})))

    done = upwell("ask", "What is the boiler code?")

    assert done.code == 1
    assert "broke off" in done.err


def test_an_error_in_the_stream_is_shown_with_its_remedy(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    fault = {"code": "chat_away", "message": "The chat endpoint is away.", "next": "Check UPWELL_CHAT_URL."}
    api.expect_request("/v1/answer").respond_with_response(sse(("error", fault)))

    done = upwell("ask", "What is the boiler code?")

    assert (done.code, done.err) == (1, "upwell: The chat endpoint is away. Check UPWELL_CHAT_URL.\n")


# ------------------------------------------------------------------------------------------------- errors and finding


def test_a_refusal_of_the_api_is_one_line_with_what_to_do(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    api.expect_request("/v1/search").respond_with_response(error(503, "The query worker is away", "Start it."))

    done = upwell("search", "boiler")

    assert (done.code, done.out, done.err) == (1, "", "upwell: The query worker is away. Start it.\n")


def test_an_error_page_that_is_not_ours_still_becomes_one_line(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    api.expect_request("/v1/search").respond_with_data("<h1>Bad gateway</h1>", status=502)

    done = upwell("search", "boiler")

    assert done.code == 1
    assert re.fullmatch(r"upwell: Upwell at http\S+ answered with status 502\.\n", done.err)


def test_nobody_at_the_address_names_it_and_the_setting(
    upwell: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPWELL_API_URL", f"http://127.0.0.1:{closed_port()}")

    done = upwell("search", "boiler")

    assert done.code == 1
    assert done.err.startswith("upwell: No answer from Upwell at http://127.0.0.1:")
    assert "UPWELL_API_URL" in done.err
    assert "upwell up" in done.err
    assert done.err.count("\n") == 1


def test_the_key_goes_along_as_a_bearer_and_a_missing_one_is_named(
    api: HTTPServer, upwell: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.expect_request("/v1/search", headers={"Authorization": "Bearer k1"}).respond_with_json(
        {"hits": [], "mode": "hybrid"}
    )
    api.expect_request("/v1/search").respond_with_data("", status=401)

    assert "UPWELL_API_KEY" in upwell("search", "boiler").err
    monkeypatch.setenv("UPWELL_API_KEY", "k1")
    assert upwell("search", "boiler").code == 0


def test_commands_find_the_one_that_runs_in_this_folder(httpserver: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    Path(".upwell").mkdir()
    Path(".upwell/up.json").write_text(json.dumps({"addresses": {"api": httpserver.url_for("").rstrip("/")}}))
    httpserver.expect_request("/v1/search").respond_with_json({"hits": [], "mode": "hybrid"})

    assert upwell("search", "boiler").code == 0


def test_an_address_that_is_none_is_refused_by_name(
    upwell: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPWELL_API_URL", "localhost:8080")

    assert "UPWELL_API_URL must look like" in upwell("status").err


def test_a_wrong_setting_is_named_as_it_was_typed(
    upwell: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPWELL_API_PORT", "eighty")

    done = upwell("up", ".")

    assert done.code == 78
    assert done.err.startswith("upwell: UPWELL_API_PORT: ")


def test_hits_that_are_only_what_is_nearest_are_shown_and_told_as_such(
    api: HTTPServer, upwell: Callable[..., Outcome]
) -> None:
    found = {"hits": [HIT], "mode": "hybrid", "took_ms": 1, "weak": True}
    api.expect_request("/v1/search", method="POST").respond_with_json(found)

    done = upwell("search", "zebra")

    assert done.out.startswith("1. house.md")
    assert done.err == "upwell: nothing here seems to be about this. What is nearest:\n"


def test_a_facet_of_an_unknown_field_is_told(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    over = {"documents": 1, "complete": True, "note": "No document has a field 'titel'. Is it 'title'?"}
    found = {"hits": [HIT], "mode": "hybrid", "took_ms": 1, "facets": {"titel": []}, "facets_over": over}
    api.expect_request("/v1/search", method="POST").respond_with_json(found)

    done = upwell("search", "boiler", "--facet", "titel")

    assert "Is it 'title'?" in done.err
    assert "titel: none" in done.out


# --------------------------------------------------------------------------------------------------------- exit codes

WRONGLY_CALLED = [
    ["search"], ["search", "x", "--filter", "nonsense"], ["search", "x", "--filter", "{nonsense"],
    ["search", "x", "-k", "0"], ["search", "x", "--mode", "fast"], ["ask", "x", "--filter", "=x"],
    ["explain", "x"], ["explain", ID, "x", "--filter", "a="],
    ["evaluate"], ["evaluate", "q.csv", "--from-feedback"], ["evaluate", "q.csv", "--against", "mode=fast"],
    ["evaluate", "q.csv", "--against", "mode=hybrid"], ["evaluate", "q.csv", "--against", "http://"],
    ["status", "--timeout", "soon"], ["documents"], ["documents", "show"], ["documents", "retry"], ["documents", "why"],
    ["held", "approve"], ["held", "reject", ID, "--all"], ["contract", "check", "nonsense"], ["mcp", "--port", "x"],
    ["verify", "--nonsense"], ["doctor", "--nonsense"], ["add"], ["watch"], ["api", "--nonsense"],
    ["up", "--port", "0"], ["worker"], ["worker", "nonsense"], ["version", "--nonsense"], ["nonsense"],
]  # fmt: skip


@pytest.mark.parametrize("words", WRONGLY_CALLED, ids=" ".join)
def test_every_command_that_is_called_wrongly_ends_with_2(upwell: Callable[..., Outcome], words: list[str]) -> None:
    done = upwell(*words)

    assert (done.code, done.out if words[-1:] != ["documents"] else "") == (2, "")


def test_every_command_is_among_those_called_wrongly() -> None:
    assert {words[0] for words in WRONGLY_CALLED} >= set(cli.COMMANDS) - cli.HIDDEN


def test_what_the_api_takes_for_no_request_was_called_wrongly_and_what_it_cannot_do_now_failed(
    api: HTTPServer, upwell: Callable[..., Outcome]
) -> None:
    told = {"error": {"code": "invalid_request", "message": "facets: no such unit", "next": ""}}
    api.expect_ordered_request("/v1/search").respond_with_json(told, status=422)
    api.expect_ordered_request("/v1/search").respond_with_response(error(422, "Qdrant has no collection.", ""))

    assert upwell("search", "boiler", "--facet", "date:week").code == 2
    assert upwell("search", "boiler").code == 1


@pytest.mark.parametrize("words", [["search", "x"], ["ask", "x"], ["status"], ["documents", "list"], ["verify"]])
def test_where_nobody_listens_a_command_has_failed(
    upwell: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("UPWELL_API_URL", "http://127.0.0.1:9")

    assert upwell(*words).code == 1


def test_an_address_that_is_none_is_a_wrong_setting(
    upwell: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPWELL_API_URL", "localhost:8080")

    assert upwell("status").code == 78


# ------------------------------------------------------------------------------------------------------------- status

CONVERGED = {
    "converged": True, "documents": {"ready": 3, "parked": 1}, "chunks": 9, "embeddings_pending": 0,
    "queues": {"live": {"length": 0, "oldest_age_s": None}}, "addresses": {"api": "http://a"}, "collection": "upwell",
}  # fmt: skip
WORKING = {**CONVERGED, "converged": False, "documents": {"queued": 2}, "embeddings_pending": 4}


def test_status_shows_documents_by_state(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    api.expect_request("/v1/status").respond_with_json(CONVERGED)

    done = upwell("status")

    assert done.code == 0
    assert done.out.splitlines()[0] == "up to date: 3 ready, 1 parked; 0 embeddings pending"
    assert upwell("status", "--json").json == CONVERGED


def test_waiting_ends_when_everything_is_done(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    api.expect_ordered_request("/v1/status").respond_with_json(WORKING)
    api.expect_ordered_request("/v1/status").respond_with_json(CONVERGED)

    done = upwell("status", "--wait", "--json")

    assert (done.code, done.json) == (0, CONVERGED)
    assert "2 queued; 4 embeddings pending" in done.err


def test_waiting_in_vain_is_a_failure_that_shows_how_far_it_came(
    api: HTTPServer, upwell: Callable[..., Outcome]
) -> None:
    api.expect_request("/v1/status").respond_with_json(WORKING)

    done = upwell("status", "--wait", "--timeout", "0.3", "--json")

    assert (done.code, done.json) == (1, WORKING)
    assert "Not done after 0.3 s: 2 queued" in done.err


def test_waiting_also_waits_for_the_api_to_appear(upwell: Callable[..., Outcome], tmp_path: Path) -> None:
    port = closed_port()
    Path(".upwell").mkdir()
    Path(".upwell/up.json").write_text(json.dumps({"addresses": {"api": f"http://127.0.0.1:{port}"}}))
    body = json.dumps(CONVERGED)
    later = subprocess.Popen(
        [sys.executable, "-c", LATE_SERVER, str(port), body], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    try:
        done = upwell("status", "--wait", "--timeout", "60", "--json")
    finally:
        later.kill()
        later.wait()

    assert (done.code, done.json) == (0, CONVERGED)
    assert "waiting for the api" in done.err


def test_waiting_for_nobody_ends_with_the_address(upwell: Callable[..., Outcome]) -> None:
    Path(".upwell").mkdir()
    Path(".upwell/up.json").write_text(json.dumps({"addresses": {"api": f"http://127.0.0.1:{closed_port()}"}}))

    done = upwell("status", "--wait", "--timeout", "0.3")

    assert done.code == 1
    assert "No answer from Upwell at" in done.err


# ---------------------------------------------------------------------------------------------------------- documents


def test_the_list_of_documents_shows_state_place_and_reason(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    documents(api, document(), document("bad.pdf", state="parked", reason="It needs a password."))

    done = upwell("documents", "list")

    assert done.out.splitlines() == [
        "ready      inbox/house.md",
        "parked     inbox/bad.pdf  It needs a password.",
    ]
    assert upwell("documents", "list", "--state", "parked", "--json").json["documents"][0]["path"] == "bad.pdf"


def test_the_list_follows_its_cursor_to_the_end(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    first = {"documents": [document("a")], "next_cursor": "c1"}
    api.expect_ordered_request("/v1/documents").respond_with_json(first)
    second = {"documents": [document("b")], "next_cursor": None}
    api.expect_ordered_request("/v1/documents", query_string={"limit": "200", "cursor": "c1"}).respond_with_json(second)

    assert [line.split("/")[1] for line in upwell("documents", "list").out.splitlines()] == ["a", "b"]


def test_a_document_is_shown_by_id_by_path_and_by_source_and_path(
    api: HTTPServer, upwell: Callable[..., Outcome]
) -> None:
    documents(api, document("notes/house.md"))
    api.expect_request(f"/v1/documents/{ID}").respond_with_json(document("notes/house.md", title="House"))

    for which in (ID, "notes/house.md", "inbox/notes/house.md"):
        done = upwell("documents", "show", which)
        assert done.code == 0
        assert "title: House" in done.out


def test_a_file_name_is_enough_where_only_one_document_has_it(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    documents(api, document("notes/house.md"), document("a/readme.md"), document("b/readme.md"))
    api.expect_request(f"/v1/documents/{ID}").respond_with_json(document("notes/house.md", title="House"))

    assert "title: House" in upwell("documents", "show", "house.md").out
    assert "not unique" in upwell("documents", "show", "readme.md").err
    assert upwell("documents", "show", "ouse.md").code == 1


def test_a_path_that_two_sources_have_is_not_guessed(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    documents(api, document(), document(source="archive"))

    done = upwell("documents", "show", "house.md")

    assert done.code == 1
    assert "not unique" in done.err
    assert "archive/house.md" in done.err


def test_an_unknown_path_leads_to_why(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    documents(api)

    done = upwell("documents", "show", "nowhere.md")

    assert done.code == 1
    assert "upwell documents why nowhere.md" in done.err


def test_one_document_is_tried_again(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    api.expect_oneshot_request(f"/v1/documents/{ID}/retry", method="POST").respond_with_json(document(state="queued"))

    done = upwell("documents", "retry", ID)

    assert done.code == 0
    assert done.out.startswith("1 document will be tried again")
    api.check()


def test_all_that_failed_or_are_parked_are_tried_again(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    for state, count in (("failed", 2), ("parked", 3)):
        api.expect_request("/v1/documents/retry", method="POST", query_string={"state": state}).respond_with_json(
            {"retried": count}
        )

    assert upwell("documents", "retry", "--failed", "--json").json == {"retried": 5}
    assert upwell("documents", "retry").code == 2


def test_why_asks_about_the_file_that_is_meant_here(
    api: HTTPServer, upwell: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "notes.tmp").touch()
    api.expect_request("/v1/documents/why", query_string={"path": str(tmp_path / "notes.tmp")}).respond_with_json(
        {"source": "inbox", "path": "notes.tmp", "state": None, "reason": "It is ignored by the rule '*.tmp'."}
    )

    assert upwell("documents", "why", "notes.tmp").out.splitlines() == [
        "inbox/notes.tmp: not indexed",
        "It is ignored by the rule '*.tmp'.",
    ]


def test_chunks_are_shown_in_order_with_their_place(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    chunk = {"index": 0, "content": "The boiler code\nis 4711.", "page": 2, "heading": None, "embedded": False}
    api.expect_request(f"/v1/documents/{ID}/chunks").respond_with_json({"chunks": [chunk]})

    assert upwell("documents", "chunks", ID).out.splitlines() == [
        "--- 0, page 2  (no vector yet)",
        "The boiler code",
        "is 4711.",
    ]


# --------------------------------------------------------------------------------------------------------------- held


def test_held_deletions_are_listed_approved_and_rejected(api: HTTPServer, upwell: Callable[..., Outcome]) -> None:
    api.expect_request("/v1/held", method="GET").respond_with_json({"documents": [document(state="held")]})
    api.expect_request("/v1/held/approve", method="POST", json={"ids": [ID]}).respond_with_json({"ids": [ID]})
    api.expect_request("/v1/held/reject", method="POST", json={"all": True}).respond_with_json({"ids": [ID] * 4})

    assert "inbox/house.md" in upwell("held", "list").out
    assert upwell("held", "approve", ID).out == "1 document will be deleted from the index.\n"
    assert upwell("held", "reject", "--all").out == "4 documents will be kept.\n"


def test_deciding_about_nothing_is_an_error_not_a_decision_about_everything(
    api: HTTPServer, upwell: Callable[..., Outcome]
) -> None:
    assert upwell("held", "approve").code == 2
    assert upwell("held", "approve", ID, "--all").code == 2


# ---------------------------------------------------------------------------------------------------------------- add


@pytest.fixture
def uploads(api: HTTPServer) -> dict[str, bytes]:
    """An api that takes uploads, except those whose text says not to."""
    taken: dict[str, bytes] = {}

    def take(request: Request) -> Response:
        data = request.files["file"].read()
        if data == b"no":
            return error(413, "It is too big.", "Raise UPWELL_UPLOAD_MAX_BYTES.")
        taken[request.form["external_id"]] = data
        return Response(json.dumps({"id": ID, "state": "queued"}), 202, content_type="application/json")

    api.expect_request("/v1/status").respond_with_json(CONVERGED)
    api.expect_request("/v1/documents", method="POST").respond_with_handler(take)
    return taken


def test_files_and_folders_are_uploaded_under_their_paths(
    uploads: dict[str, bytes], upwell: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "deep" / "a.md").write_bytes(b"x" * 700_000)
    (tmp_path / "docs" / "ü.md").write_bytes(b"umlaut")
    (tmp_path / "one.txt").write_bytes(b"")

    done = upwell("add", "docs", "one.txt")

    assert done.code == 0
    assert done.out.startswith("3 files added")
    assert uploads == {"docs/deep/a.md": b"x" * 700_000, "docs/ü.md": b"umlaut", "one.txt": b""}


def test_what_is_ignored_by_a_watcher_is_not_uploaded_but_what_is_named_is(
    uploads: dict[str, bytes], upwell: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "docs" / ".git").mkdir(parents=True)
    (tmp_path / "docs" / ".git" / "HEAD").write_bytes(b"ref")
    (tmp_path / "docs" / ".upwellignore").write_text("*.log\n")
    (tmp_path / "docs" / "a.log").write_bytes(b"log")
    (tmp_path / "docs" / "b.md").write_bytes(b"b")
    (tmp_path / "docs" / "link.md").symlink_to(tmp_path / "docs" / "b.md")

    assert upwell("add", "docs").code == 0
    assert set(uploads) == {"docs/b.md"}
    assert upwell("add", "docs/a.log").code == 0
    assert set(uploads) == {"docs/b.md", "docs/a.log"}


def test_one_refused_file_does_not_keep_the_others_and_is_listed(
    uploads: dict[str, bytes], upwell: Callable[..., Outcome], tmp_path: Path
) -> None:
    for name, text in (("a.md", b"a"), ("b.md", b"no"), ("c.md", b"c")):
        (tmp_path / name).write_bytes(text)

    done = upwell("add", "a.md", "b.md", "c.md")

    assert done.code == 1
    assert set(uploads) == {"a.md", "c.md"}
    assert "b.md: It is too big. Raise UPWELL_UPLOAD_MAX_BYTES." in done.err
    failed = upwell("add", "b.md", "--json").json["failed"]
    assert [entry["path"] for entry in failed] == ["b.md"]


def test_two_files_that_would_be_one_document_are_refused_before_anything_is_sent(
    uploads: dict[str, bytes], upwell: Callable[..., Outcome], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = [tmp_path_factory.mktemp("x") / "a.md", tmp_path_factory.mktemp("y") / "a.md"]
    for file in elsewhere:
        file.write_bytes(b"a")

    done = upwell("add", *map(str, elsewhere))

    assert done.code == 1
    assert "would both be the document 'a.md'" in done.err
    assert uploads == {}


def test_a_path_that_is_not_there_is_named(uploads: dict[str, bytes], upwell: Callable[..., Outcome]) -> None:
    assert "There is no nothing.md" in upwell("add", "nothing.md").err


# --------------------------------------------------------------------------------------------------------- the program


def test_every_command_has_json_and_help_that_names_its_environment() -> None:
    import typer.main

    root = typer.main.get_command(cli.command_line())
    for words, command in leaves(root):
        options = {option for parameter in command.params for option in parameter.opts}
        if words != "mcp":  # its standard output is JSON-RPC and nothing else
            assert "--json" in options, words
        if words not in ("version",):
            assert "UPWELL_" in (command.help or ""), words


def leaves(command: Any, words: str = "") -> list[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        return [(words, command)]
    return [leaf for name, sub in command.commands.items() for leaf in leaves(sub, f"{words} {name}".strip())]


def said(code: str) -> str:
    """Return what a new interpreter prints that runs ``code`` to its end."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_search_load_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['upwell', 'search', '--help']\n"
        "from ops.cli.main import main\n"
        "import ops.cli.client\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'celery', 'sqlalchemy', 'fastapi', 'httpx', 'numpy', 'redis', 'qdrant_client', 'openai', 'rich',"
        " 'pydantic_settings'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    said(code)


def test_a_command_imports_no_other_command() -> None:
    code = (
        "import sys\nsys.argv = ['upwell', 'up', '--help']\n"
        "from ops.cli.main import COMMANDS, main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "others = {where.partition(':')[0] for name, where in COMMANDS.items() if name != 'up'} & set(sys.modules)\n"
        "assert not others, others"
    )
    assert "watch DIRs" in said(code)


def test_a_reader_that_leaves_early_gets_no_traceback(api: HTTPServer) -> None:
    documents(api, *(document(f"{number}.md" + "x" * 200) for number in range(1000)))
    command = f"'{sys.executable}' -m ops.cli documents list --limit 1000 | head -1"
    env = {**os.environ, "UPWELL_API_URL": api.url_for("")}

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=env, check=False)

    assert done.stdout.startswith("ready")
    assert done.stderr == ""


LATE_SERVER = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        body = sys.argv[2].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
time.sleep(1)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(*words: str, **env: str) -> dict[str, Any]:
    """Return how to run a command in a process of its own, with ``env`` on top of the machine's locale and terminal."""
    plain = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "LC_ALL"}}
    return {"args": [sys.executable, "-m", "ops.cli", *words], "env": plain | env}


NO_LETTERS = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_locale_without_the_letters_of_a_name_is_no_reason_to_fail(api):
    asked = []

    def answer(request: Request) -> Response:
        asked.append(request.args.get("contains") or request.get_json()["query"])
        hit = {"content": "Übermaß", "metadata": {"path": "Übersicht.md"}, "score": 1.0}
        body = {"documents": [document("Übersicht.md")], "next_cursor": None, "hits": [hit], "took_ms": 1}
        return Response(json.dumps(body), content_type="application/json")

    api.expect_request("/v1/documents").respond_with_handler(answer)
    api.expect_request("/v1/search").respond_with_handler(answer)
    told = [
        subprocess.run(**command(*words, **NO_LETTERS), capture_output=True, check=True).stdout.decode("ascii")
        for words in (
            ("documents", "list", "--contains", "übersicht"),
            ("search", "übersicht"),
            ("search", "übersicht", "--json"),
        )
    ]

    assert asked == ["übersicht"] * 3
    assert r"inbox/\xdcbersicht.md" in told[0]
    assert r"\xdcbersicht.md" in told[1]
    assert json.loads(told[2])["hits"][0]["content"] == "Übermaß"


@pytest.mark.parametrize(
    ("env", "styled"),
    [({"TERM": "xterm-256color"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
    ids=["a terminal", "a dumb one", "plain by request"],
)
def test_letters_are_bold_only_where_a_terminal_knows_them_and_nobody_wants_them_plain(api, env, styled):
    hit = {"content": "The boiler.", "metadata": {"path": "house.md"}, "score": 1.0}
    api.expect_request("/v1/search").respond_with_json({"hits": [hit], "took_ms": 1})
    ours, theirs = os.openpty()
    subprocess.run(**command("search", "boiler", **env), stdout=theirs, check=True)
    told = os.read(ours, 4096)
    for end in (ours, theirs):
        os.close(end)

    assert b"house.md" in told
    assert (b"\x1b[" in told) is styled
