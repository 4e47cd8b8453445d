"""What a collection is made of: its creation request -> the engine's configuration, payload indexes both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import qdrant_edge as q

from ops.embedded.qdrant.errors import BadRequest, Invalid, NotDone, engine
from ops.embedded.qdrant.fields import Fields, chosen, enum_word, enum_words, malformed
from ops.embedded.qdrant.text import read_stemmer, read_stopwords, shown_stemmer, shown_stopwords
from ops.embedded.qdrant.vectors import UNNAMED, Space, Spaces

MAX_SIZE = 65_536

# Every search reads every vector: exact, 11 ms of processor time for 100,000 of 384 dimensions; a graph takes the
# engine a second per thousand points to build (ADR 0010).
_NO_GRAPH: dict[str, Any] = {"m": 0, "ef_construct": 100, "full_scan_threshold": 10_000, "payload_m": 0}
_ONE_SEGMENT: dict[str, Any] = {"default_segment_number": 1, "indexing_threshold": 10**9, "max_segment_size": 10**9}

# A thread reads one segment, and there is one.  Of the seven that the engine would have, each read wakes several, and
# they look for work before they sleep again: a twentieth of a first index's processor time.
_SEARCH_THREADS = 1

_DISTANCES = {enum_word(value).capitalize(): value for value in enum_words(q.Distance).values()}
_DATATYPES = {"float32": q.VectorStorageDatatype.Float32, "float16": q.VectorStorageDatatype.Float16}
_COMPARATORS = enum_words(q.MultiVectorComparator)
_MEMORIES = enum_words(q.Memory)

# Where things lie and how the server tunes and spreads them: kept and shown, without effect on any answer.
_HINTS = (
    "hnsw_config",
    "optimizers_config",
    "wal_config",
    "on_disk_payload",
    "payload",
    "id_tracker",
    "replication_factor",
    "write_consistency_factor",
)


@dataclass(frozen=True, slots=True)
class Made:
    """A collection that can be made: the engine's configuration and the spaces of its vectors."""

    config: Any
    spaces: Spaces


def read_creation(request: Any) -> Made:
    """Return what a creation request asks for."""
    fields = Fields(request, "collection")
    for name in ("sharding_method", "init_from", "quantization_config", "strict_mode_config"):
        if name in fields:
            raise NotDone(name)
    if fields.whole("shard_number", at_least=1) not in (None, 1):
        raise NotDone("more than one shard")
    fields.ignore(*_HINTS, "metadata")
    dense = _dense_spaces(fields.any("vectors"))
    sparse = _sparse_spaces(fields.object("sparse_vectors") or {})
    fields.done()
    if not dense and not sparse:
        raise BadRequest("Wrong input: the embedded Qdrant needs at least one vector in a collection")
    if dense.keys() & sparse.keys():
        raise BadRequest("Wrong input: a dense and a sparse vector have the same name")
    with engine():
        config = q.EdgeConfig(
            vectors={name: params for name, (params, _) in dense.items()} or None,
            sparse_vectors=sparse or None,
            hnsw_config=q.HnswIndexConfig(**_NO_GRAPH),
            optimizers=q.EdgeOptimizersConfig(**_ONE_SEGMENT),
            max_search_threads=_SEARCH_THREADS,
        )
    spaces = {name: space for name, (_, space) in dense.items()} | {name: Space("sparse") for name in sparse}
    return Made(config, spaces)


