"""CocoIndex: an app that mounts every file, splits it and declares its points; one update per run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["COCOINDEX_DISABLE_USAGE_TRACKING"] = "1"

import cocoindex as coco
import numpy as np
import openai
from cocoindex.connectors import localfs, qdrant
from cocoindex.ops.text import RecursiveSplitter
from cocoindex.resources.file import PatternFilePathMatcher
from cocoindex.resources.id import UuidGenerator
from cocoindex.resources.schema import VectorSchema
from qdrant_client.models import PointStruct

folder, embeddings_url, qdrant_url, state = sys.argv[1:]
Path(state).with_name("imported").touch()
Path(state).mkdir(parents=True, exist_ok=True)
STORE = coco.ContextKey("store")
client = openai.AsyncOpenAI(base_url=embeddings_url, api_key="none")
splitter = RecursiveSplitter()


@coco.lifespan
def lifespan(builder):
    builder.settings.db_path = Path(state) / "cocoindex.db"
    builder.provide(STORE, qdrant.create_client(qdrant_url, prefer_grpc=False, check_compatibility=False))
    yield


@coco.fn.as_async(batching=True, memo=True, max_batch_size=100)
async def embed(texts: list[str]) -> list[list[float]]:
    answer = await client.embeddings.create(model="bench", input=texts)
    return [item.embedding for item in answer.data]


@coco.fn
async def declare(chunk, path: str, ids: UuidGenerator, target) -> None:
    vector = await embed(chunk.text)
    payload = {"path": path, "text": chunk.text}
    target.declare_point(PointStruct(id=str(ids.next_uuid(chunk.text)), vector=vector, payload=payload))


@coco.fn(memo=True)
async def document(file, target) -> None:
    text = await file.read_text()
    chunks = splitter.split(text, chunk_size=1000, chunk_overlap=200, language="markdown")
    await coco.map(declare, chunks, str(file.file_path.path), UuidGenerator(), target)


@coco.fn
async def main() -> None:
    vector = qdrant.QdrantVectorDef(schema=VectorSchema(dtype=np.dtype(np.float32), size=384))
    target = await qdrant.mount_collection_target(STORE, "docs", await qdrant.CollectionSchema.create(vector))
    only = PatternFilePathMatcher(included_patterns=["**/*.md"])
    files = localfs.walk_dir(Path(folder), recursive=True, path_matcher=only)
    await coco.mount_each(document, files.items(), target)


coco.App("docs", main).update_blocking()
