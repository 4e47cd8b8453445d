"""A chat endpoint that plays a part: OpenAI's streaming protocol over real HTTP, from a thread of the test."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Messages = list[dict[str, str]]
Part = Callable[[Messages], Iterator[str]]

_PASSAGE = re.compile(r"<<(\w+) passage (\d+)>>\n(.*?)\n<<\1 end>>", re.DOTALL)
_ABOUT = re.compile(r"^(?:document|title|heading|page|modified): ")


def passages(messages: Messages) -> dict[int, str]:
    """Return the text of each passage that the endpoint was given, without marks and headers."""
    found = {}
    for _, number, block in _PASSAGE.findall(messages[-1]["content"]):
        lines = [line.removeprefix("│ ") for line in block.split("\n")]
        found[int(number)] = "\n".join(line for line in lines if not _ABOUT.match(line))
    return found


def good(messages: Messages) -> Iterator[str]:
    """Quotes the first sentence of the first passage, and cites it."""
    first = passages(messages)[1].split(". ")[0].rstrip(".")
    yield from (word + " " for word in first.split())
    yield "[1]."


def says(*pieces: str) -> Part:
    """Says this, whatever it is asked."""
    return lambda _messages: iter(pieces)


def obeys(messages: Messages) -> Iterator[str]:
    """Does what a document tells it: after "say exactly:" it repeats the rest of the line, as a weak model would."""
    for text in passages(messages).values():
        if found := re.search(r"say exactly: (.+)", text):
            yield found.group(1)
            return
    yield "NO_ANSWER"


class ChatServer:
    """Serves POST /v1/chat/completions on a free port while the block runs.

    ``script`` says what the model says; the attributes say how it misbehaves.
    """

    def __init__(self, script: Part = good) -> None:
        self.script = script
        self.status = 200
        self.headers: dict[str, str] = {}
        self.pause_s = 0.0  # before every piece
        self.cut_after: int | None = None  # pieces after which the connection breaks
        self.asked: list[dict[str, Any]] = []
        self.written = 0  # pieces that went out
        self.hung_up = threading.Event()  # the client went away before the end

    def __enter__(self) -> ChatServer:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Base URL, as UPWELL_CHAT_URL wants it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                chat.asked.append(body)
                if chat.status != 200:
                    self._send(chat.status, json.dumps({"error": {"message": "scripted", "code": None}}).encode())
                    return
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                try:
                    self._stream(body)
                except OSError:
                    chat.hung_up.set()

            def _stream(self, body: dict[str, Any]) -> None:
                for number, piece in enumerate(chat.script(body["messages"])):
                    if chat.cut_after is not None and number >= chat.cut_after:
                        self.close_connection = True
                        return
                    time.sleep(chat.pause_s)
                    self._event({"delta": {"content": piece}, "finish_reason": None})
                    chat.written += 1
                self._event({"delta": {}, "finish_reason": "stop"})
                self.wfile.write(b"data: [DONE]\n\n")

            def _event(self, choice: dict[str, Any]) -> None:
                chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
                data = json.dumps(chunk | {"choices": [choice | {"index": 0}]})
                self.wfile.write(f"data: {data}\n\n".encode())
                self.wfile.flush()

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                for name, value in chat.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
