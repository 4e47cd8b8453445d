"""Every setting has a unit, a default and a description, and the manual is what the classes say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops import configuration
from workers.contract.settings import LogSettings

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
