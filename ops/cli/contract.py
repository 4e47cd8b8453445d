"""`upwell contract check`: can somebody who reads Qdrant directly see our text and vectors, and with which settings?"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import typer

from ops.cli.errors import CliError, UsageError
from ops.cli.findings import Finding
from ops.cli.output import JSON_OPTION, print_json

app = typer.Typer(help="The layout that services read directly from Qdrant.", no_args_is_help=True)

SAMPLE = 64
KEYS = ("content", "metadata", "doc_id", "version", "chunk_index", "digest", "tenant", "embedded")
NOT_OURS = ("blob", "node_info", "relationships")
"""Top-level keys that would make LlamaIndex or LangChain read a point in another way."""

INDEXED = ("doc_id", "tenant", "metadata.path", "metadata.source")


class Reader:
    """Reads Qdrant's REST API as a stranger would."""

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError("The URL must look like http://127.0.0.1:6333.")
        self.url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        self._parts = parts
        self._headers = {"Content-Type": "application/json"} | ({"api-key": key} if key else {})

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the result of one request; None: there is no such thing (404).

        Raises:
            CliError: no answer, or a refusal.
        """
        https = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=15)
        try:
            method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
            connection.request(method, self._parts.path.rstrip("/") + path, data, self._headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 404:
                return None
            if answer.status in (401, 403):
                raise CliError(f"Qdrant at {self.url} refuses the key. Set UPWELL_QDRANT_API_KEY.")
            if answer.status >= 400:
                raise CliError(f"Qdrant at {self.url} answers {answer.status} to {path}.")
            return json.loads(content)["result"]
        except (OSError, http.client.HTTPException) as exc:
            why = getattr(exc, "strerror", None) or type(exc).__name__
            raise CliError(f"No answer from Qdrant at {self.url}: {why}. Is it running? (UPWELL_QDRANT_URL)") from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise CliError(f"What answers at {self.url} is not Qdrant.") from exc
        finally:
            connection.close()


@app.command("check")
def check(
    url: str | None = typer.Argument(
        None, metavar="[URL]", help="Base URL of Qdrant; else that of the running Upwell.", show_default=False
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Check that readers can see text and vectors, and print the settings of the well-known ones.

    Environment: UPWELL_QDRANT_URL, UPWELL_QDRANT_API_KEY, UPWELL_COLLECTION.
    """
    from workers.contract.settings import IndexSettings

    settings = IndexSettings()
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    reader = Reader(url or _address(settings.qdrant_url, given="qdrant_url" in settings.model_fields_set), key)
    checks, physical, size = examine(reader, settings.collection)
    readers = settings_for(reader.url, settings.collection, physical, size) if size else {}
    if as_json:
        print_json({"url": reader.url, "checks": [asdict(each) for each in checks], "readers": readers})
    else:
        for each in checks:
            each.show()
        for name, text in readers.items():
            print(f"\n{name}\n" + "\n".join(f"  {line}" for line in text.splitlines()))
    if any(each.verdict == "fail" for each in checks):
        raise typer.Exit(1)


def examine(reader: Reader, collection: str) -> tuple[list[Finding], str, int | None]:
    """Return what was checked, the physical collection, and the dimensions of the dense vector."""
    info = reader.ask(f"/collections/{quote(collection)}")
    if info is None:
        remedy = "Start an index worker, which makes it, or correct UPWELL_COLLECTION."
        return (
            [Finding("collection", "fail", f"there is no collection or alias {collection!r}", remedy)],
            collection,
            None,
        )
    aliases = (reader.ask("/aliases") or {}).get("aliases", [])
    physical = next((a["collection_name"] for a in aliases if a["alias_name"] == collection), collection)
    told = f"alias of {physical}" if physical != collection else "a collection of its own, no alias"
    checks = [Finding("collection", "ok" if physical != collection else "warn", f"{collection}: {told}")]
    params = info["config"]["params"]
    dense, size = _dense(params.get("vectors") or {})
    checks += [dense, _sparse(params.get("sparse_vectors") or {}), _indexes(info.get("payload_schema") or {})]
    scroll = {"limit": SAMPLE, "with_payload": True, "with_vector": True}
    points = (reader.ask(f"/collections/{quote(collection)}/points/scroll", scroll) or {}).get("points", [])
    if not points:
        return [*checks, Finding("points", "warn", "none yet", "Add a document and check again.")], physical, size
    checks += [_payload(points), _strangers(points), _vectors(points)]
    return checks, physical, size


