"""The HTTP face over a real ledger, a real Valkey, real uploads and a Celery worker that answers in the test."""

from __future__ import annotations

import json
import time
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from ops.api.app import make_app
from ops.api.main import ApiRefuses, run
from ops.api.settings import ApiSettings
from tests.support.askable import answering
from workers.contract.intake import Observation, Stat, beat, observe, register_source, scan_finished
from workers.contract.schema import documents
from workers.contract.states import State
from workers.indexing.ledger import Indexed, Ledger

ANSWERER = """
@app.task(name="query.search", ignore_result=False, acks_late=False)
def search(request):
    if request["query"] == "bad":
        return {"error": {"class": "BadRequest", "message": "filters: no"}}
    if request["query"] == "away":
        return {"error": {"class": "IndexUnavailable", "message": "No answer from Qdrant."}}
    return {"hits": [], "mode": "hybrid", "took_ms": 1.0, "asked": request}

@app.task(name="query.search_batch", ignore_result=False, acks_late=False)
def search_batch(request):
    return {"results": [search(each) for each in request["searches"]]}

@app.task(name="query.explain", ignore_result=False, acks_late=False)
def explain(request):
    return {"verdict": "not_indexed", "summary": "None of its text is in the index.", "asked": request}

@app.task(name="query.question", ignore_result=False, acks_late=False)
def question(request):
    return {"question": "Who?", "span": request["text"], "fault": None, "generated_by": "m"}

@app.task(name="query.answer", ignore_result=False, acks_late=False)
def answer(request, stream=None):
    done = {"answer": "Yes. [1]", "citations": [], "grounded": True, "refused": False, "hits": [], "took_ms": 1.0}
    if stream is None:
        return done
    for event, data in (("hits", {"hits": []}), ("delta", {"text": "Yes. [1]"}), ("done", done)):
        broker.xadd(stream, {"event": event, "data": json.dumps(data)})
        time.sleep(0.05)
    return {"streamed": True}
"""


@pytest.fixture(scope="module")
def prefix():
    return f"test-{uuid4().hex[:8]}:"


@pytest.fixture(scope="module")
def answerer(valkey_url, prefix):
    with answering(ANSWERER, valkey_url, prefix):
        yield


@pytest.fixture
def settings(tmp_path, valkey_url, prefix):
    return ApiSettings(
        ledger_url=f"sqlite:///{tmp_path}/ledger.db",
        broker_url=valkey_url,
        key_prefix=prefix,
        data_dir=tmp_path / "data",
        qdrant_url="http://127.0.0.1:9",
        query_timeout=20,
        upload_max_bytes=100_000,
    )


@pytest.fixture
def client(settings, engine):
    with TestClient(make_app(settings, engine), base_url="http://127.0.0.1:8080") as client:
        yield client


def seen(engine, tmp_path, *names: str, state: State = State.READY) -> list[str]:
    root = tmp_path / "docs"
    root.mkdir(exist_ok=True)
    register_source(engine, "docs", "folder", str(root))
    ledger, ids = Ledger(engine, "w"), []
    for name in names:
        (root / name).write_text(name)
        observation = Observation("docs", name.encode(), Stat(1, 1, 1))
        observe(engine, [observation])
        ledger.commit(
            ledger.claim(observation.document_id, "r"),
            Indexed(state, "v", "r", "c", chunks=2, reason="It is damaged." if state == State.PARKED else None),
        )
        ids.append(observation.document_id)
    return ids


def error(answer) -> dict[str, str]:
    return answer.json()["error"]


def test_a_search_reaches_the_query_worker_as_it_was_asked_and_its_answer_comes_back(client, answerer):
    answer = client.post("/v1/search", json={"query": "boiler", "limit": 3, "filters": {"filetype": "text/plain"}})

    assert answer.status_code == 200
    assert answer.json()["asked"] == {"query": "boiler", "limit": 3, "filters": {"filetype": "text/plain"}}


def test_several_searches_are_answered_in_their_order(client, answerer):
    searches = [{"query": "one"}, {"query": "two", "recency": {"weight": 1}}]
    results = client.post("/v1/search/batch", json={"searches": searches}).json()["results"]

    assert [result["asked"]["query"] for result in results] == ["one", "two"]
    assert results[1]["asked"]["recency"] == {"weight": 1}
    assert client.post("/v1/search/batch", json={"searches": searches * 17}).status_code == 422


def test_a_question_about_a_text_is_asked_of_the_query_worker(client, answerer):
    told = client.post("/v1/questions", json={"text": "It was Ann.", "title": "House"}).json()

    assert told == {"question": "Who?", "span": "It was Ann.", "fault": None, "generated_by": "m"}
    assert client.post("/v1/questions", json={"text": ""}).status_code == 422


