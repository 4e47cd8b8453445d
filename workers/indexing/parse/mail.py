"""Electronic mail (RFC 5322): headers to metadata, the readable body, names of attachments but never their content."""

from __future__ import annotations

import email
import email.policy
import email.utils
from email.message import EmailMessage
from typing import Any

from workers.indexing.parse.encoding import decode
from workers.indexing.parse.html import read_html
from workers.indexing.parse.text import blocks
from workers.indexing.values import DocumentMetadata, Element, Parsed


def read_eml(data: bytes, name: str) -> Parsed:
    """Read one message; of a text and an HTML form of the body the text is taken."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in data[:200]:
        data = decode(data).encode("utf-8")
    message: Any = email.message_from_bytes(data, policy=email.policy.default)
    subject = _header(message, "subject")
    elements = [Element("heading", subject, level=1)] if subject else []
    people = [f"{label}: {value}" for label in ("From", "To", "Cc", "Date") if (value := _header(message, label))]
    if people:
        elements.append(Element("text", "\n".join(people)))
    elements += _body(message, name)
    attached = [part.get_filename() for part in message.walk() if part.get_filename()]
    if attached:
        elements.append(Element("text", "Attachments: " + ", ".join(map(str, attached))))
    return Parsed(
        tuple(elements),
        DocumentMetadata(title=subject, author=_header(message, "from"), created=_date(message)),
    )


def _body(message: EmailMessage, name: str) -> list[Element]:
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        return []
    raw = part.get_payload(decode=True)
    payload = raw if isinstance(raw, bytes) else str(raw or "").encode("utf-8", "replace")
    if part.get_content_type() == "text/html":
        return list(read_html(payload, name).elements)
    return [
        Element("text", block) for block in blocks(decode(payload, part.get_content_charset()).replace("\r\n", "\n"))
    ]


def _header(message: EmailMessage, name: str) -> str | None:
    try:
        value = message.get(name)
    except (ValueError, TypeError, AttributeError, IndexError):  # the standard library trips over some broken headers
        return None
    return " ".join(str(value).split()) or None if value else None


def _date(message: EmailMessage) -> str | None:
    text = _header(message, "date")
    try:
        return email.utils.parsedate_to_datetime(text).isoformat() if text else None
    except (ValueError, TypeError):
        return None
