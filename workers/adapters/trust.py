"""Whom an HTTP client trusts.  Loading the certificate authorities takes tens of milliseconds, for each client anew."""

from __future__ import annotations

import ssl
from typing import Literal
from urllib.parse import urlsplit


def trusted(url: str) -> ssl.SSLContext | Literal[True]:
    """Return what a client of ``url`` takes as ``verify``: the usual authorities (True), or, for http://, none.

    None of our clients follows redirects: texts and keys go to the address that was set, and to no other.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if urlsplit(url).scheme == "http" else True
