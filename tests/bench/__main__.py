"""`make bench`: runs one benchmark by name, or lists them."""

from __future__ import annotations

import importlib
import sys

BENCHMARKS = {
    "embedding": "a first index against an endpoint with latency and with a limit per minute",
    "model": "the bundled embedding model beside the engine of its wheel",
    "thrift": "real commits replayed: characters embedded per character changed",
    "work": "processor time of a document of a backfill, by part",
    "index": "cold index, unchanged rerun, edits, rename, copy, deletes: Upwell beside its peers",
    "answers": "extractive answers: refusals with and without the gold documents; quotes checked",
    "refusals": "whether a question is answered: each sign weighed, on collections with known answers, in memory",
    "judged": "answers given without the gold document, read and judged: refused or answered rightly",
    "sentences": "which sentence of the hits has the answer: what is said first and after, and weights for it",
    "meaning": "closeness of translated sentences, and of neighbours that say something else",
    "freshness": "close of a dropped file to found by lexical and by semantic search",
    "folders": "watched folders at size: rename, second start beside find, unmount, close to hint",
    "compare": "search quality beside LangChain, LlamaIndex, BM25 alone and dense alone",
    "names": "files found by their names, spelled in several ways; what misleading names cost",
    "retrieval": "BM25 variants and fusions on collections with known answers",
    "kills": "kill -9 of every process in turn while files are indexed; what is paid twice",
    "scale": "what the ledger costs at up to millions of documents, and what ten million would",
    "store": "what storing a chunk costs the embedded Qdrant, by step",
    "query": "queries over 100,000 chunks: what each layer costs beside the bare client, and 100 clients at once",
    "start": "from `upwell up` to the first answer; memory by process with many documents",
    "parse": "text, Markdown and HTML beside unstructured's stock path; what a parser child costs",
}


def main() -> int:
    """Run what is named; without a name, say what there is."""
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        print('make bench ARGS="NAME …", where NAME is one of:')
        for name, meaning in BENCHMARKS.items():
            print(f"  {name:12} {meaning}")
        return 0 if len(sys.argv) < 2 else 2
    module = importlib.import_module(f"tests.bench.{sys.argv[1]}")
    return int(module.main(sys.argv[2:]) or 0)


raise SystemExit(main())
