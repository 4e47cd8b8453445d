"""LlamaIndex: `IngestionPipeline` with document store, cache, sentence splitter, OpenAI embeddings and Qdrant store."""

from __future__ import annotations

import sys
from pathlib import Path

from llama_index.core import SimpleDirectoryReader
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

folder, embeddings_url, qdrant_url, state = sys.argv[1:]
Path(state).with_name("imported").touch()
client = QdrantClient(url=qdrant_url, check_compatibility=False)
embedding = OpenAIEmbedding(
    model_name="text-embedding-3-small", api_base=embeddings_url, api_key="none", embed_batch_size=100
)
pipeline = IngestionPipeline(
    transformations=[SentenceSplitter(), embedding],
    vector_store=QdrantVectorStore(collection_name="docs", client=client),
    docstore=SimpleDocumentStore(),
    docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
)
if Path(state).exists():
    pipeline.load(state)
documents = SimpleDirectoryReader(folder, recursive=True, filename_as_id=True).load_data()
nodes = pipeline.run(documents=documents)
pipeline.persist(state)
print(len(nodes))
