"""An OpenAI-compatible embedding endpoint for tests and benchmarks: cheap, exact in its counting, and as bad as asked.

In process, in a thread of its own:

    with Endpoint(dimensions=64, latency_s=0.12) as endpoint:
        EmbeddingSettings(embeddings_url=endpoint.url)
        endpoint.behaviour.poison = "marker"
        assert endpoint.counters.repeated == 0

As a process, for stacks and kill loops:

    python -m tests.support.endpoint --port 9000 --set latency_s=0.12 tpm=1000000

`GET /counters` tells what `Counters.told` does, `POST /counters/reset` starts again, and `POST /behaviour` takes any
fields of `Behaviour` as JSON.

A vector is a function of text, model, dimensions and `seed` alone: equal texts get equal vectors, different ones are
almost orthogonal.  It costs a few microseconds, so figures taken beside it are those of the caller.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from email.utils import formatdate
from typing import Any, Literal

import numpy as np
from pydantic_core import from_json

Lie = Literal[
    "fewer",  # one vector is missing
    "more",  # one too many
    "duplicate_index",
    "shuffled",  # the right vectors in another order, with right indices: allowed
    "nan",
    "infinite",
    "zeros",
    "wrong_dimensions",
    "swapped",  # another model answers under the same name
    "truncated",  # long texts are cut in silence; only usage tells
    "html",
    "not_json",
    "cut",  # the connection ends in the middle of the body
    "drip",  # the body comes a byte at a time
    "hang",
    "reset",
]
RetryAfter = Literal["seconds", "date", "ms", "none", "zero", "9999", "nonsense"]


@dataclass(slots=True)
class Failure:
    """What a request gets instead of vectors."""

    status: int = 500
    times: int = 1  # this many requests; -1: every one
    code: str | None = None
    retry_after: RetryAfter = "none"


@dataclass(slots=True)
class Behaviour:
    """How the endpoint behaves; every field may be changed while it runs."""

    dimensions: int = 64
    seed: str = ""
    latency_s: float = 0.0  # of every request
    per_token_s: float = 0.0  # added for each of its tokens
    jitter: float = 0.0  # latency is multiplied by 1 +- this
    tpm: int | None = None  # tokens a minute; a bucket that is full at first, as OpenAI's
    rpm: int | None = None
    retry_after: RetryAfter = "ms"  # how a 429 says when
    rate_headers: bool = True  # x-ratelimit-*
    max_inputs: int = 2048
    max_input_tokens: int = 8192
    max_request_tokens: int = 300_000
    poison: str | None = None  # a request with a text that has this is refused with 400
    failures: list[Failure] = field(default_factory=list)  # used up from the front
    failure_rate: float = 0.0  # this part of the requests gets a 500, at random
    lie: Lie | None = None
    lies: int = -1  # this many answers lie; -1: every one
    drip_s: float = 0.05  # between two bytes

    def change(self, **values: Any) -> None:
        """Set fields by name, as JSON has them; an unknown one is an error."""
        known = {f.name for f in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"there is no behaviour {name!r}; there are {', '.join(sorted(known))}")
            if name == "failures":
                value = [f if isinstance(f, Failure) else Failure(**f) for f in value]
            setattr(self, name, value)


@dataclass(slots=True)
class Counters:
    """What has been asked of the endpoint.  "Paid" is what was answered with 200, whatever became of the answer."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    paid_requests: int = 0
    paid_tokens: int = 0
    paid: Counter[str] = field(default_factory=Counter)  # text -> times
    asked: Counter[str] = field(default_factory=Counter)  # the same, refused requests included
    in_flight: int = 0
    most_in_flight: int = 0
    largest_inputs: int = 0  # most texts in one request
    largest_tokens: int = 0
    batches: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=100_000))
    """(time.monotonic() of arrival, texts, tokens) of every request."""

    @property
    def paid_texts(self) -> int:
        """Texts paid for, repeats included."""
        return sum(self.paid.values())

    @property
    def repeated(self) -> int:
        """Texts paid for more than once: how many times too many."""
        return self.paid_texts - len(self.paid)

    def told(self) -> dict[str, Any]:
        """Return the figures as JSON has them."""
        return {
            "requests": self.requests,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "paid_requests": self.paid_requests,
            "paid_tokens": self.paid_tokens,
            "paid_texts": self.paid_texts,
            "distinct_texts": len(self.paid),
            "repeated_texts": self.repeated,
            "most_in_flight": self.most_in_flight,
            "largest_inputs": self.largest_inputs,
            "largest_tokens": self.largest_tokens,
        }


