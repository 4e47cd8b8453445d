"""Addresses as they may be shown: they are settings, and settings hold passwords."""

from __future__ import annotations

from urllib.parse import urlsplit


def without_password(url: str) -> str:
    """Return ``url`` without user name, password and query, where some clients take a password as well."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
