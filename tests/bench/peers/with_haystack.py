"""Haystack: converter, cleaner, splitter, OpenAI embedder and Qdrant writer in one pipeline.

It keeps no record of what is indexed: every run does all of it again, and the writer overwrites by content id.
"""

from __future__ import annotations

import sys
from pathlib import Path

from haystack import Pipeline
from haystack.components.converters import TextFileToDocument
from haystack.components.embedders import OpenAIDocumentEmbedder
from haystack.components.preprocessors import DocumentCleaner, DocumentSplitter
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

folder, embeddings_url, qdrant_url, state = sys.argv[1:]
Path(state).with_name("imported").touch()
store = QdrantDocumentStore(url=qdrant_url, index="docs", embedding_dim=384)
pipeline = Pipeline()
pipeline.add_component("convert", TextFileToDocument())
pipeline.add_component("clean", DocumentCleaner())
pipeline.add_component("split", DocumentSplitter(split_by="word", split_length=150, split_overlap=0))
pipeline.add_component(
    "embed",
    OpenAIDocumentEmbedder(
        api_key=Secret.from_token("none"),
        model="bench",
        api_base_url=embeddings_url,
        batch_size=100,
        progress_bar=False,
    ),
)
pipeline.add_component("write", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
for first, second in (("convert", "clean"), ("clean", "split"), ("split", "embed"), ("embed", "write")):
    pipeline.connect(first, second)
print(pipeline.run({"convert": {"sources": sorted(Path(folder).rglob("*.md"))}}))