def count_tokens(text: str) -> int:
    """Return the tokens that this endpoint counts for a text: one for four bytes begun."""
    return (len(text.encode("utf-8", "replace")) + 3) // 4


def vectors(texts: Sequence[str], dimensions: int, seed: str = "") -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a unit vector for each text, (n, dimensions), that depends on nothing but the arguments."""
    salt = f"{seed}\0{dimensions}\0".encode()
    raw = b"".join(hashlib.shake_128(salt + text.encode("utf-8", "surrogatepass")).digest(dimensions) for text in texts)
    rows = np.frombuffer(raw, dtype=np.int8).reshape(len(texts), dimensions).astype(np.float32) + 0.5
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


class _Bucket:
    """A limit per minute that fills continuously; full at first."""

    def __init__(self) -> None:
        self._limit: int | None = None
        self._level = 0.0
        self._at = 0.0

    def take(self, amount: int, limit: int, now: float) -> float:
        """Take ``amount``, or return the seconds until it could be taken."""
        if limit != self._limit:
            self._limit, self._level, self._at = limit, float(limit), now
        self._level = min(limit, self._level + (now - self._at) * limit / 60)
        self._at = now
        if amount <= self._level:
            self._level -= amount
            return 0.0
        return (amount - self._level) * 60 / limit

    def give_back(self, amount: int) -> None:
        self._level += amount

    @property
    def level(self) -> int:
        return int(self._level)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


class Endpoint:
    """The server; a context manager that runs it in a thread."""

    def __init__(self, *, port: int = 0, **behaviour: Any) -> None:
        self.behaviour = Behaviour()
        self.behaviour.change(**behaviour)
        self.counters = Counters()
        self._port = port
        self._tokens = _Bucket()
        self._requests = _Bucket()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Base URL, for UPWELL_EMBEDDINGS_URL."""
        return f"http://127.0.0.1:{self._port}/v1"

    def reset(self) -> None:
        """Count from nothing again."""
        flying = self.counters.in_flight
        self.counters = Counters(in_flight=flying)

    def __enter__(self) -> Endpoint:
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), name="endpoint", daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the endpoint did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join(10)

    async def serve(self) -> None:
        """Serve until stopped."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, limit=1 << 20, backlog=512)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    # ------------------------------------------------------------------ HTTP

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, _, rest = head.partition("\r\n")
                headers = {
                    name.strip().lower(): value.strip()
                    for name, _, value in (row.partition(":") for row in rest.split("\r\n") if row)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = line.split(" ", 2)
                if not await self._respond(method, path, body, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client is gone, or we are
        finally:
            writer.close()

    async def _respond(self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is to end."""
        if (method, path) == ("POST", "/v1/embeddings"):
            lie, answer = await self._counted(body)
            if lie is not None:
                return await self._break(lie, answer, writer)
        else:
            answer = self._control(method, path, body)
        writer.write(_head(answer, len(answer.body)) + answer.body)
        await writer.drain()
        return True

    def _control(self, method: str, path: str, body: bytes) -> _Answer:
        match (method, path):
            case ("GET", "/counters"):
                return _json(200, self.counters.told())
            case ("POST", "/counters/reset"):
                self.reset()
                return _json(200, {})
            case ("GET", "/behaviour"):
                return _json(200, asdict(self.behaviour))
            case ("POST", "/behaviour"):
                try:
                    self.behaviour.change(**from_json(body))
                except (ValueError, TypeError) as exc:
                    return _json(422, {"error": {"message": str(exc)}})
                return _json(200, asdict(self.behaviour))
            case ("GET", "/health" | "/v1/models"):
                models = [{"id": "bench", "object": "model", "created": 0, "owned_by": "tests"}]
                return _json(200, {"object": "list", "data": models, "status": "ok"})
            case _:
                return _json(404, {"error": {"message": f"there is no {method} {path}"}})

    async def _break(self, lie: Lie, answer: _Answer, writer: asyncio.StreamWriter) -> bool:
        """Ruin the delivery of an answer; the connection ends with it."""
        if lie == "reset":
            writer.transport.abort()
            return False
        if lie == "hang":
            await asyncio.sleep(3600)
        writer.write(_head(answer, len(answer.body)))
        if lie == "cut":
            writer.write(answer.body[: len(answer.body) // 2])
            await writer.drain()
            return False
        for byte in answer.body:  # drip
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(self.behaviour.drip_s)
        return True

    # ------------------------------------------------------------------ embeddings

    async def _counted(self, body: bytes) -> tuple[Lie | None, _Answer]:
        counters = self.counters
        counters.requests += 1
        counters.in_flight += 1
        counters.most_in_flight = max(counters.most_in_flight, counters.in_flight)
        try:
            lie, answer = await self._embed(body, counters)
        finally:
            counters.in_flight -= 1
        counters.statuses[answer.status] += 1
        return lie, answer

    async def _embed(self, body: bytes, counters: Counters) -> tuple[Lie | None, _Answer]:
        how = self.behaviour
        asked = from_json(body)
        texts = [asked["input"]] if isinstance(asked["input"], str) else list(asked["input"])
        sizes = [count_tokens(text) for text in texts]
        tokens = sum(sizes)
        counters.asked.update(texts)
        counters.batches.append((time.monotonic(), len(texts), tokens))
        counters.largest_inputs = max(counters.largest_inputs, len(texts))
        counters.largest_tokens = max(counters.largest_tokens, tokens)
        # The limits count when a request arrives, as OpenAI's do: a refused one costs time at the door only.
        headers, refused = self._limited(tokens)
        if refused is None:
            refused = self._failed() or self._refused(texts, sizes)
        if refused is not None:
            await asyncio.sleep(min(how.latency_s, 0.02))
            return None, refused
        wait = (how.latency_s + how.per_token_s * tokens) * (1 + random.uniform(-how.jitter, how.jitter))
        if wait > 0:
            await asyncio.sleep(wait)
        lie = self._lie()
        counters.paid_requests += 1
        counters.paid_tokens += tokens
        counters.paid.update(texts)
        answer = self._answer(asked, texts, tokens, headers, lie)
        return (lie if lie in ("cut", "drip", "hang", "reset") else None), answer

    def _limited(self, tokens: int) -> tuple[tuple[tuple[str, str], ...], _Answer | None]:
        how, now = self.behaviour, time.monotonic()
        headers: list[tuple[str, str]] = []
        wait, code = 0.0, ""
        if how.rpm is not None and (wait := self._requests.take(1, how.rpm, now)):
            code = "requests"
        if how.tpm is not None and not wait and (wait := self._tokens.take(tokens, how.tpm, now)):
            code = "tokens"
            if how.rpm is not None:
                self._requests.give_back(1)
        if how.rate_headers:
            for name, limit, bucket in (("requests", how.rpm, self._requests), ("tokens", how.tpm, self._tokens)):
                if limit is not None:
                    reset = (limit - bucket.level) * 60 / limit
                    headers += [
                        (f"x-ratelimit-limit-{name}", str(limit)),
                        (f"x-ratelimit-remaining-{name}", str(bucket.level)),
                        (f"x-ratelimit-reset-{name}", f"{reset:.3f}s"),
                    ]
        if not wait:
            return tuple(headers), None
        asked = _retry_after(how.retry_after, wait)
        body = {"error": {"message": "Rate limit reached.", "type": code, "code": "rate_limit_exceeded"}}
        return tuple(headers), _json(429, body, (*headers, *asked))

    def _failed(self) -> _Answer | None:
        how = self.behaviour
        while how.failures and how.failures[0].times == 0:
            how.failures.pop(0)
        if how.failures:
            failure = how.failures[0]
            failure.times -= 1 if failure.times > 0 else 0
            body = {"error": {"message": "No.", "type": "server_error", "code": failure.code}}
            return _json(failure.status, body, _retry_after(failure.retry_after, 0.2))
        if how.failure_rate and random.random() < how.failure_rate:
            return _json(500, {"error": {"message": "Not now.", "type": "server_error"}})
        return None

    def _refused(self, texts: list[str], sizes: list[int]) -> _Answer | None:
        how = self.behaviour
        message = None
        if not texts or any(not text for text in texts):
            message = "'$.input' is invalid."
        elif len(texts) > how.max_inputs:
            message = f"Too many inputs: {len(texts)}."
        elif max(sizes) > how.max_input_tokens:
            message = "This model's maximum context length is exceeded."
        elif sum(sizes) > how.max_request_tokens:
            message = "Too many tokens in one request."
        elif how.poison is not None and any(how.poison in text for text in texts):
            message = "An input is refused."
        if message is None:
            return None
        return _json(400, {"error": {"message": message, "type": "invalid_request_error", "code": None}})

    def _lie(self) -> Lie | None:
        how = self.behaviour
        if how.lie is None or how.lies == 0:
            return None
        how.lies -= 1 if how.lies > 0 else 0
        return how.lie

    def _answer(
        self,
        asked: dict[str, Any],
        texts: list[str],
        tokens: int,
        headers: tuple[tuple[str, str], ...],
        lie: Lie | None,
    ) -> _Answer:
        if lie == "html":
            return _Answer(200, b"<html><body>Please log in</body></html>", headers, "text/html")
        if lie == "not_json":
            return _Answer(200, b'{"object": "list", "data": [', headers)
        how = self.behaviour
        dimensions = int(asked.get("dimensions") or how.dimensions) + (1 if lie == "wrong_dimensions" else 0)
        rows = vectors(texts, dimensions, how.seed + ("another" if lie == "swapped" else ""))
        if lie == "truncated":
            tokens = min(tokens, 16 * len(texts))
        if lie in ("nan", "infinite", "zeros"):
            rows[-1, :] = {"nan": np.nan, "infinite": np.inf, "zeros": 0.0}[lie]
        places = list(range(len(texts)))
        if lie == "fewer":
            places.pop()
        elif lie == "more":
            places.append(places[-1])
        indices = [0] * len(places) if lie == "duplicate_index" else places
        encode = _base64 if asked.get("encoding_format") == "base64" else _floats
        items = [
            f'{{"object":"embedding","index":{index},"embedding":{encode(rows[place])}}}'
            for index, place in zip(indices, places, strict=True)
        ]
        if lie == "shuffled":
            random.shuffle(items)
        usage = f'{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}'
        model = json.dumps(asked.get("model"))
        body = f'{{"object":"list","data":[{",".join(items)}],"model":{model},"usage":{usage}}}'
        return _Answer(200, body.encode(), headers)


def _base64(row: Any) -> str:
    return f'"{base64.b64encode(row.astype("<f4").tobytes()).decode()}"'


def _floats(row: Any) -> str:
    return json.dumps(row.tolist())


def _json(status: int, body: Any, headers: tuple[tuple[str, str], ...] = ()) -> _Answer:
    return _Answer(status, json.dumps(body).encode(), headers)


def _head(answer: _Answer, length: int) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} OK", f"content-type: {answer.content_type}", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _retry_after(form: RetryAfter, wait: float) -> tuple[tuple[str, str], ...]:
    seconds = int(wait) + 1
    match form:
        case "seconds":
            return (("retry-after", str(seconds)),)
        case "date":
            return (("retry-after", formatdate(time.time() + seconds, usegmt=True)),)
        case "ms":
            return (("retry-after-ms", str(int(wait * 1000) + 1)), ("retry-after", str(seconds)))
        case "zero":
            return (("retry-after", "0"),)
        case "9999":
            return (("retry-after", "9999"),)
        case "nonsense":
            return (("retry-after", "soon"),)
        case _:
            return ()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.endpoint")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="fields of Behaviour, as JSON values"
    )
    args = parser.parse_args(argv)
    given = dict(word.split("=", 1) for word in args.set)
    asyncio.run(Endpoint(port=args.port, **{name: _value(text) for name, text in given.items()}).serve())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
