"""What must be right before the first document is touched: the servers answer, and the vectors will fit.

A model or dimension mismatch is found here and nowhere later: vectors of two models in one collection cannot be told
apart afterwards.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import numpy as np
import structlog

from workers.adapters import qdrant
from workers.adapters.embeddings import EmbeddingClient
from workers.contract.loopback import is_loopback
from workers.errors import EmbedderUnavailable, IndexUnavailable
from workers.indexing.canary import CANARY, SAME_MODEL, likeness
from workers.indexing.ledger import Ledger
from workers.indexing.ports import Vector
from workers.indexing.recipe import Space, space_fact
from workers.indexing.settings import IndexWorkerSettings

log = structlog.get_logger()
T = TypeVar("T")


class RefusesToStart(Exception):
    """The configuration does not fit what is stored.  The text names both sides and the way out."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the preflight found."""

    space: Space
    collection: str
    canary: Vector | None  # what CANARY was embedded as when the collection was made
    named: bool  # the alias leads to the collection


def preflight(
    settings: IndexWorkerSettings, ledger: Ledger, client: qdrant.Client, embedder: EmbeddingClient
) -> Checked:
    """Check servers, model and collection; create the collection on the very first start, which `furnish` completes.

    Raises:
        RefusesToStart: model, dimensions or collection do not fit.
        Transient: a server did not come up within UPWELL_START_TIMEOUT.
    """
    deadline = time.monotonic() + settings.start_timeout
    _warn_of_open_doors(settings)
    _new_enough(settings, _patiently(lambda: qdrant.server_version(client, settings.qdrant_url), deadline))
    names, aliases = _patiently(lambda: qdrant.physical_collections(client, settings.qdrant_url), deadline)
    current = aliases.get(settings.collection)
    if settings.collection in names:
        raise RefusesToStart(
            f"Qdrant at {settings.qdrant_url} has a collection named {settings.collection!r} that is not ours: Upwell"
            " needs this name for its alias. Choose another with UPWELL_COLLECTION."
        )
    space, canary = _space(settings, ledger, embedder, current, deadline)
    collection = space.collection(settings.collection)
    if current is not None and current != collection:
        raise RefusesToStart(_mismatch(settings, ledger, current, space))
    if canary is not None:
        _same_model(settings, ledger, collection, canary)
    _recall(settings, ledger, client, collection)
    qdrant.found_collection(client, collection, space.dimensions, settings.qdrant_url)
    found = qdrant.dimensions_of(client, collection, settings.qdrant_url)
    if found != space.dimensions:
        raise RefusesToStart(
            f"The collection {collection} holds vectors of {found} dimensions; {space.model} makes {space.dimensions}."
            " Set UPWELL_EMBEDDINGS_MODEL and UPWELL_EMBEDDINGS_DIMENSIONS as they were, or UPWELL_COLLECTION to a new"
            " name: the documents are then indexed again from their files."
        )
    if canary is not None:
        ledger.remember_fact(space_fact(collection), _describe(space, canary))
    return Checked(space, collection, _remembered(ledger, collection), named=current is not None)


def furnish(settings: IndexWorkerSettings, client: qdrant.Client, checked: Checked) -> None:
    """Give the collection its payload indexes, and then its name: to be done before the first point is written.

    Apart from `preflight` because files can be parsed meanwhile: new indexes take the disk a second and more.
    A crash in between is of no consequence: whoever starts next does it all again before its own first point.

    Raises:
        Transient, Permanent: Qdrant is away, or refuses.
    """
    qdrant.index_payloads(client, checked.collection, settings.qdrant_url)
    if not checked.named:
        qdrant.point_alias(client, settings.collection, checked.collection, settings.qdrant_url)


def _recall(settings: IndexWorkerSettings, ledger: Ledger, client: qdrant.Client, collection: str) -> None:
    """Have indexed again whatever a missing collection should hold; before it is made, so that a crash repeats it.

    Other workers may be starting at this moment, and be at work in a collection that they have just made.  The fact of
    its space is written after it is made; so the fact is asked for first, and only a collection that had one is lost.
    """
    known = ledger.fact(space_fact(collection)) is not None
    names, _ = qdrant.physical_collections(client, settings.qdrant_url)
    if collection in names:
        return
    if again := ledger.dirty_all(collection) if known else ledger.dirty_elsewhere(collection):
        reason = "the collection is not there any more" if known else "they are in another collection"
        log.warning("index.rebuilding", documents=again, reason=reason)


