"""`upwell evaluate`: how good search and answers are on questions whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from ops.cli.client import Api, find_api
from ops.cli.errors import CliError, UsageError
from ops.cli.output import JSON_OPTION, counted, print_json, remark
from ops.cli.search import Mode

if TYPE_CHECKING:
    from ops.cli.judgements import Question
    from ops.cli.measures import System


def evaluate(
    questions: Path | None = typer.Argument(
        None,
        metavar="QUERIES",
        help="A BEIR folder (queries.jsonl, qrels.tsv), or a .jsonl or .csv file of questions.",
    ),
    from_feedback: bool = typer.Option(
        False, "--from-feedback", help="Questions and hits that people judged (POST /v1/feedback), instead of QUERIES."
    ),
    synthesize: int | None = typer.Option(
        None,
        "--synthesize",
        metavar="N",
        min=1,
        max=10_000,
        help="N questions that the chat model writes about passages of the index, instead of QUERIES.",
    ),
    seed: int = typer.Option(0, "--seed", help="Which passages --synthesize takes; the same seed takes the same."),
    save: Path | None = typer.Option(
        None, "--save", metavar="DIR", help="Keep the questions in a new folder in BEIR layout."
    ),
    mode: Mode = typer.Option(Mode.HYBRID, case_sensitive=False, help="How to search."),
    answers: bool = typer.Option(False, "--answers", help="Ask for the answers, too, and measure them."),
    against: str | None = typer.Option(
        None,
        "--against",
        metavar="mode=MODE|URL",
        help="Measure another mode, or the Upwell at another address (another collection), and compare.",
    ),
    k: int = typer.Option(10, "-k", min=1, max=100, help="Documents that count for nDCG and recall."),
    span_k: int = typer.Option(5, "--span-k", min=1, max=100, help="Chunks that count for span recall."),
    most: int | None = typer.Option(None, "--first", min=1, help="Only the first so many questions."),
    parallel: int = typer.Option(
        1, "--parallel", min=1, max=32, help="Answers, or questions to be written, at a time."
    ),
    per_query: Path | None = typer.Option(
        None, "--per-query", help="Write each question's figures and answer here, as JSON lines."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure the running search on questions with known answers: nDCG, recall, MRR, span recall, latency.

    With --answers also how often questions are answered or refused, rightly or not, and whether the citations hold.
    A document is named by its path, its file name (with or without ending) or its id.

    Environment: UPWELL_API_URL, UPWELL_API_KEY; for --against URL its key is UPWELL_AGAINST_API_KEY.
    """
    from ops.cli.testsets import save_questions

    here = find_api()
    measured = systems(here, mode, against)
    if [questions is not None, from_feedback, synthesize is not None].count(True) != 1:
        raise UsageError("Name a test set, or --from-feedback, or --synthesize N: one of the three.")
    _make_room(save, per_query)
    if synthesize is not None:
        asked, more = _written(here, synthesize, seed, parallel)
    else:
        asked, more = _read(here, questions)
    asked = asked[:most]
    more |= {"documents": _presence(here, asked)}
    if save is not None:
        save_questions(save, asked)
    report, rows = _measure(asked, measured, answers, k, span_k, parallel)
    report |= more
    if per_query is not None:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        _write(per_query, "\n".join(lines) + "\n")
    if as_json:
        print_json(report)
    else:
        _tell(report, len(asked), save)


def _make_room(save: Path | None, per_query: Path | None) -> None:
    """Fail now where what is measured could not be kept, and not when everything has been measured."""
    from ops.cli.testsets import require_new

    if save is not None:
        require_new(save)
    if per_query is not None:
        _write(per_query, "")


def _presence(here: Api, asked: Sequence[Question]) -> dict[str, Any]:
    """Return which documents of the questions are in the index, and say it when some are not."""
    from ops.cli import presence

    found = presence.presence(here, asked)
    if (fault := presence.told(found)) is not None:
        remark(f"upwell: {fault}")
    return found


def _tell(report: dict[str, Any], questions: int, saved: Path | None) -> None:
    """Print the figures, and where the questions came from and went to."""
    from ops.cli.figures import table

    print(counted(questions, "question"))
    print("\n".join(table(report)))
    if "feedback" in report:
        print(_judged(report["feedback"]))
    if "synthesis" in report:
        print(f"questions by {report['synthesis']['generated_by']}, about {questions} passages of the index")
    if saved is not None:
        remark(f"upwell: the questions are in {saved}. Measure with them again: upwell evaluate {saved}")


