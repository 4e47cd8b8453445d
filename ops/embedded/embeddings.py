"""The embedded embedding endpoint: multilingual-e5-small behind the OpenAI API, on one machine's processors.

Run as `python -m ops.embedded.embeddings`.  A query never waits for passages (see `lanes`).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic_core import from_json, to_json

from ops.embedded.e5 import E5
from ops.embedded.http import Application, Reply, Request, Service, listen
from ops.embedded.lanes import Closed, Embedded, Kind, Lanes, TooLong

MODEL = "multilingual-e5-small-q4"
DIMENSIONS = 384
MAX_INPUTS = 2048  # as OpenAI's
MAX_TOKENS = 8192  # per input, as OpenAI's
MAX_WAITING = 8192  # texts; a minute or more of work: whoever comes later is asked to come back
MAX_BODY = 32 * 1024 * 1024
RETRY_AFTER_S = 5

# A client that can say no input_type (LangChain's OpenAIEmbeddings, say) chooses by the model's name.
KIND_BY_MODEL: dict[str, Kind] = {MODEL: "passage", f"{MODEL}-passage": "passage", f"{MODEL}-query": "query"}
KIND_BY_INPUT_TYPE: dict[str, Kind] = {"query": "query", "passage": "passage", "document": "passage"}


class Refused(Exception):
    """A request that we do not answer with vectors, in OpenAI's words."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def reply(self) -> Reply:
        """Return the error body that OpenAI's clients understand."""
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        retry = ((b"retry-after", str(RETRY_AFTER_S).encode()),) if self.status in (429, 503) else ()
        return Reply(self.status, to_json({"error": error}), retry)


@dataclass(frozen=True, slots=True)
class Order:
    """A request for vectors that can be fulfilled."""

    texts: list[str]
    kind: Kind
    base64: bool


def read_order(body: bytes) -> Order:
    """Return what the body asks for, or refuse it saying which parameter is wrong."""
    try:
        asked = from_json(body)
    except ValueError as exc:
        raise Refused(400, "The body is not JSON.") from exc
    if not isinstance(asked, dict):
        raise Refused(400, "The body must be a JSON object.")
    dimensions = asked.get("dimensions")
    if dimensions is not None and (dimensions != DIMENSIONS or isinstance(dimensions, bool)):
        raise Refused(400, f"{MODEL} has {DIMENSIONS} dimensions and no others.", param="dimensions")
    encoding = asked.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise Refused(400, "encoding_format must be float or base64.", param="encoding_format")
    return Order(_texts(asked.get("input")), _kind(asked), base64=encoding == "base64")


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list):
        raise Refused(400, "input must be a string or a list of strings.", param="input")
    if not texts:
        raise Refused(400, "input must not be empty.", param="input")
    if len(texts) > MAX_INPUTS:
        raise Refused(400, f"input has {len(texts)} texts; at most {MAX_INPUTS} in one request.", param="input")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise Refused(400, f"input[{index}] is not a string; token ids are not taken here.", param="input")
        if not text:
            raise Refused(400, f"input[{index}] is empty.", param="input")
    return texts


def _kind(asked: dict[str, Any]) -> Kind:
    model, input_type = asked.get("model"), asked.get("input_type")
    if not isinstance(model, str) or not model:
        raise Refused(400, "model must be given.", param="model")
    if model not in KIND_BY_MODEL:
        message = f"This endpoint has no model {model[:100]!r}; it has {MODEL} (UPWELL_EMBEDDINGS_MODEL)."
        raise Refused(404, message, param="model", code="model_not_found")
    if input_type is None:
        return KIND_BY_MODEL[model]
    if not isinstance(input_type, str) or input_type not in KIND_BY_INPUT_TYPE:
        raise Refused(400, "input_type must be query, passage or document.", param="input_type")
    return KIND_BY_INPUT_TYPE[input_type]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Answers requests from the lanes."""

    lanes: Lanes
    _models: bytes = field(
        default_factory=lambda: to_json(
            {
                "object": "list",
                "data": [{"id": name, "object": "model", "created": 0, "owned_by": "upwell"} for name in KIND_BY_MODEL],
            }
        )
    )

    async def answer(self, request: Request) -> Reply:
        """Answer one request."""
        try:
            match (request.method, request.path.rstrip("/")):
                case ("POST", "/v1/embeddings"):
                    return await self._embeddings(request)
                case ("GET", "/v1/models"):
                    return Reply(200, self._models)
                case ("GET", "/health"):
                    waiting = {kind: self.lanes.waiting(kind) for kind in ("query", "passage")}
                    return Reply(200, to_json({"status": "ok", "model": MODEL, "waiting": waiting}))
                case (_, "/v1/embeddings" | "/v1/models" | "/health"):
                    raise Refused(405, f"{request.path} does not take {request.method}.")
                case _:
                    raise Refused(404, "There is POST /v1/embeddings, GET /v1/models and GET /health.")
        except Refused as refused:
            return refused.reply()

    async def _embeddings(self, request: Request) -> Reply:
        order = read_order(request.body)
        if self.lanes.waiting(order.kind) + len(order.texts) > MAX_WAITING:
            raise Refused(429, "Too many texts are waiting; try again later.", code="rate_limit_exceeded")
        try:
            embedded = await _unless_gone(self.lanes.submit(order.texts, order.kind), request)
        except TooLong as exc:
            message = f"input[{exc.index}] has {exc.tokens} tokens; at most {MAX_TOKENS} are read."
            raise Refused(400, message, param="input", code="context_length_exceeded") from exc
        except (Closed, asyncio.CancelledError) as exc:
            raise Refused(503, "The endpoint is stopping.") from exc
        return Reply(200, _body(embedded, as_base64=order.base64))


async def _unless_gone(wanted: Future[Embedded], request: Request) -> Embedded:
    """Wait for vectors; when the client hangs up, drop what has not been begun."""
    vectors = asyncio.wrap_future(wanted)
    gone = asyncio.ensure_future(request.gone())
    try:
        both: set[asyncio.Future[Any]] = {vectors, gone}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not vectors.done():
            vectors.cancel()
        return await vectors
    finally:
        gone.cancel()


def _body(embedded: Embedded, *, as_base64: bool) -> bytes:
    values: Sequence[Any]
    if as_base64:
        little = embedded.vectors.astype("<f4", copy=False)
        values = [base64.b64encode(row.tobytes()).decode("ascii") for row in little]
    else:
        values = embedded.vectors.astype(np.float64).tolist()
    data = [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values)]
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return to_json({"object": "list", "data": data, "model": MODEL, "usage": usage})


def _too_large(limit: int) -> Reply:
    return Refused(413, f"The body has more than {limit // 1024 // 1024} MB.").reply()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m ops.embedded.embeddings", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1, help="processors for passages; queries have one more thread")
    args = parser.parse_args(argv)
    if args.threads < 1:
        parser.error("--threads must be 1 or more")
    sock = listen(args.host, args.port, "embeddings")

    lanes = Lanes(E5(), threads=args.threads, max_tokens=MAX_TOKENS)
    Service(Application(Endpoint(lanes).answer, _too_large, MAX_BODY), sock).run()
    lanes.close()
    sys.stderr.flush()
    os._exit(0)  # threads may be deep inside the engine; nothing is lost, as nothing is kept


if __name__ == "__main__":
    main()
