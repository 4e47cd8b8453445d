"""A document is found by its name: what BM25 knows of a path, under token ids of its own (figures in ADR 0042).

A word of a name has the id that it has in a text, with the highest of 32 bits set: Qdrant's ids have 31.  So a name
makes no word of a text less rare, and a reader that knows nothing of names finds what it always found.  Only a
document's first chunk has them: what they are rare among is documents, however long each is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from workers.adapters.bm25 import (
    LONGEST_WORD,
    SparseVector,
    document_vector,
    segment_ids,
    spaced_words,
    unspaced_runs,
    word_ids,
)
from workers.adapters.language import language_of

NAME = 1 << 31
"""Set in the token id of a name's word."""

FOLDER = 0.5
"""Weight of a word in a folder's name; one in the file's own name has 1."""

WHOLE = 3.0
"""Weight of a name, or what white space leaves of it, written as one word: who types that means this file."""

TELLING = 8
"""Digits from which a number counts as much as a word: a date or a case number tells a file, a 7 does not."""

_JOINT = re.compile("[._-]")
_PARTS = re.compile(r"[^\W\d_]{3,}|\d+")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


def chunk_vector(text: str, name: str | None, vector: SparseVector | None = None) -> SparseVector:
    """Return the sparse vector of a stored chunk; ``name``: its document's path, if it is the first one there.

    ``vector`` is what `document_vector` says of the text, where it is known already.
    """
    vector = vector or document_vector(text)
    if name is None:
        return vector
    own = language_of(text)
    weights = name_weights(name, (own,) if own is not None else ())
    return SparseVector([*vector.indices, *weights], [*vector.values, *weights.values()])


def name_weights(path: str, languages: tuple[str, ...] = ()) -> dict[int, float]:
    """Return token ids and weights of a document's path (forward slashes); ``languages`` as in `word_ids`."""
    weights: dict[int, float] = {}
    for each in dict.fromkeys((path, _decoded(path))):
        *folders, name = each.split("/")
        stem = name.rpartition(".")[0] or name
        for text, worth in [*((folder, FOLDER) for folder in folders), (stem, 1.0)]:
            for ids, weight in _words(text, languages):
                for token in ids:
                    weights[token | NAME] = max(weights.get(token | NAME, 0.0), worth * weight)
        for piece in (*name.split(), *stem.split()):
            if _JOINT.search(piece) and len(piece) <= LONGEST_WORD:
                whole = word_ids(_JOINT.sub("", piece).lower())  # in lower case it is one word, whatever humps it had
                weights |= dict.fromkeys((token | NAME for token in whole), WHOLE)
    return weights


def with_names(words: SparseVector) -> SparseVector:
    """Return a query that asks for its words in names, too."""
    return SparseVector([*words.indices, *(token | NAME for token in words.indices)], words.values * 2)


def apart(words: SparseVector) -> tuple[SparseVector, SparseVector]:
    """Return what a query asks of texts, and what it asks of names."""
    return _those(words, of_names=False), _those(words, of_names=True)


def _those(words: SparseVector, *, of_names: bool) -> SparseVector:
    pairs = [pair for pair in zip(words.indices, words.values, strict=True) if (pair[0] >= NAME) == of_names]
    return SparseVector([token for token, _ in pairs], [value for _, value in pairs])


def _words(text: str, languages: tuple[str, ...]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield the token ids of each word in a name, and its weight: report2023 is that, report, and 2023."""
    for match in spaced_words(text):
        word = match.group()[:LONGEST_WORD]
        parts = _PARTS.findall(word)
        for each in (word, *parts) if "".join(parts) == word else (word,):
            yield word_ids(each, languages), min(1.0, len(each) / TELLING) if each.isdecimal() else 1.0
    for _, run in unspaced_runs(text):
        yield segment_ids(run), 1.0


def _decoded(path: str) -> str:
    """Return a path whose bytes were not UTF-8, and are shown as escapes, as Latin-1 reads them."""
    return _ESCAPE.sub(lambda escape: chr(int(escape.group(1), 16)), path)
