"""The whole stack as a user runs it: real processes, real Valkey, Qdrant's own engine, a real embedding model."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.support.stack import ROOT, Stack, environment, living
from workers.contract.exits import EXIT_TAKEN

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    home = tmp_path_factory.mktemp("stack")
    docs = home / "docs"
    docs.mkdir()
    (docs / "house.md").write_text("# House\n\nThe boiler code is 4711.\n")
    with Stack(home, docs) as stack:
        stack.wait_converged(1)
        yield stack


def upwell(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    env = environment(UPWELL_API_URL=stack.state["addresses"]["api"])
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *words], capture_output=True, text=True, cwd=ROOT, env=env, timeout=90
    )


def test_a_question_is_answered_with_its_citation(stack):
    done = upwell(stack, "ask", "What is the boiler code?")

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines() == ["The boiler code is 4711. [1]", "[1] house.md"]


def test_search_and_answers_are_measured_on_questions_with_known_answers(stack, tmp_path):
    (tmp_path / "q.jsonl").write_text(
        '{"query": "What is the boiler code?", "documents": ["house.md"], "answers": ["4711"]}\n'
        '{"query": "How far away is the moon?", "answerable": false}\n'
    )
    done = upwell(stack, "evaluate", str(tmp_path / "q.jsonl"), "--answers", "--against", "mode=lexical", "--json")
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]

    assert set(runs) == {"hybrid", "lexical"}
    for run in runs.values():
        assert (run["ndcg"], run["span_recall"]) == (1.0, 1.0)
        assert (run["answers"]["right"], run["answers"]["holds_answer"]) == (1.0, 1.0)
        assert (run["answers"]["unanswerable"], run["answers"]["sentences_supported"]) == (1, 1.0)

    answer = stack.client.post("/v1/questions", json={"text": "The boiler code is 4711."})
    assert answer.status_code == 422
    assert "UPWELL_CHAT_URL" in answer.json()["error"]["message"]


def test_an_edit_a_rename_and_a_deletion_are_followed(stack):
    docs = stack.docs[0]
    (docs / "trip.md").write_text("# Trip\n\nThe ferry to Gozo leaves at seven.\n")
    stack.wait_for(lambda: "trip.md" in stack.paths("ferry Gozo"), 20)

    (docs / "trip.md").write_text("# Trip\n\nThe ferry to Gozo leaves at nine.\n")
    stack.wait_for(lambda: any("nine" in hit["content"] for hit in stack.search("ferry Gozo")["hits"]), 20)
    # What was there is dropped after what is new is put, so a search between the two may see both.
    stack.wait_for(lambda: not any("seven" in hit["content"] for hit in stack.search("ferry Gozo")["hits"]), 20)

    (docs / "trip.md").rename(docs / "journey.md")
    stack.wait_for(lambda: "journey.md" in stack.paths("ferry Gozo") and "trip.md" not in stack.paths("ferry Gozo"), 20)

    (docs / "journey.md").unlink()
    stack.wait_for(lambda: "journey.md" not in stack.paths("ferry Gozo"), 20)


def test_a_file_is_found_by_its_name_and_after_a_rename_by_the_new_one_alone(stack):
    docs = stack.docs[0]
    (docs / "bills").mkdir()
    (docs / "bills" / "ACME-invoice_0042.txt").write_text("Please pay within thirty days. Thank you very much.\n")
    for number, text in enumerate(("An invoice is due in a month.", "ACME sells anvils.", "Room 0042 is cold.")):
        (docs / f"other-{number}.txt").write_text(f"{text}\n")
    stack.wait_for(lambda: "other-2.txt" in stack.paths("cold room"), 20)
    stack.wait_converged()
    spellings = ("ACME-invoice_0042.txt", "acme-invoice_0042", "acme invoice", "Invoice 0042 ACME", "AcmeInvoice")
    for mode in ("hybrid", "lexical"):
        for query in (*spellings, "bills/ACME-invoice_0042.txt", "where is the acme invoice 0042?"):
            assert stack.paths(query, mode=mode)[0] == "bills/ACME-invoice_0042.txt", (mode, query)
    hit = stack.search("acme invoice", explain=True)["hits"][0]
    assert "its file's name has the words acme, invoice" in hit["explain"]["summary"].lower()
    before = tokens(stack)

    (docs / "bills" / "ACME-invoice_0042.txt").rename(docs / "bills" / "Globex-receipt.txt")
    stack.wait_for(lambda: stack.paths("globex receipt")[:1] == ["bills/Globex-receipt.txt"], 20)
    stack.wait_converged()

    assert tokens(stack) == before
    for query in spellings:
        assert not any("ACME" in path for path in stack.paths(query))
        assert stack.paths(query, mode="lexical")[:1] != ["bills/Globex-receipt.txt"]


def test_a_rename_embeds_nothing(stack):
    docs = stack.docs[0]
    (docs / "long.md").write_text("\n\n".join(f"# Part {n}\n\nSome words about topic number {n}." for n in range(20)))
    stack.wait_for(lambda: "long.md" in stack.paths("topic number 7"), 20)
    stack.wait_converged()
    before = tokens(stack)

    (docs / "long.md").rename(docs / "renamed.md")
    stack.wait_for(lambda: "renamed.md" in stack.paths("topic number 7", mode="semantic"), 20)
    stack.wait_converged()

    assert tokens(stack) == before


def tokens(stack: Stack) -> float:
    """Return the tokens embedded so far, once the figures have come to rest."""
    import time

    time.sleep(6)  # figures reach the ledger every five seconds
    for line in stack.client.get("/metrics").text.splitlines():
        if line.startswith("upwell_embedding_tokens_total"):
            return float(line.split()[-1])
    raise AssertionError("no figure of embedded tokens")


def test_bad_files_end_with_a_reason_and_do_not_hold_up_the_others(stack):
    docs = stack.docs[0]
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7\n\x00\x01 this is no pdf at all")
    (docs / "blank.txt").write_text("  \n\n ")
    (docs / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    (docs / "broken.docx").write_bytes(b"PK\x03\x04 cut off")
    (docs / "good.txt").write_text("A perfectly good sentence about zebras.")

    stack.wait_for(lambda: "good.txt" in stack.paths("zebras"), 30)
    stack.wait_converged(timeout=120)

    found = {d["path"]: d for d in stack.documents()}
    assert found["broken.pdf"]["state"] == "parked"
    assert found["broken.docx"]["state"] == "parked"
    assert found["blank.txt"]["state"] == "empty"
    assert found["picture.png"]["state"] == "skipped"
    assert all(found[p]["reason"] for p in ("broken.pdf", "broken.docx", "blank.txt", "picture.png"))


def test_own_metadata_filters_and_a_missing_document_is_explained(stack):
    docs = stack.docs[0]
    for name, kind, date in (("old", "decree", "1999-05-01"), ("new", "law", "2019-05-01")):
        (docs / f"{name}-water.md").write_text(f"# Water\n\nThe {name} rules on water and wells.\n")
        (docs / f"{name}-water.md.meta.json").write_text(f'{{"kind": "{kind}", "date": "{date}"}}')
    stack.wait_for(lambda: {"old-water.md", "new-water.md"} <= set(stack.paths("rules on water")), 20)
    stack.wait_converged()

    done = upwell(stack, "search", "rules on water", "--filter", "date>=2015", "--facet", "kind", "--explain")
    assert done.returncode == 0, done.stderr
    assert "new-water.md" in done.stdout
    assert "old-water.md" not in done.stdout
    assert "kind: law (1)" in done.stdout
    assert "It has the words rules, water" in done.stdout

    done = upwell(stack, "explain", "old-water.md", "rules on water", "--filter", "date>=2015")
    assert done.returncode == 0, done.stderr
    assert "A filter keeps it away: date >= 2015." in done.stdout
    assert "1999-05-01" in done.stdout

    (docs / "old-water.md.meta.json").write_text('{"kind": "decree", "date": "2020-01-01"}')
    stack.wait_for(lambda: "old-water.md" in stack.paths("rules on water", filters={"date": {"gte": 2020}}), 20)


def test_an_ignored_file_is_not_found_and_why_names_the_rule(stack):
    docs = stack.docs[0]
    (docs / ".upwellignore").write_text("secret-*.txt\n")
    (docs / "secret-plan.txt").write_text("The walrus is paul.")
    (docs / "open-plan.txt").write_text("The office is open plan.")
    stack.wait_for(lambda: "open-plan.txt" in stack.paths("office open plan"), 20)
    stack.wait_converged()

    assert "secret-plan.txt" not in stack.paths("walrus paul")
    done = upwell(stack, "documents", "why", str(docs / "secret-plan.txt"))
    assert done.returncode == 0, done.stderr
    assert "secret-*.txt" in done.stdout
    assert ".upwellignore" in done.stdout


def test_an_uploaded_file_is_found_and_can_be_deleted(stack, tmp_path):
    note = tmp_path / "upload.txt"
    note.write_text("Quokkas smile at visitors of Rottnest Island.")

    done = upwell(stack, "add", str(note))
    assert done.returncode == 0, done.stderr
    stack.wait_for(lambda: any("Quokkas" in hit["content"] for hit in stack.search("quokkas smile")["hits"]), 20)

    [mine] = [d for d in stack.documents() if d["source"] == "uploads" and "upload.txt" in d["path"]]
    assert stack.client.delete(f"/v1/documents/{mine['id']}").status_code == 202
    stack.wait_for(lambda: not any("Quokkas" in hit["content"] for hit in stack.search("quokkas smile")["hits"]), 20)


def test_nothing_relevant_is_said_to_be_nothing(stack):
    done = upwell(stack, "ask", "Who won the chess championship of Uruguay in 1931?")

    assert done.returncode == 0, done.stderr
    assert "don't know" in done.stdout


def test_a_second_start_on_the_same_data_is_refused_and_says_where_the_first_is(stack):
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "up", str(stack.docs[0]), "--data-dir", str(stack.data), "--no-browser"],
        capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=60,
    )  # fmt: skip

    assert done.returncode == EXIT_TAKEN
    assert str(stack.process.pid) in done.stderr
    assert stack.state["addresses"]["api"] in done.stderr


def test_no_secret_and_no_document_text_reaches_logs_and_metrics(stack):
    docs = stack.docs[0]
    (docs / "canary.txt").write_text("The canary sentence zyzzyva must stay out of every log.")
    (docs / "canary.json").write_text('{"broken": "zyzzyva')
    (docs / "canary.docx").write_bytes(b"PK\x03\x04 zyzzyva")
    stack.wait_for(lambda: "canary.txt" in stack.paths("zyzzyva"), 20)
    password = (stack.data / "broker.password").read_text().strip()
    asked = {"query": "zyzzyva must stay out?"}
    chat = {"messages": [{"role": "user", "content": "zyzzyva?"}]}
    for path, body in (("/v1/answer", asked), ("/v1/chat/completions", chat), ("/v1/search", asked | {"limit": -1})):
        stack.client.post(path, json=body)
    stack.client.post("/v1/feedback", json={"kind": "answer", "vote": "up", "text": "zyzzyva", **asked})
    broken = asked | {"filters": {"zyzzyva": {"zyzzyva": 1}}}
    refused = stack.client.post("/v1/search", json=broken)

    written = "".join(log.read_text(errors="replace") for log in stack.data.glob("logs/*"))
    written += stack.client.get("/metrics").text + stack.output.read_text(errors="replace") + refused.text
    written += json.dumps(stack.status()) + stack.client.get("/readyz").text + json.dumps(stack.documents())

    assert refused.status_code == 422
    assert "zyzzyva" not in written
    assert password not in written


def test_of_a_deleted_upload_nothing_is_told_any_more(stack):
    """Neither by a route nor by the ledger; what lies on the disk for a while is in ops/docs/security.md."""
    text = "# Axolotl\n\nThe axolotl named Xochitl regrows its limbs in the basement pond.\n"
    form = {"files": {"file": ("pet.md", text)}, "data": {"metadata": '{"vet": "Xochitl"}'}}
    key = stack.client.post("/v1/documents", **form).json()["id"]
    question = {"query": "Which animal regrows its limbs?"}

    def told() -> str:
        posts = (("/v1/search", question), ("/v1/answer", question), (f"/v1/documents/{key}/explain", question))
        answers = [stack.client.post(path, json=body).text for path, body in posts]
        gets = (f"/v1/documents/{key}", f"/v1/documents/{key}/chunks", "/v1/documents?limit=1000", "/v1/feedback")
        return "".join(answers + [stack.client.get(path).text for path in gets])

    stack.wait_for(lambda: "Xochitl" in told(), 20)
    stack.client.delete(f"/v1/documents/{key}")
    stack.wait_for(lambda: "Xochitl" not in told(), 20)

    stack.wait_converged()
    with closing(sqlite3.connect(stack.data / "ledger.db")) as ledger:
        remembered = "\n".join(ledger.iterdump())
    assert "Xochitl" not in remembered
    assert "Axolotl" not in remembered
    assert not any("Xochitl" in file.read_text(errors="replace") for file in (stack.data / "uploads").iterdir())


class TestALifeOfItsOwn:
    """These start and stop stacks of their own."""

    def test_neither_a_stop_nor_a_killed_supervisor_leaves_a_process_and_a_second_start_embeds_nothing(self, tmp_path):
        docs = tmp_path / "docs"
        docs.mkdir()
        for number in range(5):
            (docs / f"{number}.md").write_text(f"# Note {number}\n\nThis is about subject {number} only.\n")
        stack = Stack(tmp_path, docs)
        with stack:
            stack.wait_converged(5)
            before = tokens(stack)
            assert before > 0
        assert living(str(stack.data)) == []

        with stack:
            stack.wait_converged(5)
            assert stack.paths("subject 3")[0] == "3.md"
            assert tokens(stack) == before
            os.kill(stack.process.pid, signal.SIGKILL)
            stack.process.wait(10)
            stack.wait_for(lambda: living(str(stack.data)) == [], 20)

    def test_every_process_is_killed_in_turn_while_files_are_indexed_and_all_end_ready(self, tmp_path):
        docs = tmp_path / "docs"
        docs.mkdir()
        count = 60
        with Stack(tmp_path, docs) as stack:
            stack.wait_converged()
            for number in range(count):
                text = f"# File {number}\n\nMark{number:03d} is what this file is about, and nothing else.\n"
                (docs / f"{number:03d}.md").write_text(text)
            for name in ("index", "watch", "qdrant", "embeddings", "broker", "query", "beat", "api"):
                victim = stack.pids[name]
                os.kill(victim, signal.SIGKILL)
                stack.wait_for(lambda n=name, v=victim: stack.pids.get(n) not in (None, v), 30)
            stack.wait_for(stack.is_up, 60)
            stack.wait_converged(count, timeout=200)

            states = {d["path"]: d["state"] for d in stack.documents()}
            assert states == {f"{number:03d}.md": "ready" for number in range(count)}
            for number in range(0, count, 7):
                assert stack.paths(f"Mark{number:03d}", mode="lexical")[0] == f"{number:03d}.md"
        assert living(str(stack.data)) == []


def test_the_shared_formats_are_found(stack, shared_data):
    """One text in twelve formats: each is among the first hits for a query of their common words."""
    parity = {f"parity/{file.name}": file for file in (shared_data / "formats" / "parity").iterdir()}
    (stack.docs[0] / "parity").mkdir()
    for path, file in parity.items():
        (stack.docs[0] / path).write_bytes(file.read_bytes())
    stack.wait_for(lambda: parity.keys() <= {d["path"] for d in stack.documents()}, 60)
    stack.wait_converged(timeout=200)

    states = {d["path"]: d["state"] for d in stack.documents() if d["path"] in parity}
    assert states == dict.fromkeys(parity, "ready")
    text = (shared_data / "formats" / "parity" / "eng_spa_mult.txt").read_text()
    common = " ".join(text.split()[:12])
    hits = stack.search(common, limit=50)["hits"]
    assert {hit["metadata"]["path"] for hit in hits} >= parity.keys()
