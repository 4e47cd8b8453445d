"""The console page in a real Chromium over the real stack."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.support import accessible
from tests.support.stack import Stack

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
XSS = "<img src=x onerror=document.title='hacked'><script>document.title='hacked'</script>"

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    if not CHROMIUM.exists():
        message = "there is no Chromium at /usr/bin/chromium (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    home = tmp_path_factory.mktemp("console")
    docs = home / "docs"
    docs.mkdir()
    (docs / "house.md").write_text("# House\n\nThe boiler code is 4711.\n")
    (docs / "house.md.meta.json").write_text('{"kind": "manual", "date": "2015-03-01"}')
    (docs / "flat.md").write_text(
        "---\nkind: letter\ndate: 2021-06-01\n---\n# Flat\n\nThe boiler in the flat was swept in June.\n"
    )
    (docs / "evil.md").write_text(f"# {XSS}\n\nThe parrot says {XSS} all day.\n")
    (docs / "<b onmouseover=x>.txt").write_text("A file with a wild name about walruses.")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4 this is none")
    with Stack(home, docs) as stack:
        stack.wait_converged(5)
        yield stack


@pytest.fixture(scope="module")
def browser(stack):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(stack, browser):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(stack.state["addresses"]["api"])
    expect(page.locator("#summary")).to_contain_text("Up to date", timeout=20_000)
    yield page
    page.close()
    assert faults == []


def test_it_shows_what_is_indexed_and_what_failed_and_why(page):
    page.wait_for_selector("#documents tr")
    rows = page.inner_text("#documents")

    assert "house.md" in rows
    assert "parked" in rows
    assert "It is no PDF that can be read" in rows
    assert page.locator("#documents button", has_text="Retry").count() == 1


def test_a_search_shows_highlighted_hits(page):
    page.fill("#query", "boiler code")
    page.click("button[value=search]")
    page.wait_for_selector("#hits li")

    assert "house.md" in page.inner_text("#hits li:first-child")
    assert [m.lower() for m in page.locator("#hits li:first-child mark").all_inner_texts()] == ["boiler", "code"]


def test_hits_are_narrowed_by_what_they_have_in_common_and_say_why_they_are_there(page):
    page.fill("#query", "boiler code")
    page.click("button[value=search]")
    page.wait_for_selector("#facets .chip")

    assert {"manual 1", "letter 1", "2015 1", "2021 1"} <= set(page.locator("#facets .chip").all_inner_texts())
    page.click("#facets .chip:has-text('letter')")
    expect(page.locator("#hits li")).to_contain_text(["flat.md"])  # a list of one: exactly this hit

    page.click("#conditions .chip")
    expect(page.locator("#hits li")).not_to_have_count(1)  # the condition is gone, and so are its hits
    page.click("#narrow summary")
    page.fill("#condition", "date<2020")
    page.click("#condition-form button")
    expect(page.locator("#hits li")).to_contain_text(["house.md"])

    page.click("#hits li:first-child .why summary")
    told = page.locator("#hits li:first-child .why")
    expect(told).to_contain_text("It has the words boiler, code")
    expect(told).to_contain_text("date < 2020")


def test_counts_that_are_not_of_everything_say_so(page):
    def as_if_large(route):
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"facets_over": {"documents": 1234, "complete": False}})

    page.fill("#query", "boiler code")
    page.click("button[value=search]")
    page.wait_for_selector("#facets .chip")
    assert "Counted over" not in page.inner_text("#facets")

    page.route("**/v1/search", as_if_large)
    page.click("button[value=search]")
    expect(page.locator("#facets")).to_contain_text("Counted over the best 1,234 documents; more fit.")


def test_a_question_is_answered_with_a_citation(page):
    page.fill("#query", "What is the boiler code?")
    page.click("button[value=ask]")
    page.wait_for_selector(".citations li")

    assert page.inner_text(".said") == "The boiler code is 4711. [1]"
    assert "house.md" in page.inner_text(".citations")


def stream(*events: tuple[str, dict]) -> dict:
    """Return what the api would stream, for answers that the stack does not give at will."""
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    return {"status": 200, "content_type": "text/event-stream", "body": body}


def test_what_must_be_known_of_an_answer_is_said(page):
    cited = {"n": 1, "path": "house.md", "quote": "The code is 4711.", "reindexing": True}
    done = {
        "answer": "The code is 4711. [1]", "citations": [cited], "refused": False, "generated_by": "extractive",
        "note": "The chat model does not answer.", "degraded": "Searched by words.", "hits": [], "took_ms": 1,
    }  # fmt: skip
    page.route("**/v1/answer", lambda route: route.fulfill(**stream(("restart", {"reason": "x"}), ("done", done))))
    page.fill("#query", "What is the code?")
    page.click("button[value=ask]")

    expect(page.locator(".citations li")).to_contain_text("changed since; it is being indexed again")
    expect(page.locator(".turn .note")).to_have_text(
        "The chat model does not answer. Searched by words. In the documents' own words."
    )
    expect(page.locator(".stop")).to_be_hidden()


def test_an_answer_can_be_stopped_and_none_disturbs_a_later_search(page):
    waiting = []
    page.route("**/v1/answer", lambda route: waiting.append(route))  # it never comes
    page.fill("#query", "What is the boiler code?")
    page.click("button[value=ask]")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".turn .note")).to_have_text("Stopped.")
    expect(page.locator(".stop")).to_have_count(0)

    page.click("button[value=ask]")
    expect(page.locator(".stop")).to_be_visible()
    page.fill("#query", "parrot")
    page.click("button[value=search]")
    expect(page.locator("#hits li").first).to_contain_text("evil.md")
    expect(page.locator("#conversation")).to_be_hidden()
    assert [route.request.post_data_json["messages"] for route in waiting] == [[], []]  # what was stopped was not said
    assert "aborted" in str(waiting[1].request.failure).lower()


def asked(page) -> list[dict]:
    """Return what is sent to `/v1/answer` from now on, as it is sent."""
    sent: list[dict] = []
    page.on("request", lambda r: sent.append(r.post_data_json) if r.url.endswith("/v1/answer") else None)
    return sent


def test_a_follow_up_is_asked_with_what_was_said_and_stands_below_it(page):
    sent = asked(page)
    page.fill("#query", "What is the boiler code?")
    page.click("button[value=ask]")
    expect(page.locator(".judged button")).to_have_count(2)
    page.click("button[value=search]")
    expect(page.locator("#conversation")).to_be_hidden()
    page.fill("#query", "And of the flat?")
    page.click("button[value=ask]")
    expect(page.locator(".judged button")).to_have_count(4)

    told = "The boiler code is 4711. [1]"
    before = [{"role": "user", "content": "What is the boiler code?"}, {"role": "assistant", "content": told}]
    assert [each["messages"] for each in sent] == [[], before]
    assert page.locator(".asked").all_inner_texts() == ["What is the boiler code?", "And of the flat?"]
    expect(page.locator(".turn").first.locator(".said")).to_have_text(told)
    expect(page.locator(".turn").first.locator(".citations")).to_contain_text("house.md")
    expect(page.locator(".understood").first).to_be_empty()
    expect(page.locator(".understood").last).to_have_text("Understood as: What is the boiler code? And of the flat?")

    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator("#hits li")).to_have_count(0)
    page.fill("#query", "What is the boiler code?")
    page.click("button[value=ask]")
    expect(page.locator(".judged button")).to_have_count(2)
    assert sent[2]["messages"] == []


def test_a_long_conversation_is_sent_within_the_bounds_of_the_api(page):
    sent = asked(page)
    done = {"answer": "x" * 40_000, "citations": [], "refused": True, "generated_by": "extractive"}
    page.route("**/v1/answer", lambda route: route.fulfill(**stream(("done", done))))
    for n in range(10):
        page.fill("#query", f"Question {n}?")
        page.click("button[value=ask]")
        expect(page.locator(".judged button")).to_have_count(2 * n + 2)

    assert [each["content"] for each in sent[-1]["messages"][::2]] == [f"Question {n}?" for n in range(1, 9)]
    assert {len(each["content"]) for each in sent[-1]["messages"][1::2]} == {32_000}


def test_an_answer_that_breaks_off_says_so(page):
    page.route("**/v1/answer", lambda route: route.fulfill(**stream(("delta", {"text": "The boiler"}))))
    page.fill("#query", "What is the boiler code?")
    page.click("button[value=ask]")

    expect(page.locator(".turn .note")).to_have_text("The answer broke off. Ask again.")
    expect(page.locator(".stop")).to_have_count(0)


def ask_as_told(page, question: str, answer: str = "It is 4711. [1]") -> None:
    """Ask what is answered so at once, whatever the stack would say."""
    done = {"answer": answer, "citations": [], "refused": False, "generated_by": "extractive"}
    page.unroute("**/v1/answer")
    page.route("**/v1/answer", lambda route: route.fulfill(**stream(("done", done))))
    turns = page.locator(".turn").count()
    page.fill("#query", question)
    page.click("button[value=ask]")
    expect(page.locator(".judged button")).not_to_have_count(0)
    expect(page.locator(".turn")).to_have_count(turns + 1)


def kept(page) -> list[str]:
    return page.evaluate("Object.keys(localStorage).filter((name) => name.startsWith('upwell-conversation/'))")


def test_a_conversation_is_there_after_a_reload_and_others_can_be_taken_up_or_deleted(page):
    sent = asked(page)
    page.fill("#query", "What is the boiler code?")
    page.click("button[value=ask]")
    expect(page.locator("#history summary")).to_have_text("Conversations (1)")
    page.reload()
    expect(page.locator(".asked")).to_have_text(["What is the boiler code?"])
    expect(page.locator(".said")).to_have_text("The boiler code is 4711. [1]")
    page.locator(".citations .cite").click()
    expect(page.locator("#passage mark")).to_have_text("The boiler code is 4711.")
    page.keyboard.press("Escape")
    ask_as_told(page, "And of the flat?")
    assert [message["content"] for message in sent[1]["messages"]][:1] == ["What is the boiler code?"]

    page.get_by_role("button", name="New conversation").click()
    ask_as_told(page, "Who swept it?")
    page.click("#history summary")
    titles = page.locator("#kept .title")
    expect(titles).to_have_text(["Who swept it?", "What is the boiler code?"])
    titles.last.press("Enter")
    expect(page.locator(".asked")).to_have_text(["What is the boiler code?", "And of the flat?"])
    expect(page.locator("#kept [aria-current]")).to_have_text("What is the boiler code?")
    page.get_by_role("button", name="Delete the conversation Who swept it?").press("Enter")
    expect(titles).to_have_text(["What is the boiler code?"])
    expect(page.get_by_role("button", name="Delete the conversation What is the boiler code?")).to_be_focused()
    expect(page.locator(".turn")).to_have_count(2)

    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete all").click()
    expect(page.locator("#history")).to_be_hidden()
    expect(page.locator(".turn")).to_have_count(0)
    assert kept(page) == []


def test_conversations_of_one_key_are_neither_seen_nor_readable_under_another(page):
    def come_with(key: str) -> None:
        page.evaluate("key => sessionStorage.setItem('upwell-key', key)", key)
        page.reload()
        expect(page.locator("#summary")).to_contain_text("Up to date")

    come_with("one")
    ask_as_told(page, "What is the walrus code?")
    expect(page.locator("#history summary")).to_have_text("Conversations (1)")
    assert "walrus" not in page.evaluate("JSON.stringify(localStorage)")
    for other in ("two", ""):
        come_with(other)
        expect(page.locator("#history")).to_be_hidden()
        expect(page.locator(".turn")).to_have_count(0)
    page.evaluate("sessionStorage.setItem('upwell-open', location.hash)")
    come_with("one")
    expect(page.locator("#kept .title")).to_have_text("What is the walrus code?")
    page.evaluate("localStorage.clear()")


def test_a_browser_keeps_so_many_conversations_and_so_much_and_drops_the_oldest(page):
    page.evaluate(
        """() => {
          const turns = (size) => JSON.stringify([{ query: "q", answer: { answer: "x".repeat(size), citations: [] } }]);
          localStorage.setItem("upwell-conversation/open/forgotten", `1 ${turns(1)}`);
          for (let n = 0; n < 60; n += 1) {
            localStorage.setItem(`upwell-conversation/open/${n}`, `${Date.now() - 60 + n} ${turns(1)}`);
          }
        }"""
    )
    ask_as_told(page, "Newest?")
    expect(page.locator("#history-count")).to_have_text("50")
    expect(page.locator("#kept .title").first).to_have_text("Newest?")
    assert not {"upwell-conversation/open/forgotten", "upwell-conversation/open/9"} & set(kept(page))

    page.evaluate("localStorage.setItem('other', 'x'.repeat(4_900_000))")  # of about 5,240,000
    for question in ("Long?", "Longer?", "Longest?"):
        page.get_by_role("button", name="New conversation").click()
        ask_as_told(page, question, "y" * 150_000)
        expect(page.locator("#kept .title").first).to_have_text(question)
    assert len(kept(page)) == 2
    page.evaluate("localStorage.clear()")


def test_a_vote_on_a_follow_up_is_about_the_question_as_it_was_understood(page):
    sent: list[dict] = []
    page.route(
        "**/v1/feedback", lambda route: (sent.append(route.request.post_data_json), route.fulfill(json={"id": 1}))
    )
    hit = {"id": "1", "doc_id": "1", "content": "It is 4711.", "metadata": {"path": "a.md"}}
    done = {
        "answer": "x",
        "citations": [],
        "refused": True,
        "question": "Code of the flat?",
        "hits": [hit],
        "took_ms": 1,
    }
    page.route("**/v1/answer", lambda route: route.fulfill(**stream(("done", done))))
    page.fill("#query", "And of the flat?")
    page.click("button[value=ask]")
    for name in ("Is this answer helpful?", "Is this hit in a.md helpful?"):
        page.get_by_role("group", name=name).get_by_role("button", name="Helpful", exact=True).click()
        expect(page.get_by_role("group", name=name).get_by_role("status")).to_have_text("Thank you.")

    assert [each["query"] for each in sent] == ["Code of the flat?", "Code of the flat?"]


def test_a_citation_opens_the_passage_and_the_keyboard_suffices(page):
    page.fill("#query", "What is the boiler code?")
    page.click("button[value=ask]")
    link = page.locator(".citations .cite")
    link.focus()
    page.keyboard.press("Enter")

    passage = page.get_by_role("dialog", name="house.md")
    expect(passage.locator("mark")).to_have_text("The boiler code is 4711.")
    expect(passage.locator(".passage .reason")).to_have_text("House")
    expect(passage.locator("#passage-version")).to_contain_text("version ")
    expect(passage.locator("#passage-note")).to_be_empty()
    page.keyboard.press("Escape")
    expect(passage).to_be_hidden()
    expect(link).to_be_focused()

    page.locator(".said").get_by_role("button", name="[1] house.md").click()
    expect(passage.locator("mark")).to_have_text("The boiler code is 4711.")
    passage.get_by_role("button", name="Close").click()
    expect(passage).to_be_hidden()


CITED = {
    "n": 1, "doc_id": "7", "chunk_id": "b", "path": "a" * 60 + ".pdf", "version": "1" * 64, "quote": "رمز المرجل",
    "quotes": ["رمز المرجل", "4711"],
}  # fmt: skip
CHUNKS = [
    {"id": "a", "index": 0, "content": "Before.", "page": 1, "heading": "One"},
    {"id": "b", "index": 1, "content": f"رمز المرجل 4711 {XSS}", "page": 2, "heading": "Two"},
    {"id": "c", "index": 2, "content": "After.", "page": 3, "heading": None},
]


def cite(page, *, document: dict, chunks: dict, status: int = 200) -> None:
    """Ask what is answered with `CITED`, whose document the api tells as given, and open the citation."""
    done = {"answer": "4711 [1]", "citations": [CITED], "refused": False, "generated_by": "extractive"}
    page.route("**/v1/answer", lambda route: route.fulfill(**stream(("done", done))))
    page.route("**/v1/documents/7", lambda route: route.fulfill(status=status, json=document))
    page.route("**/v1/documents/7/chunks?*", lambda route: route.fulfill(status=status, json=chunks | {"next": None}))
    page.fill("#query", "What is the code?")
    page.click("button[value=ask]")
    page.locator(".citations .cite").last.click()


def test_what_stands_around_a_passage_is_shown_on_request_on_a_small_screen_too(page):
    page.set_viewport_size({"width": 360, "height": 640})
    cite(page, document={"state": "ready", "version": "1" * 64}, chunks={"chunks": CHUNKS})
    passages = page.locator("#passage .passage")
    expect(passages).to_contain_text(["page 2 · Two"])
    assert page.locator("#passage mark").all_inner_texts() == CITED["quotes"]
    dialog, mark = (page.locator(f"#passage{each}").bounding_box() for each in ("", " mark >> nth=0"))
    assert dialog["x"] >= 0
    assert dialog["x"] + dialog["width"] <= 360
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("document.getElementById('passage').scrollWidth") <= dialog["width"]
    assert mark["x"] > 180  # right to left, as its letters run
    assert page.locator("#passage img, #passage script").count() == 0

    page.get_by_role("button", name="Show what stands before").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Close")).to_be_focused()  # nothing stands before that
    expect(page.get_by_role("button", name="Show what stands before")).to_be_hidden()
    page.get_by_role("button", name="Show what follows").click()
    expect(passages).to_contain_text(["page 1 · OneBefore.", "page 2 · Two", "page 3After."])


@pytest.mark.parametrize(
    ("document", "chunks", "status", "told"),
    [
        ({"state": "deleted"}, {"chunks": []}, 200, "This document was deleted. What was cited of it:"),
        ({}, {}, 404, "This document was deleted. What was cited of it:"),
        ({"state": "ready", "version": "2"}, {"chunks": CHUNKS[:1]}, 200, "this passage is not in it any more"),
        (
            {"error": {"message": "No answer from Qdrant."}},
            {},
            503,
            "Only the quote can be shown. No answer from Qdrant.",
        ),
        ({"state": "ready", "version": "2"}, {"chunks": [CHUNKS[1] | {"id": "d"}]}, 200, "it still has this passage"),
    ],
)
def test_a_passage_that_is_not_as_it_was_says_so_and_shows_what_was_cited(
    stack, browser, document, chunks, status, told
):
    page = browser.new_page()  # of its own: the browser notes a refusal as an error of the page
    page.goto(stack.state["addresses"]["api"])
    cite(page, document=document, chunks=chunks, status=status)

    expect(page.locator("#passage-note")).to_contain_text(told)
    assert page.locator("#passage mark").all_inner_texts() == CITED["quotes"]
    page.close()


def test_of_a_long_document_only_what_is_read_is_fetched_in_both_directions(page, stack):
    words = ["boiler", "valve", "gasket", "chimney", "flue", "meter", "radiator", "pump", "burner", "nozzle"]
    text = "".join(
        f"## Part {n}\n\nRoom {n} has a {words[n % 10]} with number {n * n + 7}, which was looked at in spring.\n\n"
        for n in range(120)
    )
    sent = stack.client.post("/v1/documents", files={"file": ("long.md", f"# Rooms\n\n{text}".encode())}).json()
    stack.wait_for(lambda: stack.client.get(f"/v1/documents/{sent['id']}").json()["state"] == "ready", 60)
    held = stack.client.get(f"/v1/documents/{sent['id']}/chunks").json()["chunks"]
    place = next(n for n, chunk in enumerate(held) if "Room 60 " in chunk["content"])
    cited = {
        "n": 1, "doc_id": sent["id"], "chunk_id": held[place]["id"], "path": "long.md", "quote": "Room 60 has",
        "quotes": ["Room 60 has"], "version": held[place]["version"],
    }  # fmt: skip
    done = {"answer": "[1]", "citations": [cited], "refused": False, "generated_by": "extractive"}
    page.route("**/v1/answer", lambda route: route.fulfill(**stream(("done", done))))
    fetched = []
    page.on("response", lambda response: fetched.append(response) if "/chunks" in response.url else None)
    page.fill("#query", "Which rooms?")
    page.click("button[value=ask]")
    page.locator(".citations .cite").click()
    shown = page.locator("#passage .passage .text")
    expect(shown).to_have_text([held[place]["content"]])
    assert [len(answer.json()["chunks"]) for answer in fetched] == [20]

    for n in range(1, 13):  # from one window into the next
        page.get_by_role("button", name="Show what stands before").click()
        expect(shown).to_have_count(2 * n)
        page.get_by_role("button", name="Show what follows").click()
        expect(shown).to_have_count(2 * n + 1)
    assert len(fetched) == 3
    expect(shown).to_have_text([chunk["content"] for chunk in held[place - 12 : place + 13]])


def test_a_citation_of_a_document_that_was_deleted_meanwhile_says_so(page, stack):
    sent = stack.client.post("/v1/documents", files={"file": ("otter.txt", b"The otter is called Balthazar.")}).json()
    stack.wait_for(lambda: any("otter.txt" in path for path in stack.paths("otter called")), 20)
    page.fill("#query", "What is the otter called?")
    page.click("button[value=ask]")
    expect(page.locator(".citations .cite")).to_contain_text("otter.txt")
    stack.client.delete(f"/v1/documents/{sent['id']}")
    stack.wait_for(lambda: stack.client.get(f"/v1/documents/{sent['id']}").json()["state"] == "deleted", 20)
    page.locator(".citations .cite").click()

    expect(page.locator("#passage-note")).to_have_text("This document was deleted. What was cited of it:")
    expect(page.locator("#passage mark")).to_have_text("The otter is called Balthazar.")


def test_text_runs_right_to_left_where_its_letters_do(page):
    hit = {"id": "1", "doc_id": "1", "content": "رمز المرجل.", "metadata": {"path": "a.md"}, "highlights": [[0, 3]]}
    found = {"id": "q", "hits": [hit, hit | {"content": "the boiler code."}], "mode": "hybrid", "took_ms": 1}
    page.route("**/v1/search", lambda route: route.fulfill(json=found))
    page.fill("#query", "المرجل")
    page.click("button[value=search]")
    arabic, english = (page.locator(f"#hits li:nth-child({n}) mark").bounding_box() for n in (1, 2))
    box = page.locator("#hits").bounding_box()

    assert arabic["x"] > box["x"] + box["width"] / 2 > english["x"]


def test_a_refused_search_leaves_no_hits_of_another_query(stack, browser):
    page = browser.new_page()  # of its own: the browser notes the refusal as an error of the page
    page.goto(stack.state["addresses"]["api"])
    page.fill("#query", "boiler code")
    page.click("button[value=search]")
    expect(page.locator("#hits li")).not_to_have_count(0)
    page.locator("#query").evaluate("field => { field.value = 'x'.repeat(5000) }")
    page.click("button[value=search]")

    expect(page.locator("#hits-note")).to_contain_text("query: must have at most 4,000 characters.")
    expect(page.locator("#hits li")).to_have_count(0)
    page.close()


def votes(stack: Stack) -> list[tuple[str, str, str, str | None]]:
    found = stack.client.get("/v1/feedback").json()["feedback"]
    return [(each["kind"], each["vote"], each["query"], each["path"] or each["answer"]) for each in found]


def pressed(group) -> list[str]:
    return [button.get_attribute("aria-label") for button in group.locator("button[aria-pressed=true]").all()]


def test_a_hit_is_judged_with_a_thumb_which_can_be_changed_and_taken_back(page, stack):
    page.fill("#query", "boiler code")
    page.click("button[value=search]")
    group = page.get_by_role("group", name="Is this hit in house.md helpful?")
    group.get_by_role("button", name="Helpful", exact=True).focus()
    page.keyboard.press("Enter")
    expect(group.get_by_role("status")).to_have_text("Thank you.")
    assert pressed(group) == ["Helpful"]
    assert votes(stack) == [("hit", "up", "boiler code", "house.md")]

    group.get_by_role("button", name="Not helpful").click()
    expect(group.locator("button[aria-pressed=true]")).to_have_attribute("aria-label", "Not helpful")
    assert votes(stack) == [("hit", "down", "boiler code", "house.md")]

    group.get_by_role("button", name="Not helpful").click()
    expect(group.get_by_role("status")).to_have_text("Taken back.")
    assert (pressed(group), votes(stack)) == ([], [])


def test_an_answer_is_judged_with_a_thumb(page, stack):
    page.click("#narrow summary")
    page.fill("#condition", "kind=manual")
    page.click("#condition-form button")
    page.fill("#query", "What is the boiler code?")
    page.click("button[value=ask]")
    group = page.get_by_role("group", name="Is this answer helpful?")
    group.get_by_role("button", name="Not helpful").click()
    expect(group.get_by_role("status")).to_have_text("Thank you.")

    [kept] = stack.client.get("/v1/feedback").json()["feedback"]
    assert (kept["kind"], kept["vote"], kept["answer"]) == ("answer", "down", "The boiler code is 4711. [1]")
    assert kept["query_id"] is not None
    assert kept["filters"] == {"and": [{"kind": ["manual"]}]}
    assert stack.client.delete(f"/v1/feedback/{kept['id']}").status_code == 200


def test_a_vote_that_was_not_kept_is_told_and_not_shown_as_given(stack, browser):
    page = browser.new_page()  # of its own: the browser notes the refusal as an error of the page
    fault = {"error": {"code": "ledger_away", "message": "The ledger does not answer.", "next": "Try again."}}
    page.route("**/v1/feedback", lambda route: route.fulfill(status=503, json=fault))
    page.goto(stack.state["addresses"]["api"])
    page.fill("#query", "boiler code")
    page.click("button[value=search]")
    group = page.get_by_role("group", name="Is this hit in house.md helpful?")
    group.get_by_role("button", name="Helpful", exact=True).click()

    expect(group.get_by_role("status")).to_have_text("Not kept. The ledger does not answer. Try again.")
    assert pressed(group) == []
    page.close()


def test_markup_in_names_titles_and_texts_stays_text(page):
    page.fill("#query", "parrot")
    page.click("button[value=search]")
    page.wait_for_selector("#hits li")

    assert "<script>" in page.inner_text("#hits") or "onerror" in page.inner_text("#hits")
    assert page.locator("#hits img, #hits script, #documents b, #documents img").count() == 0
    assert page.title() == "Upwell"


def test_documents_can_be_shown_by_state(page):
    page.click("#states button:has-text('parked')")
    expect(page.locator("#documents tr")).to_have_count(1)

    assert "broken.pdf" in page.inner_text("#documents")


def test_documents_are_narrowed_by_a_piece_of_their_path_once_the_typing_pauses(page):
    asked, held = [], []
    page.on("request", lambda request: asked.append(request.url) if "contains=" in request.url else None)
    page.route("**/v1/documents?*contains=OUS", lambda route: held.append(route))
    field, rows = page.get_by_label("Path contains"), page.locator("#documents tr")
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now() + 60_000"))
    field.press_sequentially("OUS")
    with page.expect_request("**/v1/documents?*contains=OUS"):
        page.clock.run_for(1000)
    field.press_sequentially("E.M")
    page.clock.run_for(1000)
    expect(rows).to_contain_text(["house.md"])  # a list of one
    assert [url.partition("contains=")[2] for url in asked] == ["OUS", "OUSE.M"]
    assert "aborted" in str(held[0].request.failure).lower()  # what was asked for before cannot come late
    field.fill("zebra")
    page.clock.run_for(1000)
    expect(page.locator("#none")).to_have_text("No document has “zebra” in its path.")
    field.fill("")
    page.clock.run_for(1000)
    expect(rows).not_to_have_count(0)


def test_a_dropped_file_is_uploaded_and_found(page, stack):
    file = {"name": "dropped.txt", "mimeType": "text/plain", "buffer": b"Capybaras enjoy hot springs."}
    page.set_input_files("#files", [file])
    expect(page.locator("#upload-note")).to_contain_text("1 of 1 uploaded")

    stack.wait_for(lambda: any("dropped.txt" in path for path in stack.paths("capybaras hot springs")), 20)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_and_worked_on_a_phone_in_light_and_in_dark(stack, browser, scheme):
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page.goto(stack.state["addresses"]["api"])
    page.wait_for_selector("#documents tr")
    assert accessible.faults(page) == []
    assert page.get_by_role("button", name="Retry broken.pdf").bounding_box()["x"] < 300

    page.click("#narrow summary")
    page.fill("#query", "boiler code")
    page.click("button[value=search]")
    page.click("#hits li:first-child .why summary")
    assert accessible.faults(page) == []

    page.click("button[value=ask]")
    page.wait_for_selector(".judged button")
    page.click("#history summary")
    page.get_by_role("group", name="Is this answer helpful?").get_by_role("button", name="Helpful", exact=True).hover()
    assert accessible.faults(page) == []
    page.locator(".citations .cite").first.click()
    page.wait_for_selector("#passage mark")
    assert accessible.faults(page, "#passage") == []
    page.close()


def test_the_focus_stays_where_it_was_when_lists_are_shown_anew(page):
    page.get_by_role("button", name="parked").focus()
    page.evaluate("showStates({ ready: 2, parked: 1 })")
    expect(page.get_by_role("button", name="parked")).to_be_focused()
    page.get_by_role("button", name="Retry broken.pdf").focus()
    page.evaluate("listDocuments()")
    expect(page.get_by_role("button", name="Retry broken.pdf")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#upload-note")).to_have_text("broken.pdf is tried again.")
    expect(page.locator("#documents-title:focus, #documents button:focus")).to_have_count(1)  # parked again, or not yet

    page.fill("#query", "boiler code")
    page.keyboard.press("Enter")
    page.get_by_role("group", name="Narrow the hits").get_by_role("button", name="letter 1").press("Enter")
    chip = page.get_by_role("group", name="Narrow the hits").get_by_role("button", name="letter 1")
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(chip).to_be_focused()
    page.get_by_role("button", name="Remove the condition kind = letter").press("Enter")
    expect(chip).to_have_attribute("aria-pressed", "false")
    expect(chip).to_be_focused()