def test_a_missing_document_is_explained_with_its_state(client, answerer, engine, tmp_path):
    [key] = seen(engine, tmp_path, "a.md", state=State.PARKED)
    told = client.post(f"/v1/documents/{key}/explain", json={"query": "boiler"}).json()

    assert told["asked"]["doc_id"] == told["document"]["id"] == key
    assert told["summary"] == "None of its text is in the index: it is parked. It is damaged."
    nobody = "00000000-0000-5000-8000-000000000000"
    assert client.post(f"/v1/documents/{nobody}/explain", json={"query": "boiler"}).status_code == 404


def test_many_searches_at_once_each_get_their_own_answer(client, answerer):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: client.post("/v1/search", json={"query": f"q{n}"}).json(), range(48)))

    assert [a["asked"]["query"] for a in answers] == [f"q{n}" for n in range(48)]


def test_an_answer_comes_whole_or_as_events(client, answerer):
    assert client.post("/v1/answer", json={"query": "?"}).json()["answer"] == "Yes. [1]"

    with client.stream("POST", "/v1/answer", json={"query": "?"}, headers={"Accept": "text/event-stream"}) as answer:
        events = [line for line in answer.iter_lines() if line.startswith("event: ")]
    assert events == ["event: hits", "event: delta", "event: done"]


def test_a_fault_of_the_request_and_one_of_a_server_have_different_statuses(client, answerer):
    assert client.post("/v1/search", json={"query": "bad"}).status_code == 422
    away = client.post("/v1/search", json={"query": "away"})
    assert away.status_code == 503
    assert "Qdrant" in error(away)["message"]


@pytest.mark.parametrize(
    "body", [{}, {"query": ""}, {"query": "x", "limit": 10**6}, {"query": "x", "mode": "magic"}, {"query": "x", "y": 1}]
)
def test_a_senseless_request_is_refused_with_the_field(client, body):
    answer = client.post("/v1/search", json=body)

    assert answer.status_code == 422
    assert error(answer)["code"] == "invalid_request"
    assert error(answer)["next"]


def test_without_a_query_worker_the_answer_is_503_and_says_so(settings, engine):
    lonely = settings.model_copy(update={"key_prefix": "nobody:", "query_timeout": 0.5})
    with TestClient(make_app(lonely, engine), base_url="http://127.0.0.1:8080") as client:
        answer = client.post("/v1/search", json={"query": "x"})

    assert answer.status_code == 503
    assert "upwell worker query" in error(answer)["message"]
    assert answer.headers["retry-after"]


def test_documents_are_listed_in_pages_and_by_state(client, engine, tmp_path):
    seen(engine, tmp_path, *(f"{n}.txt" for n in range(5)))
    seen(engine, tmp_path, "broken.pdf", state=State.PARKED)

    first = client.get("/v1/documents", params={"limit": 4}).json()
    second = client.get("/v1/documents", params={"limit": 4, "cursor": first["next_cursor"]}).json()

    assert [d["path"] for d in first["documents"] + second["documents"]] == [
        "0.txt", "1.txt", "2.txt", "3.txt", "4.txt", "broken.pdf",
    ]  # fmt: skip
    assert second["next_cursor"] is None
    [parked] = client.get("/v1/documents", params={"state": "parked"}).json()["documents"]
    assert parked["reason"] == "It is damaged."
    assert {"id", "source", "path", "state", "reason", "version", "chunks", "bytes", "tokens", "indexed_at"} <= set(
        parked
    )
    assert client.get("/v1/documents", params={"cursor": "nonsense"}).status_code == 422
    assert [d["path"] for d in client.get("/v1/documents", params={"path": "brok"}).json()["documents"]] == [
        "broken.pdf"
    ]


def test_one_document_is_shown_and_an_unknown_one_is_404(client, engine, tmp_path):
    [key] = seen(engine, tmp_path, "a.txt")

    assert client.get(f"/v1/documents/{key}").json()["path"] == "a.txt"
    assert client.get("/v1/documents/6d3f9c0e-5a5b-5d0e-9a41-6f1f6b8a7c11").status_code == 404
    assert client.get("/v1/documents/nonsense").status_code == 422


def test_a_parked_document_can_be_retried_and_a_ready_one_cannot(client, engine, tmp_path):
    [parked] = seen(engine, tmp_path, "a.pdf", state=State.PARKED)
    [ready] = seen(engine, tmp_path, "b.txt")

    assert client.post(f"/v1/documents/{parked}/retry").status_code == 202
    assert client.get(f"/v1/documents/{parked}").json()["state"] == "queued"
    assert client.post(f"/v1/documents/{ready}/retry").status_code == 409
    assert client.post("/v1/documents/retry", params={"state": "parked"}).json()["retried"] == 0


