"""Whom an HTTP client trusts.  Loading the certificate authorities takes tens of milliseconds, for each client anew."""

from __future__ import annotations

import ssl
from typing import Literal
from urllib.parse import urlsplit


def trusted(url: str) -> ssl.SSLContext | Literal[True]:
    """Return what a client of ``url`` takes as ``verify``: the usual authorities (True), or, for http://, none.

    A plain address that redirects to https:// is therefore not followed: no certificate would be believed.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if urlsplit(url).scheme == "http" else True
