"""The only module of the workers that computes BM25 vectors: Qdrant's own model, in process, without a download.

What a stored chunk has, so that every reader finds it (figures in ADR 0012):

* the token ids of Qdrant's `qdrant/bm25` with its defaults: a reader that lets Qdrant infer its query finds our points;
* the stems of the chunk's own language, where it is one that Qdrant can stem and not English;
* runs of Chinese, Japanese, Thai and the like, which that model takes for one word, through Qdrant's multilingual
  tokenizer (which in turn loses numbers, so it gets nothing else);
* the parts of `camelCase` words, and `snake_case`, `dotted.names` and hyphened words written as one.

A query asks for each of its words once: a word whose two stems differ has half its weight on either.  Words of
names are in `names`.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from qdrant_edge import Bm25, Bm25Config, TokenizerType

from workers.adapters.language import language_of, other_language_of

BM25_VERSION = "qdrant/bm25 english+own word+multilingual compounds names 4"
"""Part of the recipe: other token ids need other points."""

LONGEST_WORD = 100

_UNSPACED = re.compile(
    "["
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"  # CJK
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ede\u1000-\u109f\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
    "\U00020000-\U0003ffff"
    "]+"
)
_NAME = re.compile(r"[^\W_]+(?:[._-][^\W_]+)*")
_JOINT = re.compile("[._-]")
_JOINTS = re.compile(r"[._\-A-Z](?:(?<=[^\W_][._-])(?=[^\W_])|(?<=[a-z][A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{3}))")
"""A sign between letters, or the capital letter that begins a part.  To look for what is rare first takes a third."""
_HUMP = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\WA-Z_]+")
_DEFAULT = "english"


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Token ids and their weights."""

    indices: list[int]
    values: list[float]


def document_vector(text: str) -> SparseVector:
    """Return the sparse vector of a stored text."""
    return document_vectors([text])[0]


def document_vectors(texts: Sequence[str]) -> list[SparseVector]:
    """Return the sparse vectors of stored texts, in their order.

    Each step is taken for all of them before the next, so that its code and its tables stay in the processor's caches:
    an eighth less time than one text after the other.
    """
    apart = [_apart(_clean(text)) for text in texts]
    forms = [[form for name in _compounds(spaced) for form in _other_forms(name)] for spaced, _ in apart]
    whole = [
        " ".join([spaced, *others]) if others else spaced for (spaced, _), others in zip(apart, forms, strict=True)
    ]
    found = list(map(_model(_DEFAULT).embed_document, whole))
    languages = [other_language_of(spaced) for spaced, _ in apart]
    return [_with_own(*each) for each in zip(found, apart, languages, strict=True)]


def _with_own(found: Any, apart: tuple[str, list[str]], own: str | None) -> SparseVector:
    """Add to a vector the stems of the text's own language, and its runs."""
    spaced, runs = apart
    if own is None and not runs:
        return SparseVector(found.indices, found.values)
    weights = _weights(found)
    if own is not None:
        weights = _weights(_model(own).embed_document(spaced)) | weights
    if runs:
        weights |= _weights(_segments().embed_document(" ".join(runs)))
    return SparseVector(list(weights), list(weights.values()))


def query_vector(text: str) -> SparseVector:
    """Return the words of a text as each stored text has them: Qdrant's defaults, and words of unspaced scripts."""
    spaced, runs = _apart(_clean(text))
    weights = dict.fromkeys(_model(_DEFAULT).embed_query(spaced).indices, 1.0)
    if runs:
        weights |= dict.fromkeys(_segments().embed_query(" ".join(runs)).indices, 1.0)
    return SparseVector(list(weights), list(weights.values()))


def search_vector(text: str, languages: Sequence[str] = ()) -> SparseVector:
    """Return the sparse vector that a search asks for.  Empty when it has only stop words.

    ``languages`` (English names) are those that the query may be in when its own words do not tell.
    """
    text = _clean(text)
    spaced, runs = _apart(text)
    own = tuple(name for name in _languages(spaced, languages) if name != _DEFAULT)
    weights = dict.fromkeys(_model(_DEFAULT).embed_query(spaced).indices, 1.0)
    if own:
        weights = _shared(spaced, own, weights)
    for name in _compounds(spaced):
        for part in _other_forms(name):
            for token in _model(_DEFAULT).embed_query(part).indices:
                weights.setdefault(token, 0.5)
    if runs:
        weights |= dict.fromkeys(_segments().embed_query(" ".join(runs)).indices, 1.0)
    return SparseVector(list(weights), list(weights.values()))


@lru_cache(maxsize=1 << 16)
def word_ids(word: str, languages: tuple[str, ...] = ()) -> tuple[int, ...]:
    """Return the token ids of one word; none for a stop word.  A common id: search takes two words for the same."""
    word = _clean(word)
    forms = [word, *(part for name in _compounds(word) for part in _other_forms(name))]
    found = dict.fromkeys(token for form in forms for token in _model(_DEFAULT).embed_query(form).indices)
    for name in languages:
        found |= dict.fromkeys(_model(name).embed_query(word).indices)
    return tuple(found)


def segment_ids(run: str) -> tuple[int, ...]:
    """Return the token ids of the words in a run of an unspaced script."""
    return tuple(_segments().embed_query(_clean(run)).indices)


