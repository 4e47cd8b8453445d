"""Turns an answer into OpenAI's chat completion, whole or as a stream.  Pure.

Citations go three ways, because clients read different ones: as [n] in the text, as ``annotations`` of the message, and
as a list of sources in Markdown at its end.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from workers.adapters.tokens import estimate_tokens


class Completion:
    """One completion; `event` takes an answer's events in their order."""

    def __init__(self, model: str, base_url: str) -> None:
        self._model = model
        self._base_url = base_url
        self._id = f"chatcmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._given = ""
        self._since_restart = ""
        self._usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

    def whole(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer as one completion; ``upwell`` has it as our own api tells it."""
        text = answer["answer"]
        content = text + self._sources(answer)
        self._count(answer, content)
        message = {
            "role": "assistant",
            "content": content,
            "refusal": None,
            "annotations": self._annotations(answer, text),
        }
        return self._named("chat.completion") | {
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": self._usage,
            "upwell": {key: value for key, value in answer.items() if key != "hits"},
        }

    def event(self, event: str, data: Mapping[str, Any]) -> Iterator[str]:
        """Yield what goes out for one event of an answer, as server-sent events."""
        match event:
            case "hits":
                yield self._chunk({"role": "assistant", "content": ""})
            case "delta":
                yield self._more(str(data["text"]))
            case "restart":  # what went out cannot be taken back, so it is said
                if self._given:
                    yield self._more(f"\n\n*{data['reason']}*\n\n")
                self._since_restart = ""
            case "done":
                yield from self._end(data)
            case "error":
                yield self._more(f"\n\n*{data.get('message', 'The answer failed.')}*")
                yield self._chunk({}, finish="stop")

    def usage(self) -> str:
        """Return the last chunk of a stream that asked for it."""
        return _sse(self._named("chat.completion.chunk") | {"choices": [], "usage": self._usage})

    def _end(self, answer: Mapping[str, Any]) -> Iterator[str]:
        if self._since_restart.strip() != answer["answer"]:
            yield self._more(f"\n\n*After a last look:* {answer['answer']}")
        offset = self._given.rfind(answer["answer"])
        if sources := self._sources(answer):
            yield self._more(sources)
        self._count(answer, self._given)
        notes = self._annotations(answer, answer["answer"], offset=max(0, offset))
        yield self._chunk({"annotations": notes} if notes else {}, finish="stop")

    def _more(self, text: str) -> str:
        self._given += text
        self._since_restart += text
        return self._chunk({"content": text})

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _sse(self._named("chat.completion.chunk") | {"choices": [choice]})

    def _named(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _count(self, answer: Mapping[str, Any], content: str) -> None:
        """Estimate: the model behind us, if any, counts otherwise, and clients divide by it."""
        prompt = sum(estimate_tokens(hit["content"]) for hit in answer.get("hits") or [])
        made = estimate_tokens(content)
        self._usage = {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}

    def _annotations(self, answer: Mapping[str, Any], text: str, *, offset: int = 0) -> list[dict[str, Any]]:
        """Return one annotation for each place where a citation stands."""
        known = {citation["n"]: citation for citation in answer["citations"]}
        found = []
        for match in re.finditer(r"\[(\d{1,4})\]", text):
            if (citation := known.get(int(match.group(1)))) is None:
                continue
            place = {
                "start_index": offset + match.start(),
                "end_index": offset + match.end(),
                "url": self._link(citation),
                "title": _title(citation),
                "file_id": citation["doc_id"],
                "filename": citation.get("path"),
                "page": citation.get("page"),
                "quote": citation["quote"],
            }
            found.append({"type": "url_citation", "url_citation": place})
        return found

    def _sources(self, answer: Mapping[str, Any]) -> str:
        if not answer["citations"]:
            return ""
        lines = [self._source(citation) for citation in answer["citations"]]
        return "\n\nSources:\n" + "\n".join(lines)

    def _source(self, citation: Mapping[str, Any]) -> str:
        page = f", page {citation['page']}" if citation.get("page") is not None else ""
        stale = " (changed since; being indexed again)" if citation.get("reindexing") else ""
        title = re.sub(r"([\\`*_\[\]<>])", r"\\\1", _title(citation))
        return f"{citation['n']}. [{title}]({self._link(citation)}){page}{stale}"

    def _link(self, citation: Mapping[str, Any]) -> str:
        own = str(citation.get("url") or "")
        if re.match(r"https?://[^\s()<>]+$", own):
            return own
        return f"{self._base_url}/v1/documents/{quote(str(citation['doc_id']), safe='')}"


def _title(citation: Mapping[str, Any]) -> str:
    return " ".join(str(citation.get("title") or citation.get("path") or citation["doc_id"]).split())


def _sse(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
