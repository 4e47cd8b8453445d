"""LlamaIndex's default Qdrant pipeline on a folder, then questions: its answers as JSON lines.

    python search_llamaindex.py FOLDER EMBEDDINGS_URL QDRANT_URL QUESTIONS ANSWERS K

`SimpleDirectoryReader`, `SentenceSplitter()` as it is (1,024 tokens, 200 shared), `OpenAIEmbedding`,
`QdrantVectorStore`, `VectorStoreIndex.as_retriever`.  It embeds the path of a file together with each chunk, so FOLDER
should be short.  Passages and questions go to the model under the names that give each its prefix.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from llama_index.core import SimpleDirectoryReader, StorageContext, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

MODEL = "multilingual-e5-small-q4"
folder, embeddings_url, qdrant_url, questions, answers, k = sys.argv[1:]


def embedding(kind: str) -> OpenAIEmbedding:
    return OpenAIEmbedding(
        model_name=f"{MODEL}-{kind}", api_base=embeddings_url, api_key="none", embed_batch_size=32, timeout=3600
    )


client = QdrantClient(url=qdrant_url, check_compatibility=False, timeout=600)
store = QdrantVectorStore(collection_name="llamaindex", client=client)
documents = SimpleDirectoryReader(folder, recursive=True).load_data()
nodes = SentenceSplitter().get_nodes_from_documents(documents)
started = time.monotonic()
context = StorageContext.from_defaults(vector_store=store)
VectorStoreIndex(nodes, storage_context=context, embed_model=embedding("passage"))
print(f"{len(nodes)} chunks, {time.monotonic() - started:.0f} s", file=sys.stderr)
index = VectorStoreIndex.from_vector_store(store, embed_model=embedding("query"))
retriever = index.as_retriever(similarity_top_k=int(k))
with Path(answers).open("w", encoding="utf-8") as out:
    for line in Path(questions).read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        found = retriever.retrieve(one["text"])
        hits = [
            {"document": Path(hit.node.metadata["file_name"]).stem, "content": hit.node.get_content()} for hit in found
        ]
        out.write(json.dumps({"key": one["key"], "hits": hits}) + "\n")