def systems(here: Api, mode: Mode, against: str | None) -> list[System]:
    """Return what is measured: the running search, and what it is compared with.

    Raises:
        UsageError: ``against`` is neither a mode nor an address, or is the same thing again.
    """
    from ops.cli.measures import System
    from ops.cli.settings import ClientSettings

    if against is None:
        return [System(mode.value, here, mode.value)]
    if against.startswith(("http://", "https://")):
        key = ClientSettings().against_api_key
        other = Api(against, key.get_secret_value() if key else None, origin=" (--against)", setting="--against")
        names = [urlsplit(each.url).netloc for each in (here, other)]
        if names[0] == names[1]:
            names = [here.url, other.url]
        one, another = System(names[0], here, mode.value), System(names[1], other, mode.value)
    else:
        wanted = against.removeprefix("mode=")
        if wanted not in list(Mode):
            raise UsageError(
                f"--against {against!r} is neither a mode nor an address. Write mode=lexical, or http://HOST:PORT"
            )
        one, another = System(mode.value, here, mode.value), System(wanted, here, wanted)
    if one.name == another.name:
        raise UsageError("--against names what is measured anyway. Name another mode or another address.")
    return [one, another]


def _read(here: Api, place: Path | None) -> tuple[list[Question], dict[str, Any]]:
    """Return the questions of a test set, or (None) those that people judged; and what else is to be reported of them.

    Raises:
        CliError: there are none.
    """
    from ops.cli.feedback import read_feedback
    from ops.cli.judgements import read_questions

    if place is not None:
        return read_questions(place), {}
    found = read_feedback(here)
    if not found.questions:
        raise CliError(
            "Nobody has judged a hit of a document that is still there. Thumbs on the console do, or POST /v1/feedback."
        )
    return list(found.questions), {"feedback": found.as_json()}


def _written(here: Api, wanted: int, seed: int, parallel: int) -> tuple[list[Question], dict[str, Any]]:
    from ops.cli.synthesis import synthesize

    made = synthesize(here, wanted, seed=seed, parallel=parallel)
    if len(made.questions) < wanted:
        why = made.why or "There are no more passages."
        remark(f"upwell: {len(made.questions)} questions, not {wanted}. {why}")
    return made.questions, {"synthesis": made.as_json()}


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise CliError(f"{file} cannot be written: {exc.strerror}. Name another file.") from exc


def _judged(feedback: Mapping[str, Any]) -> str:
    hits, answers = feedback["hits"], feedback["answers"]
    told = f"judged by people: hits {hits['up']} good, {hits['down']} not"
    if hits["gone"]:
        told += f" ({hits['gone']} of documents that are gone)"
    if answers["share"] is not None:
        told += f"; answers {answers['up']} good, {answers['down']} not ({answers['share']:.1%} good)"
    return told


def _measure(
    asked: Sequence[Question], measured: Sequence[System], answers: bool, k: int, span_k: int, parallel: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the report, and every question's figures as rows."""
    from ops.cli import figures, measures

    found = {one.name: measures.search_all(one, asked, k, span_k) for one in measured}
    said = {one.name: measures.answer_all(one, asked, parallel) for one in measured} if answers else {}
    runs = {name: figures.of_searches(rows) for name, rows in found.items()}
    for name, given in said.items():
        runs[name]["answers"] = figures.of_answers(given)
    report: dict[str, Any] = {"questions": len(asked), "k": k, "span_k": span_k, "runs": runs}
    if len(measured) == 2:
        one, other = found.values()
        report["comparison"] = figures.compared(one, other, figures.SEARCH)
        if said:
            first, second = said.values()
            report["comparison"] |= figures.compared(first, second, figures.ANSWER)
    rows: list[dict[str, Any]] = []
    for name, hits in found.items():
        told: list[dict[str, Any]] = [{"answer": asdict(each)} for each in said[name]] if said else [{} for _ in hits]
        rows += [{"system": name, **asdict(hit), **more} for hit, more in zip(hits, told, strict=True)]
    return report, rows
