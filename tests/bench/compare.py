"""Retrieval beside other pipelines: the same files, questions and embedding endpoint for all.

    make bench ARGS="compare cranfield covidqa xquad cuad"
    make bench ARGS="compare cuad --documents 25 --systems upwell,langchain"

Upwell is a whole `upwell up` over the folder, asked through `POST /v1/search/batch`: hybrid as a user gets it, where
passages are wanted also with each chunk by itself and with the chunks around; BM25 alone (lexical) and dense alone
(semantic), chunk by chunk.  LangChain and LlamaIndex run their default Qdrant pipelines
(tests/bench/peers/search_*.py, in the environment of `make bench-peers`) against an embedded Qdrant of their own.

A document's place is that of its best chunk; 50 chunks are asked for, so that ten documents come out.  A span counts as
found when one text of its document has at least half of it: among the first five hits, and within the first 4,000
characters of the hits, which is the same reading for every chunk size.  Vectors are remembered on disk
(tests/bench/remembered.py): a second run embeds nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

from tests.bench import beir
from tests.bench.answers import Vectors
from tests.bench.beir import Collection, Places, Question
from tests.bench.memory import Memory
from tests.conftest import HOST, ROOT, answers, free_port, module, running
from tests.support.stack import Stack, environment
from workers.adapters.language import NAMES
from workers.indexing.chunk import ChunkOptions, chunk
from workers.indexing.parse.formats import parse_file
from workers.indexing.values import Parsed
from workers.query.evaluation import compare, mean, ndcg
from workers.query.requests import SearchRequest
from workers.query.search import search_many

MODEL = "multilingual-e5-small-q4"
PEERS = ("langchain", "llamaindex")
MODES = {"upwell": "hybrid", "lexical": "lexical", "dense": "semantic"}
PASSAGES: dict[str, dict[str, Any]] = {
    "chunks": {"join": False},
    "one beside": {"neighbours": 1},
    "two beside": {"neighbours": 2},
}
"""Upwell otherwise than by default, where passages are wanted: each chunk by itself, and each hit with what stands
before and after it, which makes it about as long as a peer's."""

OWN = ("upwell", *PASSAGES)
SYSTEMS = (*OWN, "lexical", "dense", *PEERS)
DEEP = 50
"""Chunks that are asked for where documents are wanted."""
FIRST = 10
"""Chunks that are asked for where passages are wanted: what a search gives by default."""
SPANNED = ("covidqa", "cuad")
SPAN_HITS, SPAN_CHARS = 5, 4000
BATCH = 16

Post = Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]
"""Several searches, and what the api would answer to each."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a system found."""

    document: str
    content: str


@dataclass(slots=True)
class Answers:
    """Hits by question: a deep list for documents, a short one for passages."""

    deep: dict[str, list[Hit]] = field(default_factory=dict)
    first: dict[str, list[Hit]] = field(default_factory=dict)


def main(words: Sequence[str]) -> int:
    """Run what is asked for and print a table for each measure."""
    options = _options(words)
    wanted = [name for name in options.systems.split(",") if name]
    if set(wanted) & set(PEERS) and not options.python.exists() and not options.fill:
        raise SystemExit(
            f"There is no {options.python}: run `make bench-peers` first, or leave out {', '.join(PEERS)}."
        )
    options.work.mkdir(parents=True, exist_ok=True)
    collections = [each for name in options.collections for each in beir.read(name, options.documents)]
    collections = [each for each in collections if not options.only or each.name in options.only]
    results: dict[str, dict[str, list[float | None]]] = {}
    with _endpoint(options.vectors, options.endpoint) as endpoint:
        if options.fill:
            for collection in collections:
                warm(collection, endpoint)
            return 0
        for collection in collections:
            # The path is part of what one peer embeds: it is short, and the same in every run.
            folder = options.work / collection.name
            collection.write(folder)
            print(f"{collection.name}: {len(collection.files)} files", file=sys.stderr, flush=True)
            found = {name: _asked(name, collection, folder, endpoint, options) for name in wanted if name in PEERS}
            modes = [name for name in wanted if name in MODES or (name in PASSAGES and collection.name in SPANNED)]
            if modes:
                if options.in_memory:
                    found |= _in_memory(modes, collection, options.vectors)
                else:
                    warm(collection, endpoint)
                    found |= _upwell(modes, collection, folder, endpoint)
            if options.keep:
                _keep(options.keep, collection, found)
                kept = {name: _kept(options.keep, collection, name) for name in SYSTEMS if name not in wanted}
                found |= {name: _read_kept(file) for name, file in kept.items() if file.exists()}
            for name in filter(found.__contains__, SYSTEMS):
                for title, scores in _scores(collection, found[name]).items():
                    results.setdefault(title, {})[name] = scores
            _table({title: of for title, of in results.items() if title.startswith(tuple(collection.groups))})
    print()
    _table(results | _pooled(results))
    return 0