def test_an_upload_is_taken_listed_and_deleted(client):
    answer = client.post(
        "/v1/documents",
        files={"file": ("../notes.txt", b"hello")},
        data={"external_id": "team/notes.txt", "metadata": '{"team": "red"}'},
    )
    assert answer.status_code == 202
    key = answer.json()["id"]
    assert client.get(f"/v1/documents/{key}").json()["path"] == "team/notes.txt"

    assert client.delete(f"/v1/documents/{key}").status_code == 202


def test_a_watched_file_is_not_deleted_over_http(client, engine, tmp_path):
    [key] = seen(engine, tmp_path, "a.txt")

    answer = client.delete(f"/v1/documents/{key}")

    assert answer.status_code == 409
    assert "Delete the file" in error(answer)["next"]


def test_bad_uploads_are_refused_in_words(client):
    assert client.post("/v1/documents", files={"file": ("a.txt", b"x" * 200_000)}).status_code == 413
    bad = client.post("/v1/documents", files={"file": ("a.txt", b"x")}, data={"external_id": "../up"})
    assert bad.status_code == 422
    assert client.post("/v1/documents", files={"file": ("a.txt", b"x")}, data={"metadata": "[1"}).status_code == 422


def test_why_names_the_rule_or_the_state(client, engine, tmp_path):
    seen(engine, tmp_path, "a.txt")
    (tmp_path / "docs" / ".upwellignore").write_text("*.log\n")
    (tmp_path / "docs" / "b.log").write_text("x")

    assert client.get("/v1/documents/why", params={"path": "b.log"}).json()["rule"] == "*.log"
    absolute = client.get("/v1/documents/why", params={"path": str(tmp_path / "docs" / "a.txt")}).json()
    assert absolute["state"] == "ready"
    assert client.get("/v1/documents/why", params={"path": "/etc/passwd"}).status_code == 404
    assert client.get("/v1/documents/why", params={"path": "../../etc/passwd"}).status_code == 404


def test_status_converges_only_when_everything_has_come_to_rest(client, engine, tmp_path, monkeypatch):
    monkeypatch.setattr("ops.api.status.SHARED_S", 0.0)
    seen(engine, tmp_path, "a.txt")
    assert client.get("/v1/status").json()["converged"] is False  # no scan has ended yet
    scan_finished(engine, "docs")
    status = client.get("/v1/status").json()
    assert status["converged"] is True
    assert {"documents", "chunks", "embeddings_pending", "queues", "addresses", "collection"} <= set(status)
    assert status["queues"]["embed"] == {"length": 0, "oldest_age_s": 0.0}

    beat(engine, "watcher", {"dirty": 1, "scanning": False})
    assert client.get("/v1/status").json()["converged"] is False
    beat(engine, "watcher", {"dirty": 0, "scanning": False})
    with engine.begin() as connection:
        connection.execute(update(documents).values(state=State.EMBEDDING, vectors_pending=3))
    status = client.get("/v1/status").json()
    assert (status["converged"], status["embeddings_pending"]) == (False, 3)


def test_nothing_has_converged_before_the_watcher_that_is_expected_has_looked(settings, engine, tmp_path):
    seen(engine, tmp_path, "a.txt")
    scan_finished(engine, "docs")  # by the watcher of an earlier start
    expecting = settings.model_copy(update={"api_expects_watcher": True})
    with TestClient(make_app(expecting, engine), base_url="http://127.0.0.1:8080") as client:
        assert client.get("/v1/status").json()["converged"] is False
        beat(engine, "watcher", {"dirty": 0, "scanning": False})
        assert client.get("/v1/status").json()["converged"] is True


def test_the_age_of_a_waiting_hint_is_told(client, settings, engine, tmp_path, monkeypatch):
    monkeypatch.setattr("ops.api.status.SHARED_S", 0.0)
    from workers.contract.broker import Hints, make_celery
    from workers.contract.messages import Queue

    app = make_celery(settings.broker_url.get_secret_value(), settings.key_prefix, "producer")
    before = client.get("/v1/status").json()["queues"]["live"]["length"]
    Hints(app).look(["6d3f9c0e-5a5b-5d0e-9a41-6f1f6b8a7c11"])
    time.sleep(0.2)

    live = client.get("/v1/status").json()["queues"]["live"]
    assert live["length"] == before + 1
    assert live["oldest_age_s"] > 0.1
    with app.connection_for_write() as connection:
        connection.default_channel.queue_purge(Queue.LIVE)


def test_metrics_speak_prometheus(client, engine, tmp_path):
    seen(engine, tmp_path, "a.txt")
    page = client.get("/metrics").text

    assert 'upwell_documents{state="ready"} 1.0' in page
    assert 'upwell_queue_length{queue="bulk"} 0.0' in page
    assert "upwell_embedding_tokens_total 0.0" in page


def test_readiness_names_what_is_missing(client):
    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["missing"] == ["Qdrant (UPWELL_QDRANT_URL)"]
    assert client.get("/livez").status_code == 200


