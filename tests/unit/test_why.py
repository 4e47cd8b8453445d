"""Why a document is, or is not, found: each way to be lost has its own verdict, with the figures behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.answering import Away, Index, Near
from workers.query.requests import BadRequest, ExplainRequest, SearchRequest, read
from workers.query.search import search, search_many
from workers.query.why import explain_document

IDS = [f"00000000-0000-5000-8000-{n:012d}" for n in range(20)]
SAME = "The boiler in the cellar was inspected by the landlord, the tenant and the chimney sweep this autumn."


def index(*contents: str) -> Index:
    made = Index(*contents)
    made.chunks = [
        replace(one, payload={**one.payload, "doc_id": IDS[n], "chunk_index": 0}) for n, one in enumerate(made.chunks)
    ]
    return made


def why(made: Index, number: int, query: str = "boiler", embedder=None, **more):
    request = ExplainRequest(query=query, doc_id=IDS[number], **more)
    return explain_document(request, index=made, embedder=embedder or Away())


def test_a_document_that_is_found_has_its_rank():
    told = why(index("The boiler code.", "Other things."), 0)

    assert (told["verdict"], told["rank"]) == ("found", 1)
    assert told["lists"]["bm25"]["rank"] == 1
    assert told["matched"] == ["boiler"]


def test_a_document_without_chunks_is_not_in_the_index():
    assert why(index("The boiler."), 7)["verdict"] == "not_indexed"


def test_the_filter_that_keeps_a_document_away_is_named_with_what_it_has_instead():
    told = why(index("The boiler code."), 0, filters={"title": "T", "source": "mail"})

    assert told["verdict"] == "filtered"
    assert "source = mail" in told["summary"]
    assert told["filters"] == [
        {"condition": "title = T", "passes": True, "document_has": {"title": ["T"]}},
        {"condition": "source = mail", "passes": False, "document_has": {"source": ["docs"]}},
    ]


def test_a_document_without_a_common_word_is_told_so():
    told = why(index("The boiler.", "Something else."), 1)

    assert told["verdict"] == "nothing_in_common"
    assert "words alone" in told["summary"]


def test_a_document_that_repeats_a_better_hit_is_behind_it():
    told = why(index(SAME, SAME.upper()), 1)

    assert told["verdict"] == "says_the_same"
    assert told["duplicate_of"] == {"doc_id": IDS[0], "path": "0.md"}


def test_a_document_behind_better_ones_has_its_place_in_each_list():
    made = index(*[f"The boiler {word} was built." for word in "one two three four".split()])  # noqa: SIM905
    told = why(made, 3, limit=2, embedder=Near())

    assert told["verdict"] == "others_are_better"
    assert (told["fused_rank"], told["lists"]["bm25"]["rank"], told["lists"]["dense"]["rank"]) == (4, 4, 4)
    assert "number 4" in told["summary"]


@pytest.mark.parametrize("doc_id", ["", "x", "../../etc/passwd", None])
def test_a_document_is_named_by_its_id(doc_id):
    with pytest.raises(BadRequest):
        read(ExplainRequest, {"query": "x", "doc_id": doc_id})


def test_a_hit_is_explained_in_a_sentence_and_in_figures():
    result = search(
        SearchRequest(query="boiler warranty", explain=True, filters={"title": "T"}),
        index=index("The boiler code.", SAME),
        embedder=Away(),
    )
    told = result.hits[0].explain

    assert told is not None
    assert (told["rank"], told["matched"], told["missing"]) == (1, ["boiler"], ["warranty"])
    assert told["filters"] == ["title = T"]
    assert told["summary"].startswith("It has the word boiler;") or told["summary"] == "It has the word boiler."


def test_several_searches_ask_the_endpoint_once():
    class Counting(Near):
        calls = 0

        def queries(self, texts):
            Counting.calls += 1
            return super().queries(texts)

    requests = [
        SearchRequest(query="boiler"),
        SearchRequest(query="code", mode="lexical"),
        SearchRequest(query="hedge"),
    ]
    results = search_many(requests, index=index("The boiler code."), embedder=Counting())

    assert [result.mode for result in results] == ["hybrid", "lexical", "hybrid"]
    assert Counting.calls == 1


def test_a_reranker_that_is_away_leaves_the_order_and_is_told():
    from workers.errors import RerankerUnavailable

    class Asleep:
        def scores(self, query, passages):
            raise RerankerUnavailable("No answer from the reranker (UPWELL_RERANK_URL).")

    result = search(
        SearchRequest(query="boiler"), index=index("The boiler.", "A boiler."), embedder=Near(), reranker=Asleep()
    )

    assert [hit.found.doc_id for hit in result.hits] == IDS[:2]
    assert "UPWELL_RERANK_URL" in (result.degraded or "")


def test_facets_come_only_when_they_are_asked_for():
    made = index("The boiler.", "A boiler.")

    assert search(SearchRequest(query="boiler"), index=made, embedder=Away()).facets is None
    shown = search(SearchRequest(query="boiler", facets=["title"]), index=made, embedder=Away()).as_json()
    assert shown["facets"] == {"title": [{"value": "T", "count": 2}]}
    assert shown["facets_over"] == {"documents": 2, "complete": True}


def test_facets_count_every_document_with_a_word_of_the_query_not_only_the_best(monkeypatch):
    made = Index(*["The boiler."] * 60, *["The hedge."] * 40)
    asked = SearchRequest(query="boiler", limit=5, facets=["path", "title"])
    whole = search(asked, index=made, embedder=Near()).facets
    monkeypatch.setattr("workers.query.search.FACETED", 50)
    part = search(asked, index=made, embedder=Near()).facets

    assert (whole.documents, whole.complete, whole.counts["title"]) == (60, True, [{"value": "T", "count": 60}])
    assert (part.documents, part.complete) == (50, False)


def test_facets_of_a_search_by_meaning_count_its_candidates_and_say_so():
    small, large = Index(*["The hedge."] * 20), Index(*["The hedge."] * 300)

    def over(made, query="chaudière", **more):
        request = SearchRequest(query=query, facets=["title"], **more)
        facets = search(request, index=made, embedder=Near()).facets
        return facets.documents, facets.complete

    assert over(large, query="hedge", mode="semantic") == (200, False)
    assert over(small, query="hedge", mode="semantic") == (20, True)
    assert over(large) == (30, False)  # no document has this word
    assert over(small) == (20, True)
    assert over(large, mode="lexical") == (0, True)
