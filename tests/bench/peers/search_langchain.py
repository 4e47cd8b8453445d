"""LangChain's default Qdrant pipeline on a folder, then questions: its answers as JSON lines.

    python search_langchain.py FOLDER EMBEDDINGS_URL QDRANT_URL QUESTIONS ANSWERS K

`TextLoader`, `RecursiveCharacterTextSplitter()` as it is (4,000 characters, 200 shared), `OpenAIEmbeddings`,
`QdrantVectorStore`, similarity search.  A stock client cannot say which texts are questions; here passages and
questions go to the model under the names that give each its prefix, which is more than the pipeline does by itself.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from langchain_community.document_loaders import DirectoryLoader, TextLoader
from langchain_openai import OpenAIEmbeddings
from langchain_qdrant import QdrantVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, VectorParams

MODEL = "multilingual-e5-small-q4"
folder, embeddings_url, qdrant_url, questions, answers, k = sys.argv[1:]


def embeddings(kind: str) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model=f"{MODEL}-{kind}",
        base_url=embeddings_url,
        api_key="none",
        check_embedding_ctx_length=False,  # would download a tokenizer
        chunk_size=32,
        timeout=3600,
    )


loader = DirectoryLoader(
    folder, glob="**/*.*", loader_cls=TextLoader, loader_kwargs={"encoding": "utf-8"}, sample_size=0
)
chunks = RecursiveCharacterTextSplitter().split_documents(loader.load())
client = QdrantClient(url=qdrant_url, check_compatibility=False, timeout=600)
client.create_collection("langchain", vectors_config=VectorParams(size=384, distance=Distance.COSINE))
passages, queries = embeddings("passage"), embeddings("query")
store = QdrantVectorStore(client=client, collection_name="langchain", embedding=passages)
started = time.monotonic()
store.add_documents(chunks)
print(f"{len(chunks)} chunks, {time.monotonic() - started:.0f} s", file=sys.stderr)
asked = [json.loads(line) for line in Path(questions).read_text(encoding="utf-8").splitlines()]
vectors = queries.embed_documents([one["text"] for one in asked])
with Path(answers).open("w", encoding="utf-8") as out:
    for one, vector in zip(asked, vectors, strict=True):
        found = store.similarity_search_by_vector(vector, k=int(k))
        hits = [{"document": Path(hit.metadata["source"]).stem, "content": hit.page_content} for hit in found]
        out.write(json.dumps({"key": one["key"], "hits": hits}) + "\n")
