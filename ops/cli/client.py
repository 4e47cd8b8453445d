"""The commands' way to the api: JSON, uploads and event streams over the standard library's HTTP client.

httpx would double the start-up time of `upwell search`, and would send loopback requests through a proxy that the
environment names.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

from ops.cli.errors import EXIT_USAGE, CliError, NoAnswer, Refused
from workers.contract.exits import EXIT_MISCONFIGURED

DEFAULT_URL = "http://127.0.0.1:8080"
BLOCK = 256 * 1024
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    name: str
    data: Any


class Api:
    """A running Upwell."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        origin: str = "",
        setting: str = "UPWELL_API_URL",
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            code = EXIT_MISCONFIGURED if setting.startswith("UPWELL_") else EXIT_USAGE
            raise CliError(f"{setting} must look like {DEFAULT_URL}; it is {url!r}.", exit_code=code)
        self.url = url.rstrip("/")
        self._parts = parts
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._origin = origin

    def get(self, route: str, /, **query: Any) -> Any:
        """Return the JSON answer of GET ``route``; parameters that are None are left out."""
        return self._json("GET", with_query(route, query))

    def post(self, route: str, body: Any = None, /, headers: Mapping[str, str] | None = None, **query: Any) -> Any:
        """Return the JSON answer of POST ``route`` with ``body`` as JSON."""
        return self._json("POST", with_query(route, query), _sent({} if body is None else body), headers)

    def pages(self, route: str, name: str, /, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield what GET ``route`` lists under ``name``, page after page."""
        cursor = None
        while True:
            page = self.get(route, cursor=cursor, **query)
            yield from page[name]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def upload(self, file: Path, fields: Mapping[str, str], on_bytes: Callable[[int], None]) -> Any:
        """Send ``file`` to POST /v1/documents in blocks; ``on_bytes`` hears how many went out."""
        try:
            opened = file.open("rb")
        except OSError as exc:
            raise CliError(f"{file} cannot be read: {exc.strerror}. Check its permissions.") from exc
        with opened:
            size = file.stat().st_size
            boundary = uuid4().hex
            head, tail = _multipart(boundary, fields, file.name)
            headers = {
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(len(head) + size + len(tail)),
            }
            body = _blocks(head, opened, size, tail, on_bytes)
            with self._answer("POST", "/v1/documents", body, headers) as response:
                return _decode(response.read())

    def stream(self, path: str, body: Any) -> Iterator[Event]:
        """Yield the events of a POST whose answer is a stream; a plain JSON answer is one event named ``done``."""
        headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
        with self._answer("POST", path, _sent(body), headers) as response:
            if response.headers.get_content_type() != "text/event-stream":
                yield Event("done", _decode(response.read()))
                return
            yield from _events(response)

    def _json(self, method: str, path: str, body: bytes | None = None, more: Mapping[str, str] | None = None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        with self._answer(method, path, body, {**headers, **(more or {})}) as response:
            return _decode(response.read())

    @contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None, headers: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connect()
        try:
            try:
                connection.request(method, self._parts.path.rstrip("/") + path, body, {**headers, **self._headers})
            except (BrokenPipeError, ConnectionResetError):
                pass  # it did not want the whole body; its answer says why
            response = connection.getresponse()
            if response.status >= 400:
                raise _refusal(response.status, response.read(), self.url)
            yield response
        except TimeoutError as exc:
            raise NoAnswer(
                f"Upwell at {self.url} did not answer within {TIMEOUT_S:.0f} s. See how it is: upwell status"
            ) from exc
        except ssl.SSLError as exc:
            raise NoAnswer(f"No secure connection to {self.url}: {exc.reason}. Check UPWELL_API_URL.") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise NoAnswer(self._no_answer(exc)) from exc
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=TIMEOUT_S)

    def _no_answer(self, exc: Exception) -> str:
        why = getattr(exc, "strerror", None) or type(exc).__name__
        return (
            f"No answer from Upwell at {self.url}{self._origin}: {why}."
            " Start it with: upwell up. If it runs elsewhere, set UPWELL_API_URL."
        )


def find_api() -> Api:
    """Return the api that the settings name, else that of the `upwell up` in this folder, else the usual address."""
    from ops.cli.settings import ClientSettings

    settings = ClientSettings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    if settings.api_url:
        return Api(settings.api_url, key, origin=" (UPWELL_API_URL)")
    file = settings.data_dir / "up.json"
    try:
        return Api(json.loads(file.read_text())["addresses"]["api"], key, origin=f" (from {file})")
    except (OSError, ValueError, KeyError, TypeError):
        return Api(DEFAULT_URL, key)


def with_query(path: str, query: Mapping[str, Any]) -> str:
    """Return ``path`` with the parameters that are set."""
    wanted = {name: value for name, value in query.items() if value is not None}
    asked = urlencode(wanted, doseq=True, quote_via=quote, errors="surrogateescape")
    return f"{path}?{asked}" if wanted else path


def _sent(body: Any) -> bytes:
    """Return ``body`` as JSON.  In a locale without its letters, a word of the command line has the terminal's bytes as
    surrogates: they become bytes again, as `with_query` does it."""
    try:
        return json.dumps(body, ensure_ascii=False).encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half a letter of a file: the api says what is wrong with it
        return json.dumps(body).encode()


def _multipart(boundary: str, fields: Mapping[str, str], filename: str) -> tuple[bytes, bytes]:
    """Return what goes before and after the file's bytes (RFC 7578)."""
    lines = []
    for name, value in fields.items():
        lines.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n')
    safe = filename.replace("\\", "_").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    lines.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(lines).encode("utf-8", "backslashreplace"), f"\r\n--{boundary}--\r\n".encode()


def _blocks(head: bytes, file: BinaryIO, size: int, tail: bytes, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    yield head
    left = size
    while left > 0:
        block = file.read(min(BLOCK, left))
        if not block:
            raise CliError(f"{file.name} became shorter while it was sent. Send it again.")
        left -= len(block)
        yield block
        on_bytes(len(block))
    yield tail


def _events(response: http.client.HTTPResponse) -> Iterator[Event]:
    """Read server-sent events (WHATWG HTML, section 9.2)."""
    name, data = "message", list[str]()
    for raw in response:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                yield Event(name, _loads("\n".join(data)))
            name, data = "message", []
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))


def _decode(body: bytes) -> Any:
    if not body:
        return {}
    try:
        return json.loads(body)
    except ValueError as exc:
        raise CliError("What answers there is not Upwell: its answer is no JSON. Check UPWELL_API_URL.") from exc


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _refusal(status: int, body: bytes, url: str) -> Refused:
    """Turn an error answer into words: {"error": {"code", "message", "next"}}."""
    found = _loads(body.decode("utf-8", "replace"))
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, dict) and error.get("message"):
        message = str(error["message"]).rstrip()
        message += "" if message.endswith((".", "!", "?")) else "."
        if error.get("next"):
            message += f" {error['next']}"
        return Refused(message, status=status, code=str(error.get("code", "")))
    hint = " Set UPWELL_API_KEY." if status in (401, 403) else ""
    return Refused(f"Upwell at {url} answered with status {status}.{hint}", status=status, code="")
