"""Every setting has a unit, a default and a description, and the manual is what the classes say."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ops import configuration
from workers.contract.settings import BrokerSettings, LogSettings

ROOT = Path(__file__).parents[2]
FIELDS = [
    pytest.param(name, field, id=f"{settings.__name__}.{name}")
    for _, settings in configuration.processes()
    for name, field in settings.model_fields.items()
]


def test_the_manual_is_up_to_date():
    """Write it again with: python -m ops.configuration > ops/docs/configuration.md"""
    assert (ROOT / "ops/docs/configuration.md").read_text() == configuration.render()


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_setting_is_described(name, field):
    assert field.description, name
    assert field.description.endswith((".", ")")), field.description


def test_a_log_level_may_be_written_in_capitals():
    assert LogSettings(log_level="WARNING").log_level == "warning"


@pytest.mark.parametrize(
    ("url", "open_", "good"),
    [
        ("redis://127.0.0.1:6379/0", False, True),
        ("redis://localhost:6379/0", False, True),
        ("redis://:s3cret@valkey:6379/0", False, True),
        ("rediss://user:s3cret@valkey.example:6379/0", False, True),
        ("redis://valkey:6379/0", True, True),
        ("redis+socket:///run/valkey.sock", False, True),
        ("redis://valkey:6379/0", False, False),
        ("redis://user@10.0.0.7:6379/0", False, False),
        ("rediss://0.0.0.0:6379/0", False, False),
    ],
)
def test_a_broker_of_another_machine_without_a_password_is_refused_in_words(url, open_, good):
    """Whoever reaches a broker commands the workers (S22)."""
    if good:
        BrokerSettings(broker_url=url, broker_open=open_)
        return
    with pytest.raises(ValidationError, match="UPWELL_BROKER_OPEN") as refused:
        BrokerSettings(broker_url=url, broker_open=open_)
    assert "UPWELL_BROKER_URL" in str(refused.value)