def _warn_of_open_doors(settings: IndexWorkerSettings) -> None:
    """Vectors give away the text that they were made of, so a Qdrant that anybody reads is every document told."""
    qdrant_url = urlsplit(settings.qdrant_url)
    if settings.qdrant_api_key is None and qdrant_url.hostname and not is_loopback(qdrant_url.hostname):
        log.warning(
            "qdrant.without_key",
            reason="Whoever reaches this Qdrant can read and change every document's text.",
            next="Set QDRANT__SERVICE__API_KEY there and UPWELL_QDRANT_API_KEY here.",
        )
    endpoint = urlsplit(settings.embeddings_url)
    keyed = settings.embeddings_api_key is not None and settings.embeddings_api_key.get_secret_value()
    if keyed and endpoint.scheme == "http" and endpoint.hostname and not is_loopback(endpoint.hostname):
        log.warning(
            "embeddings.in_the_clear",
            reason="Key and texts travel to another machine without encryption.",
            next="Use https:// in UPWELL_EMBEDDINGS_URL.",
        )


def _new_enough(settings: IndexWorkerSettings, version: tuple[int, int]) -> None:
    if version < qdrant.OLDEST_SERVER:
        oldest = ".".join(map(str, qdrant.OLDEST_SERVER))
        raise RefusesToStart(
            f"Qdrant at {settings.qdrant_url} is of version {version[0]}.{version[1]}; Upwell needs {oldest} or newer,"
            " because an older one cannot tell a late write from a new one. Install a newer one, or name another in"
            " UPWELL_QDRANT_URL."
        )


def _space(
    settings: IndexWorkerSettings, ledger: Ledger, embedder: EmbeddingClient, current: str | None, deadline: float
) -> tuple[Space, Vector | None]:
    """Ask the endpoint for its dimensions; when it is away, what the ledger remembers will do."""
    known = ledger.fact(space_fact(current)) if current else None
    if known is not None and json.loads(known)["model"] == settings.embeddings_model:
        deadline = min(deadline, time.monotonic() + 3.0)
    try:
        vector = _patiently(lambda: embedder.embed([CANARY], kind="passage").vectors[0], deadline)
    except EmbedderUnavailable:
        if known is None or json.loads(known)["model"] != settings.embeddings_model:
            raise
        log.warning("embedding.away_at_start", url=settings.embeddings_url)
        return Space(settings.embeddings_model, int(json.loads(known)["dimensions"])), None
    return Space(settings.embeddings_model, len(vector)), vector


def _mismatch(settings: IndexWorkerSettings, ledger: Ledger, current: str, space: Space) -> str:
    known = ledger.fact(space_fact(current))
    before = "another model or dimension"
    if known is not None:
        facts = json.loads(known)
        if (facts["model"], facts["dimensions"]) == (space.model, space.dimensions):
            return (
                f"The collection {settings.collection} was filled by a version of Upwell that tells words otherwise, so"
                " its BM25 vectors do not fit this one's searches. Set UPWELL_COLLECTION to a new name, here and for"
                " the query worker: the documents are indexed again from their files, and what the embedding cache"
                " remembers is not embedded again. Or go back to that version."
            )
        before = f"{facts['model']} ({facts['dimensions']} dimensions)"
    return (
        f"The collection {settings.collection} was filled by {before}; the settings now say {space.model}"
        f" ({space.dimensions} dimensions). Vectors of two models cannot be compared. Either set"
        " UPWELL_EMBEDDINGS_MODEL and UPWELL_EMBEDDINGS_URL back, or set UPWELL_COLLECTION to a new name and start"
        " with a new --data-dir (or UPWELL_LEDGER_URL): the documents are then indexed again from their files."
    )


def _same_model(settings: IndexWorkerSettings, ledger: Ledger, collection: str, canary: Vector) -> None:
    """A model swapped behind the same name shows in the vector of a fixed sentence."""
    before = _remembered(ledger, collection)
    if before is None:
        return
    cosine = likeness(before, canary)
    if cosine < SAME_MODEL:
        raise RefusesToStart(
            f"{settings.embeddings_url} still calls its model {settings.embeddings_model}, but it is another one: the"
            f" same sentence now gets another vector (cosine {cosine:.3f}). Set UPWELL_EMBEDDINGS_URL back, or"
            " UPWELL_COLLECTION to a new name."
        )


def _remembered(ledger: Ledger, collection: str) -> Vector | None:
    known = ledger.fact(space_fact(collection))
    return None if known is None else np.frombuffer(base64.b64decode(json.loads(known)["canary"]), dtype="<f4")


def _patiently(ask: Callable[[], T], deadline: float) -> T:
    """Ask until there is an answer, saying what is missing, or until the time is up."""
    said = False
    while True:
        try:
            return ask()
        except (IndexUnavailable, EmbedderUnavailable) as exc:
            if time.monotonic() >= deadline:
                raise
            if not said:
                log.info("start.waiting", reason=str(exc))
                said = True
            time.sleep(0.1)


def _describe(space: Space, canary: Vector) -> str:
    encoded = base64.b64encode(canary.astype("<f4").tobytes()).decode()
    return json.dumps({"model": space.model, "dimensions": space.dimensions, "canary": encoded})
