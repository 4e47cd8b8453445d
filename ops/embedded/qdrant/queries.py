"""Qdrant's universal query: JSON -> the engine's objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import qdrant_edge as q

from ops.embedded.qdrant.errors import BadRequest, Invalid, NotDone, engine
from ops.embedded.qdrant.fields import Fields, chosen, enum_words, malformed, point_id
from ops.embedded.qdrant.filters import read_condition, read_filter, read_geo_point
from ops.embedded.qdrant.vectors import UNNAMED, Spaces, read_query_vector, space

DEFAULT_LIMIT = 10
RRF_K = 2
_FUSIONS = {"rrf": lambda: q.Fusion.Rrf(k=RRF_K), "dbsf": q.Fusion.Dbsf}
_DIRECTIONS = enum_words(q.Direction)
_QUERIES = (
    "nearest recommend discover context order_by fusion rrf formula sample relevance_feedback text".split()  # noqa: SIM905
)


@dataclass(slots=True)
class QueryReader:
    """Reads one query; `vector_of` looks up the stored vector of a point that is given as an example."""

    spaces: Spaces
    vector_of: Callable[[int | str, str], Any]
    _examples: set[int | str] = field(default_factory=set)

    def read(self, value: Any) -> Any:
        """Return the engine's request."""
        fields = Fields(value, "query request")
        _not_here(fields)
        limit = fields.whole("limit", at_least=1) or DEFAULT_LIMIT
        offset = fields.whole("offset") or 0
        with_payload, with_vector = read_with_payload(fields, default=False), read_with_vector(fields)
        using = fields.text("using") or UNNAMED
        prefetches = self._prefetches(fields.any("prefetch"))
        query = self._query(fields.any("query"), using, limit + offset)
        common = self._common(fields)
        fields.done()
        with engine():
            return q.QueryRequest(
                limit=limit,
                offset=offset,
                query=query,
                prefetches=prefetches,
                with_payload=with_payload,
                with_vector=with_vector,
                **common,
            )

    def read_search(self, value: Any) -> Any:
        """Return the engine's request for the older search API: a vector, named or not."""
        fields = Fields(value, "search request")
        vector = fields.required("vector")
        using = UNNAMED
        if isinstance(vector, dict):
            named = Fields(vector, "vector")
            using, vector = named.required_text("name"), named.required("vector")
            named.done()
        request = {name: fields.any(name) for name in ("filter", "params", "limit", "offset", "score_threshold")}
        request |= {name: fields.any(name) for name in ("with_payload", "with_vector", "with_vectors", "shard_key")}
        fields.done()
        if request["limit"] is None:
            raise malformed("missing field `limit` in search request")
        return self.read({**request, "query": vector, "using": using})

    def _prefetches(self, value: Any) -> list[Any] | None:
        if value is None or value == []:
            return None
        return [self._prefetch(item) for item in (value if isinstance(value, list) else [value])]

    def _prefetch(self, value: Any) -> Any:
        outer, self._examples = self._examples, set()
        fields = Fields(value, "prefetch")
        _not_here(fields)
        limit = fields.whole("limit", at_least=1) or DEFAULT_LIMIT
        using = fields.text("using") or UNNAMED
        prefetches = self._prefetches(fields.any("prefetch"))
        query = self._query(fields.any("query"), using, limit)
        common = self._common(fields)
        fields.done()
        self._examples = outer
        with engine():
            return q.Prefetch(limit=limit, query=query, prefetches=prefetches, **common)

    def _common(self, fields: Fields) -> dict[str, Any]:
        condition = fields.read("filter", read_filter)
        if self._examples:  # a point that is given as an example is no answer
            others = q.Filter(must_not=[q.HasIdCondition(set(self._examples))])
            condition = others if condition is None else q.Filter(must=[condition, others])
        return {
            "filter": condition,
            "params": fields.read("params", read_params),
            "score_threshold": fields.number("score_threshold"),
        }

    # ------------------------------------------------------------------------------------------------ kinds of query

    def _query(self, value: Any, using: str, limit: int) -> Any:
        if value is None:
            return None
        kinds = value.keys() & set(_QUERIES) if isinstance(value, dict) and "model" not in value else set()
        if not kinds:
            return self._nearest(value, using)
        if len(kinds) > 1:
            raise malformed(f"a query must be one of {', '.join(sorted(kinds))}")
        fields = Fields(value, "query")
        read = getattr(self, f"_read_{kinds.pop()}")(fields, using, limit)
        fields.done()
        return read

    def _nearest(self, value: Any, using: str) -> Any:
        vector = self._vector(value, using)
        with engine():
            return q.Query.Nearest(vector, using=using)

    def _vector(self, value: Any, using: str) -> Any:
        """Return a vector that is given as itself, as a text, or as the id of a point that has it."""
        if isinstance(value, int | str):
            key = point_id(value)
            self._examples.add(key)
            return self.vector_of(key, using)
        return read_query_vector(value, self.spaces, using)

    def _vectors(self, values: list[Any] | None, using: str) -> list[Any]:
        return [self._vector(value, using) for value in values or []]

    def _read_nearest(self, fields: Fields, using: str, limit: int) -> Any:
        nearest, mmr = fields.required("nearest"), fields.object("mmr")
        if mmr is None:
            return self._nearest(nearest, using)
        settings = Fields(mmr, "mmr")
        diversity, candidates = settings.number("diversity"), settings.whole("candidates_limit", at_least=1)
        settings.done()
        if diversity is not None and not 0 <= diversity <= 1:
            raise Invalid("Validation error in JSON body: [query.mmr.diversity: must be from 0 to 1]")
        vector = self._vector(nearest, using)
        with engine():
            return q.Mmr(vector, 0.5 if diversity is None else 1 - diversity, candidates or limit, using=using)

    def _read_recommend(self, fields: Fields, using: str, limit: int) -> Any:
        given = Fields(fields.required("recommend"), "recommend")
        positives = self._vectors(given.items("positive"), using)
        negatives = self._vectors(given.items("negative"), using)
        strategy = given.text("strategy") or "average_vector"
        given.done()
        if strategy == "average_vector":
            return self._average(positives, negatives, using)
        kinds = {"best_score": q.Query.RecommendBestScore, "sum_scores": q.Query.RecommendSumScores}
        if not positives and not negatives:
            raise BadRequest("Bad request: At least one positive or negative vector ID required")
        with engine():
            return chosen(strategy, kinds, "strategy")(q.RecommendQuery(positives, negatives), using=using)

    def _average(self, positives: list[Any], negatives: list[Any], using: str) -> Any:
        if space(self.spaces, using).kind != "dense":
            raise NotDone("recommend with average_vector for vectors that are not dense")
        if not positives:
            raise BadRequest("Bad request: At least one positive vector ID required with this strategy")
        mean = _mean(positives)
        if negatives:
            mean = [2 * wanted - unwanted for wanted, unwanted in zip(mean, _mean(negatives), strict=True)]
        with engine():
            return q.Query.Nearest(mean, using=using)

    def _read_discover(self, fields: Fields, using: str, limit: int) -> Any:
        given = Fields(fields.required("discover"), "discover")
        target = self._vector(given.required("target"), using)
        pairs = self._pairs(given.any("context") or [], using)
        given.done()
        with engine():
            return q.Query.Discover(q.DiscoverQuery(target, pairs), using=using)

    def _read_context(self, fields: Fields, using: str, limit: int) -> Any:
        pairs = self._pairs(fields.required("context"), using)
        with engine():
            return q.Query.Context(q.ContextQuery(pairs), using=using)

    def _pairs(self, value: Any, using: str) -> list[Any]:
        return [self._pair(item, using) for item in (value if isinstance(value, list) else [value])]

    def _pair(self, value: Any, using: str) -> Any:
        fields = Fields(value, "context pair")
        positive = self._vector(fields.required("positive"), using)
        negative = self._vector(fields.required("negative"), using)
        fields.done()
        return q.ContextPair(positive, negative)

    def _read_relevance_feedback(self, fields: Fields, using: str, limit: int) -> Any:
        given = Fields(fields.required("relevance_feedback"), "relevance_feedback")
        target = self._vector(given.required("target"), using)
        feedback = [self._feedback(item, using) for item in given.items("feedback") or []]
        strategy = Fields(given.required("strategy"), "strategy")
        naive = Fields(strategy.required("naive"), "naive")
        a, b, c = (naive.number(name) or 0.0 for name in "abc")
        for read in (given, strategy, naive):
            read.done()
        with engine():
            query = q.FeedbackNaiveQuery(target, feedback, q.NaiveFeedbackStrategy(a, b, c))
            return q.Query.FeedbackNaive(query, using=using)

    def _feedback(self, value: Any, using: str) -> Any:
        fields = Fields(value, "feedback")
        item = q.FeedbackItem(self._vector(fields.required("example"), using), fields.number("score") or 0.0)
        fields.done()
        return item

    def _read_order_by(self, fields: Fields, using: str, limit: int) -> Any:
        return read_order_by(fields.required("order_by"))

    def _read_fusion(self, fields: Fields, using: str, limit: int) -> Any:
        return chosen(fields.required("fusion"), _FUSIONS, "fusion")()

    def _read_rrf(self, fields: Fields, using: str, limit: int) -> Any:
        given = Fields(fields.required("rrf"), "rrf")
        k, weights = given.whole("k", at_least=1), given.items("weights")
        given.done()
        with engine():
            return q.Fusion.Rrf(k=k or RRF_K, weights=weights)

    def _read_sample(self, fields: Fields, using: str, limit: int) -> Any:
        return chosen(fields.required("sample"), {"random": q.Sample.Random}, "sample")

    def _read_text(self, fields: Fields, using: str, limit: int) -> Any:
        raise NotDone("queries over a text index")

    def _read_formula(self, fields: Fields, using: str, limit: int) -> Any:
        formula, defaults = fields.required("formula"), fields.object("defaults")
        with engine():
            return q.Formula(_expression(formula), defaults or {})