def languages_of(query: str, languages: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the languages that a query is searched in, beside English."""
    return tuple(name for name in _languages(_apart(_clean(query))[0], languages) if name != _DEFAULT)


def unspaced_runs(text: str) -> Iterator[tuple[int, str]]:
    """Yield (start, run) of every stretch of a script that puts no spaces between words."""
    for run in _UNSPACED.finditer(text):
        yield run.start(), run.group()


def spaced_words(text: str) -> Iterator[re.Match[str]]:
    """Return every word of the scripts that put spaces between words: its letters, and its place in the text."""
    if is_plain(text):
        return PLAIN_WORD.finditer(text)
    parts, last = [], 0
    for start, run in unspaced_runs(text):
        parts += [text[last:start], " " * len(run)]
        last = start + len(run)
    return _word().finditer("".join([*parts, text[last:]]))


def is_plain(text: str) -> bool:
    """Tell whether each of a text's words is a run of letters and digits: no unspaced script, no marks.

    The pattern for words with marks takes ten times as long as `PLAIN_WORD`, and so would a look at every letter.
    """
    if text.isascii():
        return True
    rare = "".join(letter for letter in set(text) if letter >= FIRST_MARK)
    return not rare or not (_UNSPACED.search(rare) or _mark().search(rare))


def plain_words(text: str) -> list[str]:
    """Return every run of letters and digits in a text: its words, where it `is_plain`."""
    # The same for ASCII, in a sixth of the time.
    return text.translate(_ASCII_APART).split() if text.isascii() else PLAIN_WORD.findall(text)


def _languages(spaced: str, otherwise: Sequence[str]) -> tuple[str, ...]:
    own = language_of(spaced, question=True)
    return (own,) if own is not None else tuple(dict.fromkeys(otherwise))


def _shared(text: str, languages: Sequence[str], weights: dict[int, float]) -> dict[int, float]:
    """Share each word's weight between its stems; what is a stop word in the query's one language goes."""
    found = dict(weights)
    stop: set[int] = set()
    kept: set[int] = set()
    for match in spaced_words(text):
        word = match.group()
        usual = set(_model(_DEFAULT).embed_query(word).indices)
        others = [set(_model(name).embed_query(word).indices) for name in languages]
        if len(languages) == 1 and not others[0]:
            stop |= usual
            continue
        kept |= usual
        different = set().union(*others) - usual
        if different:
            found |= dict.fromkeys(different, 0.5 if usual else 1.0)
            # A document of that language has both stems; one of another language, or of none, has the usual one.
            found |= {token: 0.5 for token in usual if token in found}
    without = {token: weight for token, weight in found.items() if token not in stop - kept}
    return without or found


def _compounds(text: str) -> list[str]:
    """Return every name that is put together: with a sign or a capital letter inside."""
    found: list[str] = []
    end = 0
    for joint in _JOINTS.finditer(text):
        at = joint.start()
        if at < end:
            continue  # of a name that was found
        name = _NAME.search(text, max(text.rfind(" ", end, at), end))
        while name is not None and name.end() <= at:
            name = _NAME.search(text, name.end())
        if name is not None:
            end = name.end()
            if end - name.start() <= LONGEST_WORD:
                found.append(name.group())
    return found


def _other_forms(name: str) -> tuple[str, ...]:
    """Return what else a compound may be called: maxRetries -> max, Retries; max_retries -> maxretries."""
    if name == name.lower():  # most are numbers or hyphened, and each is another one
        return (name.replace(".", "").replace("-", "").replace("_", ""),)
    return _cased_forms(name)


@lru_cache(maxsize=1 << 13)
def _cased_forms(name: str) -> tuple[str, ...]:
    pieces = _JOINT.split(name)
    joined = ["".join(pieces)] if len(pieces) > 1 else []
    humps = [_HUMP.findall(piece) for piece in pieces if not piece.islower()]
    return (*joined, *(part for parts in humps if len(parts) > 1 for part in parts))


def _weights(vector: Any) -> dict[int, float]:
    return dict(zip(vector.indices, vector.values, strict=True))


def _apart(text: str) -> tuple[str, list[str]]:
    """Return the text without its unspaced runs, and the runs."""
    if text.isascii():
        return text, []
    runs = _UNSPACED.findall(text)
    return (_UNSPACED.sub(" ", text) if runs else text), runs


def _clean(text: str) -> str:
    """One spelling for what looks the same (NFC); a lone surrogate cannot cross into Rust."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "replace").decode()


@cache
def _model(language: str) -> Any:
    return Bm25() if language == _DEFAULT else Bm25(Bm25Config(language=language))


@cache
def _segments() -> Any:
    """Costs 50 MB for its dictionaries, and only those who need it pay."""
    return Bm25(Bm25Config(tokenizer=TokenizerType.Multilingual))


@cache
def _word() -> re.Pattern[str]:
    """Letters and digits, and the marks that belong to them: ``re`` alone would cut Hindi and decomposed accents."""
    return re.compile(f"[^\\W_]+(?:{_mark().pattern}+[^\\W_]*)*")


@cache
def _mark() -> re.Pattern[str]:
    marks = [chr(n) for n in range(ord(FIRST_MARK), sys.maxunicode + 1) if unicodedata.category(chr(n))[0] == "M"]
    return re.compile(f"[{''.join(map(re.escape, marks))}]")


FIRST_MARK = "\u0300"
PLAIN_WORD = re.compile(r"[^\W_]+")
_ASCII_APART = {number: " " for number in range(128) if not chr(number).isalnum()}