# -------------------------------------------------------------------------------------------------------- measures


def _scores(collection: Collection, found: Answers) -> dict[str, list[float | None]]:
    """Return each measure's value for every question, by title."""
    scores: dict[str, list[float | None]] = {}
    texts = {name.rpartition(".")[0]: text for name, text in collection.files.items()}
    places: dict[str, Places] = {}
    for group, questions in collection.groups.items():
        if found.deep:
            scores[f"{group}: nDCG@10"] = [_ndcg(found.deep[one.key], one) for one in questions]
        located = [one for one in questions if one.spans and one.document in texts]
        if collection.name not in SPANNED or not located:
            continue
        rows = []
        for one in located:
            assert one.document is not None
            place = places.setdefault(one.document, Places(texts[one.document]))
            rows.append(_found_span(found.first[one.key], one, place))
        titles = ("span@5", "span in 4,000 characters", "characters in 5")
        for title, column in zip(titles, zip(*rows, strict=True), strict=True):
            scores[f"{group}: {title}"] = list(column)
    return scores


def _ndcg(hits: Sequence[Hit], question: Question) -> float | None:
    return ndcg(list(dict.fromkeys(hit.document for hit in hits)), question.grades)


def _found_span(hits: Sequence[Hit], question: Question, place: Places) -> tuple[float, float, float]:
    five = hits[:SPAN_HITS]
    return (
        float(any(hit.document == question.document and place.has(hit.content, question.spans) for hit in five)),
        float(any(hit.document == question.document and place.has(hit.content, question.spans) for hit in _read(hits))),
        float(sum(len(hit.content) for hit in five)),
    )


def _read(hits: Sequence[Hit]) -> Iterator[Hit]:
    """Yield what somebody has read of the hits after so many characters."""
    left = SPAN_CHARS
    for hit in hits:
        yield Hit(hit.document, hit.content[:left])
        left -= len(hit.content)
        if left <= 0:
            return


def _table(results: Mapping[str, Mapping[str, Sequence[float | None]]]) -> None:
    names = [name for name in SYSTEMS if any(name in scores for scores in results.values())]
    print(f"{'':<36} {'questions':>9} " + " ".join(f"{name:>10}" for name in names) + "  against the best other")
    for title, scores in results.items():
        means = {name: mean(values) or 0.0 for name, values in scores.items()}
        digits = 0 if title.endswith("characters in 5") else 4
        shown = (f"{means[name]:10.{digits}f}" if name in means else f"{'–':>10}" for name in names)
        print(
            f"{title:<36} {len(next(iter(scores.values()))):9}",
            *shown,
            _against_the_best(scores, means) if digits else "",
        )
    sys.stdout.flush()


def _pooled(results: Mapping[str, Mapping[str, list[float | None]]]) -> dict[str, dict[str, list[float | None]]]:
    """Return the questions of all languages together: those within a language, and those across languages."""
    pooled = {}
    for name, across in (("xquad, within all languages", False), ("xquad, all to en", True)):
        parts = [of for title, of in results.items() if title.startswith("xquad ") and (" to " in title) == across]
        if len(parts) > 1:
            systems = [system for system in SYSTEMS if all(system in part for part in parts)]
            pooled[name] = {system: [value for part in parts for value in part[system]] for system in systems}
    return pooled