def _mean(vectors: list[Any]) -> list[float]:
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def _not_here(fields: Fields) -> None:
    if "lookup_from" in fields:
        raise NotDone("lookup_from")
    if "shard_key" in fields:
        raise NotDone("shard_key")


# ------------------------------------------------------------------------------------------------ parts of requests


def read_order_by(value: Any) -> Any:
    """Return an order by a payload field."""
    if isinstance(value, str):
        value = {"key": value}
    fields = Fields(value, "order_by")
    key, direction = fields.required_text("key"), fields.one_of("direction", _DIRECTIONS)
    start = fields.any("start_from")
    fields.done()
    if start is not None and (isinstance(start, bool) or not isinstance(start, int | float | str)):
        raise malformed("order_by.start_from must be a number or a datetime")
    with engine():
        return q.OrderBy(key, direction, start)


def read_params(value: Any) -> Any:
    """Return search parameters."""
    fields = Fields(value, "params")
    read = q.SearchParams(
        hnsw_ef=fields.whole("hnsw_ef"),
        exact=fields.flag("exact") or False,
        indexed_only=fields.flag("indexed_only") or False,
        idf=fields.read("idf", _idf),
    )
    fields.ignore("quantization", "acorn")  # ways to be faster that an exact search has no use for
    fields.done()
    return read


