"""What the tests of the api's faces share: the ledger that their own `settings` name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from workers.contract import schema


@pytest.fixture
def engine(settings: Any) -> Iterator[Engine]:
    engine = schema.open_ledger(settings.ledger_url.get_secret_value())
    yield engine
    engine.dispose()
