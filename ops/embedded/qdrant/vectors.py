"""Vectors: JSON -> the engine's objects and back, checked against the collection; texts become BM25 vectors here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import hypot
from typing import Any, Literal

import qdrant_edge as q
from pydantic_core import from_json, to_json

from ops.embedded.qdrant.errors import BadRequest, Invalid, NotDone, engine
from ops.embedded.qdrant.fields import Fields, enum_words, has_just, malformed
from ops.embedded.qdrant.text import read_stemmer, read_stopwords

UNNAMED = ""
BM25 = "qdrant/bm25"
LARGEST = 3.4028234663852886e38

_USUAL_SPARSE = frozenset({"indices", "values"})


@dataclass(frozen=True, slots=True)
class Space:
    """What one named vector of a collection looks like."""

    kind: Literal["dense", "multi", "sparse"]
    size: int = 0


Spaces = Mapping[str, Space]
EmbedText = Callable[[Any, str], Any]


def space(spaces: Spaces, name: str) -> Space:
    """Return the space called `name`."""
    found = spaces.get(name)
    if found is None:
        raise BadRequest(f"Wrong input: Not existing vector name error: {name}")
    return found


def read_point_vectors(value: Any, spaces: Spaces) -> Any:
    """Return the vectors of a point to be stored: one unnamed vector, or several by name."""
    if isinstance(value, dict) and not _is_inference(value):
        named = {name: _stored(vector, spaces, name) for name, vector in value.items()}
        # The engine wants a lone unnamed vector without its name in some calls, and takes it so in all.
        return named[UNNAMED] if named.keys() == {UNNAMED} else named
    return _stored(value, spaces, UNNAMED)


def _stored(value: Any, spaces: Spaces, name: str) -> Any:
    return read_vector(value, space(spaces, name), _document)


def read_query_vector(value: Any, spaces: Spaces, name: str) -> Any:
    """Return a vector to search with."""
    return read_vector(value, space(spaces, name), _query)


def read_vector(value: Any, wanted: Space, embed: EmbedText) -> Any:
    """Return one vector as the engine takes it, if it fits the space."""
    if isinstance(value, dict):
        if _is_inference(value):
            return _fits_sparse(wanted, embed(value, "vector"))
        return _fits_sparse(wanted, _sparse(value))
    if not isinstance(value, list):
        raise malformed("a vector must be a list of numbers, an object with indices and values, or a text with a model")
    if wanted.kind == "sparse":
        raise BadRequest("Wrong input: Wrong usage of sparse vectors: a list of numbers is no sparse vector")
    if value and isinstance(value[0], list):
        if wanted.kind != "multi":
            raise BadRequest("Wrong input: Wrong usage of multi vectors: this vector is one list of numbers")
        return [_dense(row, wanted.size) for row in value]
    dense = _dense(value, wanted.size)
    return [dense] if wanted.kind == "multi" else dense


def _dense(value: Any, size: int) -> list[float]:
    if not isinstance(value, list):
        raise malformed("a vector must be a list of numbers")
    if len(value) != size:
        raise BadRequest(f"Wrong input: Vector dimension error: expected dim: {size}, got {len(value)}")
    try:
        # JSON brings no NaN to here, but what overflows the engine's 32 bits would be stored as infinity.  No number is
        # larger than the length of all of them, and that is had for an eighth of what the largest costs.
        fine = hypot(*value) <= LARGEST or (max(value) <= LARGEST and min(value) >= -LARGEST)
    except TypeError:
        fine = False
    if not fine:
        raise malformed("a vector must be a list of finite numbers")
    return value


def _fits_sparse(wanted: Space, vector: Any) -> Any:
    if wanted.kind != "sparse":
        raise BadRequest("Wrong input: Wrong usage of sparse vectors: this vector is a list of numbers")
    return vector


def _sparse(value: Any) -> Any:
    if has_just(value, _USUAL_SPARSE) and isinstance(value["indices"], list) and isinstance(value["values"], list):
        indices, values = value["indices"], value["values"]
    else:
        indices, values = _indices_and_values(value)
    if len(indices) != len(values):
        raise Invalid("Validation error in JSON body: [values: must be the same length as indices]")
    if len(set(indices)) != len(indices):
        raise Invalid("Validation error in JSON body: [indices: must be unique]")
    _dense(values, len(values))
    with engine():
        return q.SparseVector(indices, values)


def _indices_and_values(value: Any) -> tuple[list[Any], list[Any]]:
    fields = Fields(value, "sparse vector")
    indices, values = fields.items("indices"), fields.items("values")
    fields.done()
    if indices is None or values is None:
        raise malformed("a sparse vector must have indices and values")
    return indices, values


# ------------------------------------------------------------------------------------------------------- inference


def _is_inference(value: dict[str, Any]) -> bool:
    """Tell a text, image or object to be embedded from vectors by name."""
    return isinstance(value.get("model"), str) and bool(value.keys() & {"text", "image", "object"})


def _document(value: Any, where: str) -> Any:
    text, model = _bm25(value, where)
    return model.embed_document(text)


def _query(value: Any, where: str) -> Any:
    text, model = _bm25(value, where)
    return model.embed_query(text)


def _bm25(value: Any, where: str) -> tuple[str, Any]:
    fields = Fields(value, where)
    name, text, options = fields.required_text("model"), fields.text("text"), fields.object("options")
    fields.ignore("image", "object")
    fields.done()
    if name.lower() != BM25 or text is None:
        raise NotDone(f"inference but of texts with {BM25}")
    return text, _model(to_json(options or {}, inf_nan_mode="constants"))


@lru_cache(maxsize=32)
def _model(options: bytes) -> Any:
    fields = Fields(from_json(options), "options")
    with engine():
        config = q.Bm25Config(
            k=fields.number("k"),
            b=fields.number("b"),
            avg_len=fields.number("avg_len"),
            tokenizer=fields.one_of("tokenizer", enum_words(q.TokenizerType)),
            language=fields.text("language"),
            lowercase=fields.flag("lowercase"),
            ascii_folding=fields.flag("ascii_folding"),
            stopwords=fields.read("stopwords", read_stopwords),
            stemmer=fields.read("stemmer", read_stemmer),
            min_token_len=fields.whole("min_token_len"),
            max_token_len=fields.whole("max_token_len"),
        )
        fields.done()
        return q.Bm25(config)


# ---------------------------------------------------------------------------------------------------------- output


def shown(vector: Any) -> Any:
    """Return a stored vector as JSON has it."""
    if isinstance(vector, dict):
        return {name: shown(one) for name, one in vector.items()}
    if isinstance(vector, q.SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    return vector
