"""LangChain: `index()` with a SQL record manager, its own splitter, OpenAI embeddings and Qdrant store."""

from __future__ import annotations

import sys
from pathlib import Path

from langchain_classic.indexes import SQLRecordManager, index
from langchain_core.documents import Document
from langchain_openai import OpenAIEmbeddings
from langchain_qdrant import QdrantVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, VectorParams

folder, embeddings_url, qdrant_url, state = sys.argv[1:]
Path(state).with_name("imported").touch()
Path(state).mkdir(parents=True, exist_ok=True)
client = QdrantClient(url=qdrant_url, check_compatibility=False)
if not client.collection_exists("docs"):
    client.create_collection("docs", vectors_config=VectorParams(size=384, distance=Distance.COSINE))
embeddings = OpenAIEmbeddings(
    model="bench",
    base_url=embeddings_url,
    api_key="none",
    check_embedding_ctx_length=False,  # would download a tokenizer
)
store = QdrantVectorStore(client=client, collection_name="docs", embedding=embeddings)
records = SQLRecordManager("qdrant/docs", db_url=f"sqlite:///{state}/records.db")
records.create_schema()
splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200)
documents = [
    Document(path.read_text(), metadata={"source": str(path.relative_to(folder))})
    for path in sorted(Path(folder).rglob("*.md"))
]
done = index(
    splitter.split_documents(documents),
    records,
    store,
    cleanup="full",
    source_id_key="source",
    batch_size=100,
    key_encoder="sha1",  # its keys are UUIDs, which Qdrant takes as ids
)
print(done)
