"""Cleans text of what cannot be seen and should not be searched.  Linear in the length."""

from __future__ import annotations

import re
import unicodedata

# Zero width, direction marks, soft hyphen, byte order mark, interlinear marks, and the invisible TAG alphabet, which
# carries hidden instructions to language models (arXiv 2504.11168).
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_SPACES = re.compile("[ \u00a0\u2000-\u200a\u202f\u205f\u3000]{2,}|[\u00a0\u2000-\u200a\u202f\u205f]")
_LINES = re.compile(r"[ \t]*\n(?:[ \t]*\n){2,}")


def clean_text(text: str) -> str:
    """Return ``text`` in NFC, without invisible and control characters; line breaks and tabs stay."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n").replace("\x85", "\n")
    text = _CONTROL.sub("", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFC", text)


def tidy(text: str) -> str:
    """Return running text with single spaces and at most one blank line."""
    return _LINES.sub("\n\n", _SPACES.sub(" ", text)).strip()