def _against_the_best(scores: Mapping[str, Sequence[float | None]], means: Mapping[str, float]) -> str:
    others = [name for name in scores if name not in OWN]
    if "upwell" not in scores or not others:
        return ""
    best = max(others, key=means.__getitem__)
    found = compare(scores["upwell"], scores[best], samples=4000)
    return f" {found.difference:+.4f} (p {found.p:.3f}) {best}"


def _keep(folder: Path, collection: Collection, found: Mapping[str, Answers]) -> None:
    """Write what each system found, for the next table and for whoever wants to know why."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, each in found.items():
        kept = {
            "deep": {key: [hit.document for hit in hits] for key, hits in each.deep.items()},
            "first": {key: [[hit.document, hit.content] for hit in hits] for key, hits in each.first.items()},
        }
        _kept(folder, collection, name).write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")


def _kept(folder: Path, collection: Collection, name: str) -> Path:
    return folder / f"{collection.name}.{len(collection.files)}.{name}.json"


def _read_kept(file: Path) -> Answers:
    kept = json.loads(file.read_text(encoding="utf-8"))
    return Answers(
        {key: [Hit(document, "") for document in documents] for key, documents in kept["deep"].items()},
        {key: [Hit(document, content) for document, content in hits] for key, hits in kept["first"].items()},
    )


# --------------------------------------------------------------------------------------------------------- systems


def warm(collection: Collection, endpoint: str) -> None:
    """Let the endpoint compute what Upwell will send, so that the stack waits for no vector."""
    client = openai.OpenAI(base_url=endpoint, api_key="none", timeout=3600)
    texts: list[str] = []
    for name, text in collection.files.items():
        with tempfile.TemporaryFile() as file:
            file.write(text.encode())
            file.flush()
            parsed = parse_file(file.fileno(), name, 10**8)
        texts += [each.embedded_text for each in chunk(name, parsed, ChunkOptions())]
    print(f"{len(texts)} chunks", file=sys.stderr, flush=True)
    asked = [one.text for questions in collection.groups.values() for one in questions]
    for kind, some in (("query", asked), ("passage", texts)):
        for start in range(0, len(some), BATCH):
            client.embeddings.create(model=f"{MODEL}-{kind}", input=some[start : start + BATCH])


def _upwell(modes: Sequence[str], collection: Collection, folder: Path, endpoint: str) -> dict[str, Answers]:
    with tempfile.TemporaryDirectory(prefix="upwell-bench-", ignore_cleanup_errors=True) as scratch:
        settings = {"UPWELL_EMBEDDINGS_URL": endpoint, "UPWELL_EMBEDDINGS_MODEL": MODEL, "UPWELL_LOG_LEVEL": "warning"}
        with Stack(Path(scratch), folder, **settings) as stack:
            stack.wait_converged(len(collection.files), timeout=600)
            # The counts of a status may be some seconds older than its verdict.
            stack.wait_for(lambda: stack.status()["documents"].get("ready", 0) == len(collection.files), 60, every=0.5)
            return {name: _searched(lambda some: _post(stack.client, some), name, collection) for name in modes}


def _in_memory(modes: Sequence[str], collection: Collection, file: Path) -> dict[str, Answers]:
    """Ask the query worker's own search over an index in memory, without a stack."""
    languages: Counter[str] = Counter()

    def parse(data: bytes, name: str) -> Parsed:
        with tempfile.TemporaryFile() as opened:
            opened.write(data)
            opened.flush()
            parsed = parse_file(opened.fileno(), name, 10**8)
        languages.update([NAMES[parsed.metadata.language or ""]] if parsed.metadata.language in NAMES else [])
        return parsed

    remembered = Vectors(file, mode="hybrid")
    index = Memory(collection.files, remembered, (), parse=parse)
    index.speaks(tuple(name for name, _ in languages.most_common(3)))

    def post(searches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        requests = [SearchRequest.model_validate(search) for search in searches]
        return [result.as_json() for result in search_many(requests, index=index, embedder=remembered)]

    return {name: _searched(post, name, collection) for name in modes}


def _searched(post: Post, name: str, collection: Collection) -> Answers:
    found = Answers()
    mode = MODES.get(name, "hybrid")
    shown = {} if name == "upwell" else PASSAGES.get(name, {"join": False})
    questions = [one for group in collection.groups.values() for one in group]
    for start in range(0, len(questions), BATCH):
        some = questions[start : start + BATCH]
        if name not in PASSAGES:
            for one, hits in zip(some, _batch(post, some, {"mode": mode, "limit": DEEP}), strict=True):
                found.deep[one.key] = hits
        located = [one for one in some if one.spans]
        for one, hits in zip(located, _batch(post, located, {"mode": mode, "limit": FIRST, **shown}), strict=True):
            found.first[one.key] = hits
    return found


def _post(client: httpx.Client, searches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    answer = client.post("/v1/search/batch", json={"searches": searches}, headers={"X-Upwell-Log": "off"})
    answer.raise_for_status()
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def _batch(post: Post, questions: Sequence[Question], wanted: Mapping[str, Any]) -> list[list[Hit]]:
    if not questions:
        return []
    results = post([{"query": one.text, **wanted} for one in questions])
    if any(result["mode"] != wanted["mode"] for result in results):
        raise SystemExit(f"searched {results[0]['mode']}, not {wanted['mode']}: {results[0]['degraded']}")
    return [[Hit(Path(hit["metadata"]["path"]).stem, _text(hit)) for hit in result["hits"]] for result in results]


def _text(hit: Mapping[str, Any]) -> str:
    beside = {0: hit["content"]} | {other["offset"]: other["content"] for other in hit.get("neighbours", ())}
    return "\n\n".join(beside[offset] for offset in sorted(beside))


def _asked(name: str, collection: Collection, folder: Path, endpoint: str, options: argparse.Namespace) -> Answers:
    """Run a peer over the folder and the questions."""
    script = Path(__file__).parent / "peers" / f"search_{name}.py"
    questions = {one.key: one for group in collection.groups.values() for one in group}
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch, _qdrant(Path(scratch)) as url:
        asked, told = Path(scratch) / "questions", Path(scratch) / "answers"
        lines = [json.dumps({"key": one.key, "text": one.text}) for one in questions.values()]
        asked.write_text("\n".join(lines) + "\n", encoding="utf-8")
        words = [options.python, script, folder, endpoint, url, asked, told, DEEP]
        quiet = {"ANONYMIZED_TELEMETRY": "false", "DO_NOT_TRACK": "1"}
        subprocess.run([str(word) for word in words], env=environment(**quiet), check=True)
        rows = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    hits = {row["key"]: [Hit(hit["document"], hit["content"]) for hit in row["hits"]] for row in rows}
    return Answers(hits, {key: found[:FIRST] for key, found in hits.items()})


@contextmanager
def _qdrant(directory: Path) -> Iterator[str]:
    url = f"http://{HOST}:{(port := free_port())}"
    with running(
        module("ops.embedded.qdrant", port, "--path", str(directory / "qdrant")), lambda: answers(f"{url}/readyz")
    ):
        yield url


@contextmanager
def _endpoint(vectors: Path, given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    url = f"http://{HOST}:{(port := free_port())}"
    command = module("tests.bench.remembered", port, "--vectors", str(vectors))
    with running(command, lambda: answers(f"{url}/health")):
        yield f"{url}/v1"


def _options(words: Sequence[str]) -> argparse.Namespace:
    from tests.bench.remembered import VECTORS

    parser = argparse.ArgumentParser(prog="compare", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("collections", nargs="+", help=f"names below {beir.DATA}")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma separated (default: %(default)s)")
    parser.add_argument("--only", nargs="*", help="only these parts, e.g. xquad-en")
    parser.add_argument("--documents", type=int, help="only the first so many documents (of each language)")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-bench" / "bin" / "python", help="of the peers")
    parser.add_argument("--vectors", type=Path, default=VECTORS, help="where vectors are remembered")
    parser.add_argument("--endpoint", help="an embedding endpoint that runs already, instead of one of our own")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "upwell-compare", help="for the files"
    )
    parser.add_argument("--in-memory", action="store_true", help="Upwell's search without a stack")
    parser.add_argument("--fill", action="store_true", help="only compute the vectors that Upwell will ask for")
    parser.add_argument("--keep", type=Path, help="folder for what was found; systems that do not run are read from it")
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