def _dense_spaces(value: Any) -> dict[str, tuple[Any, Space]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise malformed("vectors must be an object")
    unnamed = "size" in value and not isinstance(value["size"], dict)
    return {name: _dense_space(params) for name, params in ({UNNAMED: value} if unnamed else value).items()}


def _dense_space(value: Any) -> tuple[Any, Space]:
    fields = Fields(value, "vector")
    if "quantization_config" in fields:
        raise NotDone("quantization_config")
    size = fields.whole("size", at_least=1)
    if size is None or size > MAX_SIZE:
        raise Invalid(f"Validation error in JSON body: [vectors.size: must be from 1 to {MAX_SIZE}]")
    distance = chosen(fields.required("distance"), _DISTANCES, "distance")
    datatype = fields.text("datatype")
    if datatype is not None and datatype not in _DATATYPES:
        raise NotDone(f"vectors of datatype {datatype[:20]}")
    multi = fields.read("multivector_config", _multivector)
    fields.ignore("hnsw_config", "on_disk", "memory")
    fields.done()
    with engine():
        params = q.EdgeVectorParams(
            size, distance, datatype=None if datatype is None else _DATATYPES[datatype], multivector_config=multi
        )
    return params, Space("multi" if multi is not None else "dense", size)


def _multivector(value: Any) -> Any:
    fields = Fields(value, "multivector_config")
    comparator = chosen(fields.required("comparator"), _COMPARATORS, "comparator")
    fields.done()
    return q.MultiVectorConfig(comparator)


def _sparse_spaces(value: dict[str, Any]) -> dict[str, Any]:
    return {name: _sparse_space(params) for name, params in value.items()}


def _sparse_space(value: Any) -> Any:
    fields = Fields({} if value is None else value, "sparse vector")
    modifier = fields.one_of("modifier", {"none": None, "idf": q.Modifier.Idf})
    index = Fields(fields.object("index") or {}, "index")
    fields.done()
    datatype = index.text("datatype")
    if datatype not in (None, "float32"):
        raise NotDone(f"sparse vectors of datatype {str(datatype)[:20]}")
    index.ignore("full_scan_threshold", "on_disk", "memory")
    index.done()
    return q.EdgeSparseVectorParams(modifier=modifier)


def changed(request: Mapping[str, Any], change: Any) -> dict[str, Any]:
    """Return a creation request after a change of its hints."""
    fields = Fields(change, "collection")
    for name in ("quantization_config", "strict_mode_config"):
        if name in fields:
            raise NotDone(name)
    fields.ignore("sparse_vectors", "vectors")  # where they lie, and how the graph is built
    new = dict(request)
    for name in ("optimizers_config", "hnsw_config", "metadata"):
        update = fields.object(name)
        if update is not None:
            new[name] = {**(new.get(name) or {}), **update}
    new.update(fields.object("params") or {})
    fields.done()
    return new


def shown_config(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration as the server shows it."""
    params = {
        "vectors": request.get("vectors") or {},
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": True,
    }
    params |= {name: request[name] for name in params if request.get(name) is not None and name != "vectors"}
    if request.get("sparse_vectors"):
        params["sparse_vectors"] = {name: value or {} for name, value in request["sparse_vectors"].items()}
    config = {
        "params": params,
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000, "max_indexing_threads": 0}
        | (request.get("hnsw_config") or {}),
        "optimizer_config": {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1000,
            "default_segment_number": 0,
            "max_segment_size": None,
            "memmap_threshold": None,
            "indexing_threshold": 10_000,
            "flush_interval_sec": 5,
            "max_optimization_threads": None,
        }
        | (request.get("optimizers_config") or {}),
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0} | (request.get("wal_config") or {}),
        "quantization_config": None,
    }
    if request.get("metadata"):
        config["metadata"] = request["metadata"]
    return config


# -------------------------------------------------------------------------------------------------- payload indexes

_TYPES = enum_words(q.PayloadSchemaType)
_COMMON = ("on_disk", "enable_hnsw", "memory", "nested")
_PARAMS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "keyword": (q.KeywordIndexParams, ("is_tenant", "prefix")),
    "integer": (q.IntegerIndexParams, ("lookup", "range", "is_principal")),
    "float": (q.FloatIndexParams, ("is_principal",)),
    "geo": (q.GeoIndexParams, ()),
    "bool": (q.BoolIndexParams, ()),
    "datetime": (q.DatetimeIndexParams, ("is_principal",)),
    "uuid": (q.UuidIndexParams, ("is_tenant",)),
}
_TEXT_FLAGS = ("lowercase", "ascii_folding", "phrase_matching")
_TEXT_LENGTHS = ("min_token_len", "max_token_len")


def read_index(request: Any) -> tuple[str, Any]:
    """Return the field to be indexed and the engine's parameters for it."""
    fields = Fields(request, "index")
    name, schema = fields.required_text("field_name"), fields.required("field_schema")
    fields.done()
    if isinstance(schema, str):
        return name, chosen(schema, _TYPES, "field_schema")
    params = Fields(schema, "field_schema")
    kind = params.required_text("type")
    with engine():
        read = _text_index(params) if kind == "text" else _plain_index(params, kind)
    params.done()
    return name, read


def _plain_index(params: Fields, kind: str) -> Any:
    make, own = chosen(kind, _PARAMS, "field_schema.type")
    flags = {name: params.flag(name) for name in (*own, "on_disk", "enable_hnsw")}
    return make(**flags, memory=params.one_of("memory", _MEMORIES), nested=params.text("nested"))


def _text_index(params: Fields) -> Any:
    return q.TextIndexParams(
        tokenizer=params.one_of("tokenizer", enum_words(q.TokenizerType)),
        **_named(params.whole, _TEXT_LENGTHS),
        **_named(params.flag, (*_TEXT_FLAGS, "on_disk", "enable_hnsw")),
        stopwords=params.read("stopwords", read_stopwords),
        stemmer=params.read("stemmer", read_stemmer),
        scoring=params.read("scoring", _scoring),
        memory=params.one_of("memory", _MEMORIES),
        nested=params.text("nested"),
    )


def _named(read: Callable[[str], Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: read(name) for name in names}


def _scoring(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    fields = Fields(value, "scoring")
    chosen(fields.required("type"), {"bm25": True}, "scoring.type")
    fields.done()
    return True


def shown_index(info: Any) -> dict[str, Any]:
    """Return what the server shows of one payload index."""
    kind = enum_word(info.data_type)
    shown: dict[str, Any] = {"data_type": kind, "points": info.points}
    if info.params is not None:
        shown["params"] = {"type": kind, **_shown_params(info.params, kind)}
    return shown


def _shown_params(params: Any, kind: str) -> dict[str, Any]:
    text = ("tokenizer", *_TEXT_LENGTHS, *_TEXT_FLAGS, "stopwords", "stemmer", "scoring")
    names = (*(text if kind == "text" else _PARAMS[kind][1]), *_COMMON)
    found = {name: getattr(params, name) for name in names}
    return {name: _shown_param(name, value) for name, value in found.items() if value is not None}


def _shown_param(name: str, value: Any) -> Any:
    if name == "stopwords":
        return shown_stopwords(value)
    if name == "stemmer":
        return shown_stemmer(value)
    if name == "scoring":
        return {"type": "bm25"}
    return value if isinstance(value, bool | int | str) else enum_word(value)
