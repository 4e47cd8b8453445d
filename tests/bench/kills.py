"""Kill -9 of every process in turn while files are being indexed: does everything end ready, and what is paid twice?

    python -m tests.bench.kills [FILES]

Runs twice over equal files: once undisturbed, for what has to be embedded, and once with a kill of each part.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.support.stack import Stack

PARTS = ("index", "watch", "qdrant", "embeddings", "broker", "query", "beat", "api")


def main(args: list[str]) -> int:
    """Index ``FILES`` (default 200) twice and print what was embedded."""
    count = int(args[0]) if args else 200
    with tempfile.TemporaryDirectory(prefix="upwell-kills-") as scratch:
        calm = _run(Path(scratch) / "calm", count, kill=False)
        wild = _run(Path(scratch) / "wild", count, kill=True)
    print(f"{'':14}{'files':>7}{'ready':>7}{'texts embedded':>16}{'tokens':>9}{'seconds':>9}{'kills':>7}")
    for name, run in (("undisturbed", calm), ("killed", wild)):
        print(f"{name:14}{count:7}{run[0]:7}{run[1]:16.0f}{run[2]:9.0f}{run[3]:9.1f}{run[4]:7}")
    return 0 if wild[0] == count else 1


def _run(home: Path, count: int, *, kill: bool) -> tuple[int, float, float, float, int]:
    docs = home / "docs"
    docs.mkdir(parents=True)
    (docs / "first.md").write_text("# First\n\nSomething is here already.\n")
    with Stack(home, docs) as stack:
        stack.wait_converged(1)
        started = time.monotonic()
        for number in range(count):
            (docs / f"{number:04d}.md").write_text(_text(number))
        kills = _kill_each(stack, count) if kill else 0
        status = stack.wait_converged(count + 1, timeout=900)
        seconds = time.monotonic() - started
        time.sleep(6)  # figures reach the ledger every five seconds
        figures = _figures(stack)
    return status["documents"].get("ready", 0) - 1, figures["texts"], figures["tokens"], seconds, kills


def _kill_each(stack: Stack, count: int) -> int:
    for part in PARTS:
        if stack.status()["documents"].get("ready", 0) > count:
            break
        victim = stack.pids[part]
        os.kill(victim, signal.SIGKILL)
        stack.wait_for(lambda p=part, v=victim: stack.pids.get(p) not in (None, v), 30)
        stack.wait_for(stack.is_up, 60)
        time.sleep(1.0)
    return len(PARTS)


def _figures(stack: Stack) -> dict[str, float]:
    found = {}
    for line in stack.client.get("/metrics").text.splitlines():
        for name in ("texts", "tokens"):
            if line.startswith(f"upwell_embedding_{name}_total"):
                found[name] = float(line.split()[-1])
    return found


def _text(number: int) -> str:
    draw = random.Random(number)
    words = [
        "river",
        "stone",
        "cloud",
        "amber",
        "forest",
        "wheel",
        "candle",
        "mirror",
        "garden",
        "winter",
        "copper",
        "sail",
        "thread",
        "orchard",
        "bridge",
    ]
    sentences = (" ".join(draw.choices(words, k=9)).capitalize() + "." for _ in range(6))
    return f"# File {number}\n\nMark{number:04d} stands only here. {' '.join(sentences)}\n"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