def _idf(value: Any) -> Any:
    if value == "global":
        return q.IdfParams()
    fields = Fields(value, "idf")
    corpus = read_filter(fields.required("corpus"))
    fields.done()
    return q.IdfParams(corpus=corpus)


def read_with_payload(fields: Fields, *, default: bool) -> Any:
    """Return which part of the payload is wanted."""
    value = fields.any("with_payload")
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        value = {"include": value}
    selector = Fields(value, "with_payload")
    include, exclude = selector.words("include"), selector.words("exclude")
    selector.done()
    with engine():
        if include is not None and exclude is None:
            return q.PayloadSelector.Include(include)
        if exclude is not None and include is None:
            return q.PayloadSelector.Exclude(exclude)
    raise malformed("with_payload must be true, false, a list of fields, or an object with include or exclude")


def read_with_vector(fields: Fields) -> Any:
    """Return which vectors are wanted."""
    value, other = fields.any("with_vector"), fields.any("with_vectors")
    value = other if value is None else value
    if value is None:
        return False
    if isinstance(value, bool) or (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        return value
    raise malformed("with_vector must be true, false or a list of names")


# -------------------------------------------------------------------------------------------------------- formulas

_UNARY: Mapping[str, Any] = {
    "neg": q.Expression.Neg,
    "abs": q.Expression.Abs,
    "sqrt": q.Expression.Sqrt,
    "exp": q.Expression.Exp,
    "log10": q.Expression.Log10,
    "ln": q.Expression.Ln,
    "acosh": q.Expression.Acosh,
}
_MANY: Mapping[str, Any] = {
    "mult": q.Expression.Mult,
    "sum": q.Expression.Sum,
    "max": q.Expression.Max,
    "min": q.Expression.Min,
}
_DECAYS = {"lin_decay": q.DecayKind.Lin, "exp_decay": q.DecayKind.Exp, "gauss_decay": q.DecayKind.Gauss}


def _expression(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str | dict):
        raise malformed("an expression must be a number, a variable or an object")
    if isinstance(value, int | float):
        return q.Expression.Constant(float(value))
    if isinstance(value, str):
        return q.Expression.Variable(value)
    if len(value) != 1:
        return q.Expression.Condition(read_condition(value))
    [(name, inner)] = value.items()
    if name in _UNARY:
        return _UNARY[name](_expression(inner))
    if name in _MANY:
        if not isinstance(inner, list):
            raise malformed(f"{name} must be a list of expressions")
        return _MANY[name]([_expression(item) for item in inner])
    if name in _DECAYS:
        return _decay(_DECAYS[name], inner)
    if name in _SPECIAL:
        return _SPECIAL[name](inner)
    return q.Expression.Condition(read_condition(value))


def _decay(kind: Any, value: Any) -> Any:
    fields = Fields(value, "decay")
    x, target = _expression(fields.required("x")), fields.read("target", _expression)
    read = q.Expression.Decay(kind, x, target, fields.number("midpoint"), fields.number("scale"))
    fields.done()
    return read


def _division(value: Any) -> Any:
    fields = Fields(value, "div")
    left, right = _expression(fields.required("left")), _expression(fields.required("right"))
    read = q.Expression.Div(left, right, fields.number("by_zero_default"))
    fields.done()
    return read


def _power(value: Any) -> Any:
    fields = Fields(value, "pow")
    read = q.Expression.Pow(_expression(fields.required("base")), _expression(fields.required("exponent")))
    fields.done()
    return read


def _geo_distance(value: Any) -> Any:
    fields = Fields(value, "geo_distance")
    read = q.Expression.GeoDistance(read_geo_point(fields.required("origin")), fields.required_text("to"))
    fields.done()
    return read


_SPECIAL: Mapping[str, Callable[[Any], Any]] = {
    "div": _division,
    "pow": _power,
    "geo_distance": _geo_distance,
    "datetime": lambda value: q.Expression.Datetime(value),
    "datetime_key": lambda value: q.Expression.DatetimeKey(value),
}
