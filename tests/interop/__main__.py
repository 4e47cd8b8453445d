"""`make test-interop`: starts Upwell on a few files, then lets other people's libraries read what it wrote.

The libraries have an environment of their own (.venv-interop, and node_modules beside this file): what they depend on
must not be able to help us.  Without npm the JavaScript part is left out with a word, in CI it must run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.stack import ROOT, Stack

HERE = Path(__file__).parent
PYTHON = ROOT / ".venv-interop" / "bin" / "python"

FILES = {
    "house.md": "# House\n\nThe boiler code is 4711.\n",
    "garden.md": "# Garden\n\nThe hedge is cut in June.\n\n# Lawn\n\nThe lawn is mown on Fridays.\n",
    "words.md": "# Words\n\nA zyzzyva is a weevil of South America.\n",
} | {
    f"{name}.md": f"# Gone\n\nThis note is deleted by {name}.\n" for name in ("langchain", "llamaindex", "langchainjs")
}


def main() -> int:
    """Run both halves; the exit code is that of the first that fails."""
    node = shutil.which("npm")
    if node is None and os.environ.get("CI"):
        print("npm is missing, and in CI the JavaScript readers must run.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="upwell-interop-") as scratch:
        home = Path(scratch)
        docs = home / "docs"
        docs.mkdir()
        for name, text in FILES.items():
            (docs / name).write_text(text)
        with Stack(home, docs) as stack:
            stack.wait_converged(len(FILES))
            told = _environment(stack)
            checked = _run([sys.executable, "-m", "ops.cli", "contract", "check", told["INTEROP_QDRANT"]], told)
            python = _run([str(PYTHON), "-m", "pytest", "-c", str(HERE / "pytest.ini"), str(HERE)], told)
            javascript = 0
            if node is None:
                print("npm is missing: LangChain.js and Qdrant's JavaScript client were not tried.")
            else:
                javascript = _run(["npm", "test", "--silent"], told, cwd=HERE / "js")
    return checked or python or javascript


def _environment(stack: Stack) -> dict[str, str]:
    status = stack.status()
    qdrant = status["addresses"]["qdrant"]
    aliases = stack.client.get(f"{qdrant}/aliases").json()["result"]["aliases"]
    alias = status["collection"]
    return {
        **os.environ,
        "INTEROP_API": status["addresses"]["api"],
        "INTEROP_QDRANT": qdrant,
        "INTEROP_COLLECTION": alias,
        "INTEROP_PHYSICAL": next(a["collection_name"] for a in aliases if a["alias_name"] == alias),
        "INTEROP_MODEL": "multilingual-e5-small-q4-query",
        # No library is to look for the network.
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "LANGCHAIN_TRACING_V2": "false",
        "HF_HUB_OFFLINE": "1",
        "ANONYMIZED_TELEMETRY": "False",
    }


def _run(command: list[str], environment: dict[str, str], cwd: Path = ROOT) -> int:
    return subprocess.run(command, env=environment, cwd=cwd, timeout=300).returncode


raise SystemExit(main())
