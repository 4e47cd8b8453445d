"""What answering needs, in memory: chunks found by shared words, embedding endpoints that are there or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.adapters.bm25 import query_vector
from workers.adapters.chat import ChatClient
from workers.errors import EmbedderUnavailable
from workers.query.answer import Answering
from workers.query.filters import EVERYTHING, Exists, matches
from workers.query.listening import Writer
from workers.query.relevance import UNRELATED
from workers.query.requests import AnswerRequest
from workers.query.settings import ChatSettings
from workers.query.values import Background, Found


def found(number: int, content: str, **metadata: Any) -> Found:
    payload = {
        "content": content,
        "metadata": {"source": "docs", "path": f"{number}.md", "page": 3, "title": "T", **metadata},
        "doc_id": f"d{number}",
        "version": "v1",
        "indexed_at": "2026-01-01T00:00:00Z",
    }
    return Found(f"p{number}", 1.0 / (number + 1), payload)


class Index:
    """Chunks in memory, found by shared words."""

    def __init__(self, *contents: str, vectors: bool = True) -> None:
        self.chunks = [found(number, content) for number, content in enumerate(contents)]
        self.vectors = vectors
        self.asked: list[tuple[bool, bool]] = []
        self.deleted: set[str] = set()

    def find(self, words, meaning, *, limit, filters=EVERYTHING, explain=False, vectors=False, unrelated=None):
        self.asked.append((words is not None, meaning is not None))
        wanted = set(words.indices) if words is not None else set()
        shared = [(len(wanted & set(query_vector(c.content).indices)), c) for c in self.chunks]
        shared = [(n, c) for n, c in shared if matches(filters, c.payload)]
        return [c for n, c in sorted(shared, key=lambda pair: (-pair[0], pair[1].id)) if n or meaning is not None][
            :limit
        ]

    def facts(self, words, *, limit, filters=EVERYTHING, fields=()):
        return self.find(words, None, limit=limit, filters=filters)

    def rarity(self, tokens):
        held = {token for c in self.chunks for token in query_vector(c.content).indices}
        return {token: 2.0 for token in tokens if token in held} | {token: 5.0 for token in tokens if token not in held}

    def has_vectors(self):
        return self.vectors

    def languages(self):
        return ("english",)

    def unknown(self, fields):
        return {
            field: None for field in sorted(fields) if not any(matches(Exists(field), c.payload) for c in self.chunks)
        }

    def fields(self):
        return sorted({field for chunk in self.chunks for field in chunk.metadata})

    def chunks_of(self, document, *, limit):
        return [c for c in self.chunks if c.doc_id == document][:limit]

    def neighbours(self, found, reach):
        return {}

    def background(self):
        return Background(len(self.chunks), np.zeros((0, 2), dtype=np.float32))

    def present(self, ids):
        return frozenset(ids) - self.deleted


class Away:
    """An embedding endpoint that is not there."""

    def query(self, text):
        raise EmbedderUnavailable("No answer from the embedding endpoint (UPWELL_EMBEDDINGS_URL).")

    passages = queries = query

    def unrelated(self):
        return None


class Near:
    """Every text has the same vector."""

    def query(self, text):
        return np.array([1.0, 0.0], dtype=np.float32)

    def passages(self, texts):
        return [self.query(text) for text in texts]

    def landmarks(self):
        return self.passages(UNRELATED)

    queries = passages

    def unrelated(self):
        return 0.5


def answering(index, chat=None, embedder=None, catalogue=None, **more: Any) -> Answering:
    """Return an answerer; ``chat`` is a model, or the URL of one."""
    if isinstance(chat, str):
        chat = ChatClient(ChatSettings(chat_url=chat, chat_timeout=20))
    wanted = {"context_tokens": 6000, "answer_tokens": 1500, "threshold": 0.5} | more
    writer = Writer(chat, wanted.pop("patience", 20.0)) if chat is not None else None
    return Answering(index=index, embedder=embedder or Away(), writer=writer, catalogue=catalogue, **wanted)


def ask(index, chat=None, query="What is the boiler code?", messages=(), emit=None, cancelled=None, **more: Any):
    request = AnswerRequest(query=query, messages=list(messages))
    hooks = {name: hook for name, hook in (("emit", emit), ("cancelled", cancelled)) if hook is not None}
    return answering(index, chat, **more).answer(request, **hooks)
