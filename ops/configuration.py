"""Renders the settings manual (`ops/docs/configuration.md`) from the settings classes themselves.

python -m ops.configuration > ops/docs/configuration.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from workers.contract.settings import Group

INTRO = """# Settings

Every process reads its settings from environment variables. Defaults are for real servers on one machine; `upwell up`
sets what its embedded parts need and passes everything else on. This page is written by `python -m ops.configuration`.
"""


def processes() -> list[tuple[str, type[Group]]]:
    """Return (heading, settings class) of every process."""
    from ops.api.settings import ApiSettings
    from ops.cli.settings import ClientSettings
    from ops.up.settings import UpSettings
    from producers.settings import WatcherSettings
    from workers.housekeeping.settings import HousekeepingSettings
    from workers.indexing.settings import IndexWorkerSettings
    from workers.query.settings import QueryWorkerSettings

    return [
        ("Watcher: `upwell watch`", WatcherSettings),
        ("Index worker: `upwell worker index`", IndexWorkerSettings),
        ("Query worker: `upwell worker query`", QueryWorkerSettings),
        ("Housekeeping: `upwell worker beat`", HousekeepingSettings),
        ("Api: `upwell api`", ApiSettings),
        ("Everything: `upwell up`", UpSettings),
        ("Commands that talk to the api", ClientSettings),
    ]


def render() -> str:
    """Return the page."""
    parts = [INTRO]
    for heading, settings in processes():
        parts.append(f"\n## {heading}\n\n| variable | default | meaning |\n|---|---|---|\n")
        parts.extend(_rows(settings))
    return "".join(parts)


def _rows(settings: type[Group]) -> Iterator[str]:
    for name, field in sorted(settings.model_fields.items()):
        description = (field.description or "").replace("|", "\\|")
        yield f"| `UPWELL_{name.upper()}` | {_default(field)} | {description} |\n"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is PydanticUndefined:
        return "*by machine*" if field.default_factory else "*required*"
    if value is None:
        return "*unset*"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return f"`{value}`"


if __name__ == "__main__":
    print(render(), end="")
