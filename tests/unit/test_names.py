"""A file is found by its name, however it is spelled, and a name takes nothing from what texts say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.answering import Away, Index, found
from workers.adapters.bm25 import document_vector, search_vector
from workers.adapters.names import NAME, apart, chunk_vector, name_weights, with_names
from workers.adapters.qdrant_fusion import lists_of, total
from workers.query.requests import ExplainRequest, SearchRequest
from workers.query.search import search
from workers.query.why import explain_document
from workers.query.words import Terms

INVOICE = "invoices/2023/ACME-invoice_0042.pdf"


def common(query: str, path: str, languages: tuple[str, ...] = ()) -> float:
    """Return what a query and a name have in common: the weights of both, as a share of what the query asks for."""
    words = search_vector(query, languages)
    name = name_weights(path, languages)
    held = zip(words.indices, words.values, strict=True)
    return sum(asked * name.get(token | NAME, 0.0) for token, asked in held) / sum(words.values)


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("ACME-invoice_0042.pdf", INVOICE),
        ("acme-invoice_0042", INVOICE),
        (INVOICE, INVOICE),
        ("acme invoice", INVOICE),
        ("invoices acme", INVOICE),
        ("AcmeInvoice", INVOICE),
        ("annual report 2023", "AnnualReport2023.docx"),
        ("AnnualReport2023.docx", "AnnualReport2023.docx"),
        ("report.pdf", "notes/2024/report.pdf"),
        ("en-001.md", "en-001.md"),
        ("550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000.txt"),
        ("IMG_2031", "IMG_2031.txt"),
        (".gitignore", ".gitignore"),
        ("合同", "合同2023.pdf"),
        ("Kündigung", "Ku\u0308ndigung.docx"),
        ("café", "caf\\xe9 menu.txt"),
        ("second line", "first\nsecond line.txt"),
    ],
)
def test_a_name_is_met_in_each_way_that_people_spell_it(query, path):
    assert common(query, path) >= 0.5


def test_words_of_a_name_are_stemmed_in_the_language_of_the_text():
    german = "Das Gericht hat festgestellt, dass die Kündigung nicht rechtzeitig war und sie ist unwirksam."
    asked = search_vector("Kündigungsfristen", ("german",))
    stored = chunk_vector(german, "Kündigungsfrist.txt")

    assert {token | NAME for token in asked.indices} & set(stored.indices)


@pytest.mark.parametrize("path", ["7.txt", "chapter-5.txt", "2020/11/3.md", "41.9-16.pdf"])
def test_a_small_number_in_a_name_means_next_to_nothing(path):
    assert max(common(query, path) for query in ("windows 7", "mach 5", "section 11", "41 degrees")) <= 0.15


def test_the_files_own_name_counts_more_than_its_folders_and_the_whole_name_more_than_its_words():
    assert common("invoices", INVOICE) > 0  # the stem of invoice is in the file's name, too
    assert common("reports", "reports/acme.txt") < common("acme", "reports/acme.txt")
    assert sorted(name_weights("ACME-letter.txt").values()) == [1.0, 1.0, 3.0, 3.0]  # with and without its ending


def test_a_name_touches_no_word_of_a_text():
    text = "An invoice of ACME."
    with_name, alone = chunk_vector(text, INVOICE), document_vector(text)
    asked = search_vector("acme invoice")

    assert chunk_vector(text, None) == alone
    assert apart(with_name)[0] == alone
    assert apart(with_names(asked))[0] == asked
    assert max(alone.indices) < NAME <= min(apart(with_name)[1].indices)


@given(st.text())
def test_whatever_a_path_is_its_ids_are_those_of_names_and_its_weights_are_finite(path):
    for token, weight in name_weights(path).items():
        assert NAME <= token < 2 * NAME
        assert math.isfinite(weight)
        assert weight > 0


def test_without_meaning_names_are_searched_beside_words_in_one_list():
    lists = lists_of(with_names(search_vector("acme")), None, names_apart=False)

    assert list(lists) == ["bm25"]
    assert lists["bm25"]["values"] == [1.0, 1.0]


def test_words_in_names_leave_what_a_text_needs_as_it_was():
    words = search_vector("acme invoice")
    alone = total({"dense": [1.0], "bm25": {"indices": words.indices, "values": words.values}}, 0.8, 100)
    both = lists_of(with_names(words), found_vector(), names_apart=True)

    assert list(both) == ["dense", "bm25", "name"]
    assert total(both, 0.8, 100)["formula"]["sum"][:3] == alone["formula"]["sum"]


def found_vector():
    import numpy as np

    return np.array([1.0], dtype=np.float32)


def test_the_words_of_a_query_that_a_name_has_are_told():
    terms = Terms("Where is the ACME invoice of May?")

    assert terms.named(INVOICE) == ["ACME", "invoice"]
    assert terms.named("other.txt") == []


def test_an_explanation_says_that_the_name_matched():
    index = Index("Pay within a month, please.")
    index.chunks = [found(0, "Pay within a month, please.", path=INVOICE)]
    request = SearchRequest(query="month acme hedge", explain=True)
    [hit] = search(request, index=index, embedder=Away()).hits

    assert hit.explain is not None
    assert (hit.explain["matched"], hit.explain["named"], hit.explain["missing"]) == (["month"], ["acme"], ["hedge"])
    assert "its file's name has the word acme" in hit.explain["summary"]


def test_a_missing_document_is_explained_with_its_name():
    index = Index("Pay within a month, please.")
    key = "00000000-0000-5000-8000-000000000001"
    one = found(0, "Pay within a month, please.", path=INVOICE)
    index.chunks = [type(one)(one.id, one.score, {**one.payload, "doc_id": key})]
    told = explain_document(ExplainRequest(query="month acme", doc_id=key), index=index, embedder=Away())

    assert (told["matched"], told["named"], told["missing"]) == (["month"], ["acme"], [])
