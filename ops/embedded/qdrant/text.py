"""Words about words: stopwords and stemmers, as text indexes and BM25 take them."""

from __future__ import annotations

from typing import Any

import qdrant_edge as q

from ops.embedded.qdrant.fields import Fields, chosen, enum_word, enum_words, malformed

_LANGUAGES = enum_words(q.Language)
_STEMMERS = enum_words(q.SnowballLanguage)


def read_stopwords(value: Any) -> Any:
    """Return a language, or a set of languages and words."""
    if isinstance(value, str):
        return chosen(value, _LANGUAGES, "stopwords")
    fields = Fields(value, "stopwords")
    languages, custom = fields.words("languages"), fields.words("custom")
    fields.done()
    return q.StopwordsSet(
        languages=None if languages is None else {chosen(word, _LANGUAGES, "stopwords") for word in languages},
        custom=None if custom is None else set(custom),
    )


def read_stemmer(value: Any) -> Any:
    """Return a Snowball stemmer, or none at all."""
    fields = Fields(value, "stemmer")
    kind = fields.required_text("type")
    read: Any
    if kind == "none":
        read = q.DisabledStemmer()
    elif kind == "snowball":
        read = q.SnowballParams(chosen(fields.required("language"), _STEMMERS, "stemmer.language"))
    else:
        raise malformed("stemmer.type must be snowball or none")
    fields.done()
    return read


def shown_stopwords(value: Any) -> Any:
    """Return stopwords as JSON has them."""
    if isinstance(value, q.Language):
        return enum_word(value)
    shown = {}
    if value.languages:
        shown["languages"] = sorted(enum_word(language) for language in value.languages)
    if value.custom:
        shown["custom"] = sorted(value.custom)
    return shown


def shown_stemmer(value: Any) -> Any:
    """Return a stemmer as JSON has it."""
    if isinstance(value, q.DisabledStemmer):
        return {"type": "none"}
    return {"type": "snowball", "language": enum_word(value.language)}
