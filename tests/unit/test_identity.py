"""Ids are what RFC 9562 says, in whatever way they are made."""

from __future__ import annotations

from uuid import uuid5

from hypothesis import given
from hypothesis import strategies as st

from workers.contract.identity import NAMESPACE, chunk_id, document_id

NAMES = st.text(st.characters(exclude_categories=["Cs"]))


@given(source=NAMES, path=NAMES)
def test_a_document_id_is_the_uuid5_of_source_and_path(source, path):
    assert document_id(source, path) == str(uuid5(NAMESPACE, f"{source}\x1f{path}"))


@given(digest=NAMES, occurrence=st.integers(0, 10**6))
def test_a_chunk_id_is_the_uuid5_of_document_text_and_repeat_and_the_first_one_says_so(digest, occurrence):
    said = f"d\x1f{digest}\x1f{occurrence}"

    assert chunk_id("d", digest, occurrence) == str(uuid5(NAMESPACE, said))
    assert chunk_id("d", digest, occurrence, first=True) == str(uuid5(NAMESPACE, f"{said}\x1ffirst"))