def _dense(vectors: Mapping[str, Any]) -> tuple[Finding, int | None]:
    if "size" not in vectors:
        remedy = "Readers that cannot choose a vector need it unnamed. Was the collection made by another program?"
        return Finding("dense vector", "fail", f"named {sorted(vectors)}", remedy), None
    size, distance = int(vectors["size"]), str(vectors.get("distance"))
    verdict: Literal["ok", "fail"] = "ok" if distance == "Cosine" else "fail"
    return Finding("dense vector", verdict, f"unnamed, {size} dimensions, {distance}"), size


def _sparse(vectors: Mapping[str, Any]) -> Finding:
    bm25 = vectors.get("bm25")
    if bm25 is None:
        return Finding("sparse vector", "fail", "there is no bm25", "Hybrid search needs it; index again.")
    if str(bm25.get("modifier")).lower() != "idf":
        return Finding("sparse vector", "fail", "bm25 without the idf modifier", "Index again.")
    return Finding("sparse vector", "ok", "bm25, idf; token ids as qdrant/bm25")


def _indexes(schema: Mapping[str, Any]) -> Finding:
    missing = [name for name in INDEXED if name not in schema]
    if missing:
        return Finding("payload indexes", "warn", f"none on {', '.join(missing)}", "Filters on them read every point.")
    return Finding("payload indexes", "ok", ", ".join(INDEXED))


def _payload(points: list[dict[str, Any]]) -> Finding:
    for point in points:
        payload = point.get("payload") or {}
        if missing := [key for key in KEYS if key not in payload]:
            return Finding("payload", "fail", f"a point lacks {', '.join(missing)}", "Find it: upwell verify")
        if not isinstance(payload["content"], str) or not isinstance(payload["metadata"], dict):
            return Finding("payload", "fail", "content is no text, or metadata no object", "Find it: upwell verify")
    return Finding("payload", "ok", f"content and metadata of {len(points)} points")


def _strangers(points: list[dict[str, Any]]) -> Finding:
    found = sorted({key for point in points for key in point.get("payload") or {} if key in NOT_OURS})
    if found:
        return Finding(
            "other keys", "fail", f"{', '.join(found)} at the top level", "Readers would take them for theirs."
        )
    return Finding("other keys", "ok", "none that a reader would take for its own")


def _vectors(points: list[dict[str, Any]]) -> Finding:
    whole = sum(isinstance(v := point.get("vector"), list) or (isinstance(v, dict) and "" in v) for point in points)
    if whole == len(points):
        return Finding("vectors", "ok", f"dense and bm25 on all {len(points)} points looked at")
    return Finding("vectors", "warn", f"{len(points) - whole} of {len(points)} points wait for their dense vector")


def settings_for(url: str, collection: str, physical: str, size: int) -> dict[str, str]:
    """Return, for each reader, what it must be told."""
    model = f"# embedding: the model that Upwell uses, {size} dimensions; for example through Upwell's /v1/embeddings"
    return {
        "LangChain (langchain-qdrant)": f"""{model}
QdrantVectorStore.from_existing_collection(
    embedding=embedding, collection_name="{collection}", url="{url}",
    content_payload_key="content", metadata_payload_key="metadata",
    # hybrid: retrieval_mode=RetrievalMode.HYBRID, sparse_embedding=..., sparse_vector_name="bm25",
)""",
        "LlamaIndex (llama-index-vector-stores-qdrant)": f"""{model}
QdrantVectorStore(
    collection_name="{collection}", client=QdrantClient(url="{url}"), text_key="content", dense_vector_name="",
    # hybrid: enable_hybrid=True, sparse_vector_name="bm25", sparse_doc_fn=..., sparse_query_fn=...,
)""",
        "Haystack (qdrant-haystack)": f"""{model}
QdrantDocumentStore(
    url="{url}", index="{collection}", embedding_dim={size}, recreate_index=False,
)  # reads content; its use_sparse_embeddings wants vectors of other names""",
        "LangChain.js (@langchain/qdrant)": f"""{model}
QdrantVectorStore.fromExistingCollection(embeddings, {{
  url: "{url}", collectionName: "{physical}", contentPayloadKey: "content", metadataPayloadKey: "metadata",
}})  // it lists collections, so it needs the physical one and not the alias""",
        "n8n (Qdrant Vector Store)": f"collection {physical}\ncontent key: content\nmetadata key: metadata",
        "qdrant-client": f"""client.query_points("{collection}", query=vector, limit=10, with_payload=True)
client.query_points("{collection}", query=SparseVector(...), using="bm25", limit=10)""",
    }


def _address(default: str, *, given: bool) -> str:
    """Return the setting, else what the running Upwell says, else the usual address."""
    if given:
        return default
    from ops.cli.client import find_api

    try:
        return str(find_api().get("/v1/status")["addresses"]["qdrant"])
    except (CliError, KeyError, TypeError):
        return default
