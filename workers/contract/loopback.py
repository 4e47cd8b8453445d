"""Which names are this machine itself: decides who may come in where no key is asked for.

A web page can turn a name of its own to 127.0.0.1 (DNS rebinding) and then talks to a server here as to its own; what
gives it away is the name in its Host and Origin headers.  Addresses, and names below `localhost` (RFC 6761), cannot be
turned.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address (without port, IPv6 with or without brackets) is this machine itself."""
    name = host.removeprefix("[").removesuffix("]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def names_loopback(header: str) -> bool:
    """Tell whether a Host header (name and maybe a port) names this machine itself."""
    return is_loopback(_host(f"http://{header}"))


def comes_from_loopback(origin: str) -> bool:
    """Tell whether an Origin header names a page of this machine itself; ``null`` names nobody."""
    return origin.startswith(("http://", "https://")) and is_loopback(_host(origin))


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