def test_with_a_key_nobody_gets_in_without_it(settings, engine):
    locked = settings.model_copy(update={"api_key": ApiSettings(api_key="s3cret").api_key})
    with TestClient(make_app(locked, engine), base_url="http://127.0.0.1:8080") as client:
        routes = [("get", "/v1/status"), ("get", "/v1/documents"), ("post", "/v1/search"), ("get", "/v1/held")]
        for method, path in routes:
            assert getattr(client, method)(path).status_code == 401
            assert client.request(method, path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/v1/documents?api_key=s3cret").status_code == 401
        assert client.get("/v1/documents", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_figures_are_locked_where_there_is_a_key_and_have_one_of_their_own_that_opens_nothing_else(settings, engine):
    def told(path: str, key: str | None, **keys: str) -> int:
        locked = settings.model_copy(update={name: getattr(ApiSettings(**keys), name) for name in keys})
        with TestClient(make_app(locked, engine), base_url="http://127.0.0.1:8080") as client:
            return client.get(path, headers={} if key is None else {"Authorization": f"Bearer {key}"}).status_code

    both = {"api_key": "s3cret", "metrics_key": "figures"}
    assert told("/metrics", None, api_key="s3cret") == 401
    assert [told("/metrics", key, **both) for key in (None, "wrong", "s3cret", "figures")] == [401, 401, 200, 200]
    assert [told("/v1/documents", key, **both) for key in ("figures", "s3cret")] == [401, 200]
    assert [told("/metrics", key, metrics_key="figures") for key in (None, "", "figures")] == [401, 401, 200]
    assert told("/v1/documents", None, metrics_key="figures") == 200
    assert told("/metrics", None) == 200


@pytest.mark.parametrize("name", ["api_key", "metrics_key"])
def test_a_key_that_is_set_to_nothing_is_none_and_not_one_that_everybody_has(settings, engine, name, monkeypatch):
    monkeypatch.setenv(f"UPWELL_{name.upper()}", "")
    assert getattr(ApiSettings(), name) is None
    with pytest.raises(ApiRefuses, match="UPWELL_API_KEY"):
        run(settings.model_copy(update={"api_host": "0.0.0.0", name: getattr(ApiSettings(), name)}))


def test_without_a_key_no_web_page_of_another_machine_gets_in(client, settings, engine):
    form = {"files": {"file": ("a.txt", b"planted")}}
    assert client.get("/v1/status", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"Host": "127.0.0.1.evil.example:8080"}).status_code == 421
    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example"):
        refused = client.post("/v1/documents", headers={"Origin": origin}, **form)
        assert (refused.status_code, error(refused)["code"]) == (403, "foreign_origin")
        assert refused.headers["content-security-policy"].startswith("default-src 'self'")
    for host in ("localhost:9000", "[::1]:8080", "upwell.localhost", "127.0.0.2"):
        assert client.get("/v1/documents", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200

    # Behind a key or a proxy that checks, names are somebody else's business.
    for more in ({"api_key": ApiSettings(api_key="s3cret").api_key}, {"api_open": True}, {"api_host": "0.0.0.0"}):
        with TestClient(make_app(settings.model_copy(update=more), engine), base_url="http://docs.example") as other:
            headers = {"Authorization": "Bearer s3cret", "Origin": "https://docs.example"}
            assert other.get("/v1/documents", headers=headers).status_code == 200


def test_an_open_door_to_the_network_is_refused(settings):
    with pytest.raises(ApiRefuses, match="UPWELL_API_KEY"):
        run(settings.model_copy(update={"api_host": "0.0.0.0"}))


def test_errors_have_one_shape_and_tell_nothing_of_the_inside(client, monkeypatch):
    for answer in (client.get("/nowhere"), client.put("/v1/search"), client.get("/v1/documents/x")):
        assert set(error(answer)) == {"code", "message", "next"}
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")


def test_the_console_and_the_description_are_served(client):
    assert "<title>Upwell</title>" in client.get("/").text
    assert json.loads(client.get("/openapi.json").text)["info"]["title"] == "Upwell"


def test_a_held_deletion_is_listed_and_decided(client, engine, tmp_path):
    ids = seen(engine, tmp_path, "a.txt", "b.txt")
    (tmp_path / "docs" / "a.txt").unlink()
    observe(engine, [Observation("docs", b"a.txt", None, absent_as="held", reason="too many vanished at once")])

    assert [d["path"] for d in client.get("/v1/held").json()["documents"]] == ["a.txt"]
    assert client.post("/v1/held/approve", json={}).status_code == 422
    assert client.post("/v1/held/approve", json={"ids": [ids[0]]}).json()["approved"] == 1
    with engine.connect() as connection:
        assert connection.scalar(select(documents.c.wanted).where(documents.c.id == ids[0])) == "absent"
