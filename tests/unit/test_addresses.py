"""What is shown of an address has no password in it, wherever in the address a client takes one."""

from __future__ import annotations

import pytest

from workers.contract.addresses import without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@valkey:6379/0", "redis://valkey:6379/0"),
        ("redis://valkey:6379/0?password=s3cret", "redis://valkey:6379/0"),
        ("https://user:s3cret@example.org/v1?api-key=s3cret#s3cret", "https://example.org/v1"),
        ("http://[::1]:6333", "http://[::1]:6333"),
    ],
)
def test_an_address_is_shown_without_its_password(url, shown):
    assert without_password(url) == shown
