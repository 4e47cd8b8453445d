"""Electronic mail (RFC 5322) and Outlook messages: headers to metadata, the readable body, names of attachments only.

An attachment is never opened; a forwarded message is part of the text.
"""

from __future__ import annotations

import codecs
import email
import email.policy
import email.utils
import re
from collections.abc import Iterator
from email.message import EmailMessage
from io import BytesIO
from typing import Any

from workers.errors import DocumentEncrypted
from workers.indexing.parse.dates import iso
from workers.indexing.parse.encoding import decode
from workers.indexing.parse.html import fragment
from workers.indexing.parse.text import line_ends, paragraphs
from workers.indexing.values import DocumentMetadata, Element, Parsed

_PEOPLE = ("From", "To", "Cc", "Date")
_DEEPEST = 5  # forwarded messages within forwarded messages
_BROKEN_HEADER = (
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    LookupError,
)  # the standard library trips over some
_SEALED = (".p7m", ".rpmsg", ".pgp-encrypted")
_ENCRYPTED = "It is an encrypted message. Open it in your mail program and save a readable copy."


def read_eml(data: bytes, _name: str) -> Parsed:
    """Read one message; of a text and an HTML form of the body the text is taken."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in data[:200]:
        data = decode(data).encode("utf-8")
    message: Any = email.message_from_bytes(data.lstrip(b"\xef\xbb\xbf\r\n"), policy=email.policy.default)
    if message.get_content_type() == "multipart/encrypted" or (
        message.get_content_type() in ("application/pkcs7-mime", "application/x-pkcs7-mime")
        and _parameter(message, "smime-type") != "signed-data"
    ):
        raise DocumentEncrypted(_ENCRYPTED)
    elements = list(_message(message, 0))
    return Parsed(
        tuple(elements),
        DocumentMetadata(
            title=_header(message, "subject"), author=_header(message, "from"), created=iso(_header(message, "date"))
        ),
    )


def _message(message: EmailMessage, depth: int) -> Iterator[Element]:
    subject = _header(message, "subject")
    if subject:
        yield Element("heading", subject, level=depth + 1)
    people = [f"{label}: {value}" for label in _PEOPLE if (value := _header(message, label))]
    if people:
        yield Element("text", "\n".join(people))
    attached: list[str] = []
    yield from _parts(message, attached, depth)
    if attached:
        yield Element("text", "Attachments: " + ", ".join(attached))


def _parts(part: Any, attached: list[str], depth: int) -> Iterator[Element]:
    """Yield what a mail program shows: every inline text, the plainest of alternatives, forwarded messages."""
    kind = part.get_content_type()
    if kind == "message/rfc822" and part.is_multipart():
        if depth < _DEEPEST:
            yield from _message(part.get_payload(0), depth + 1)
    elif part.is_multipart():
        children = part.get_payload()
        if kind == "multipart/alternative":
            children = [_plainest(children)] if children else []
        for child in children:
            yield from _parts(child, attached, depth)
    elif name := _file_name(part):
        attached.append(name)
    elif kind in ("text/plain", "text/html") or part.get_content_maintype() == "text":
        if _header(part, "content-disposition", "").startswith("attachment"):
            return
        yield from _text(part, kind)


def _plainest(children: list[Any]) -> Any:
    """Prefer the text form, unless it is empty or only says that one should look at the other form."""
    for child in children:
        if child.get_content_type() == "text/plain" and len(_payload(child).strip()) > 0:
            html = [len(_payload(c)) for c in children if c.get_content_type() == "text/html"]
            if not html or len(_payload(child)) * 50 > max(html):
                return child
    return children[-1]


def _text(part: Any, kind: str) -> Iterator[Element]:
    text = line_ends(decode(_payload(part), part.get_content_charset()))
    if kind == "text/html":
        yield from fragment(text)
        return
    if _parameter(part, "format") == "flowed":  # RFC 3676: a space before the line's end means that it goes on
        text = re.sub(r"(?<! ) \n(?!-- $)>*", " ", text, flags=re.MULTILINE)
    yield from paragraphs(text)


def _payload(part: Any) -> bytes:
    try:
        raw = part.get_payload(decode=True)
    except _BROKEN_HEADER:
        raw = part.get_payload()
    return raw if isinstance(raw, bytes) else str(raw or "").encode("utf-8", "replace")


def _header(message: Any, name: str, default: str | None = None) -> Any:
    try:
        value = message.get(name)
    except _BROKEN_HEADER:
        raw = next((text for key, text in message.raw_items() if key.lower() == name), None)
        value = raw if isinstance(raw, str) else None
    text = " ".join(str(value).split()) if value else ""
    if "\udc80" <= max(text, default="") <= "\udcff":  # bytes outside ASCII that no header may hold
        text = decode(text.encode("utf-8", "surrogateescape"))
    return text or default


def _file_name(part: Any) -> str | None:
    try:
        name = part.get_filename()
    except _BROKEN_HEADER:
        return "a file without a readable name"
    return " ".join(str(name).split()) if name else None


def _parameter(part: Any, name: str) -> str:
    try:
        return str(part.get_param(name) or "").lower()
    except _BROKEN_HEADER:
        return ""


# ------------------------------------------------------------------------------------------ Outlook


def read_msg(data: bytes, _name: str) -> Parsed:
    """Outlook messages through python-oxmsg, without opening attachments."""
    from oxmsg import Message

    codecs.register(_windows_code_page)
    message = Message.load(BytesIO(data))
    names = [" ".join(str(a.file_name).split()) for a in message.attachments if a.file_name]
    if not message.body and not message.html_body and any(name.lower().endswith(_SEALED) for name in names):
        raise DocumentEncrypted(_ENCRYPTED)
    subject = _text_of(message, "subject")
    elements = [Element("heading", subject, level=1)] if subject else []
    sender = _text_of(message, "sender")
    sent = message.sent_date
    people = [
        ("From", sender),
        ("To", ", ".join(str(r.name or r.email_address) for r in message.recipients)),
        ("Date", sent.isoformat(" ", "minutes") if sent is not None else ""),
    ]
    if head := "\n".join(f"{label}: {value}" for label, value in people if value):
        elements.append(Element("text", head))
    elements += _outlook_body(message)
    if names:
        elements.append(Element("text", "Attachments: " + ", ".join(names)))
    return Parsed(tuple(elements), DocumentMetadata(title=subject, author=sender, created=iso(sent)))


def _outlook_body(message: Any) -> list[Element]:
    body = _text_of(message, "body")
    if body:
        return paragraphs(line_ends(body))
    html = message.html_body
    if html:
        return fragment(html if isinstance(html, str) else decode(html))
    return []


def _text_of(message: Any, name: str) -> str | None:
    value = getattr(message, name)
    return str(value).strip() or None if value else None


def _windows_code_page(name: str) -> codecs.CodecInfo | None:
    """Python knows windows-950 as cp950 only."""
    found = re.fullmatch(r"windows[-_](\d{3,5})", name)
    return codecs.lookup(f"cp{found[1]}") if found else None
