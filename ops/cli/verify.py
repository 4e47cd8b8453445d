"""`upwell verify`: do sources, ledger and index agree, and if not, make them."""

from __future__ import annotations

import time
from typing import Any

import typer

from ops.cli.client import Api, find_api
from ops.cli.errors import CliError
from ops.cli.output import JSON_OPTION, clean, print_json
from ops.cli.status import ProgressLine

EVERY_S = 0.5
NOBODY_S = 30.0
SHOWN = 5


def verify(
    repair: bool = typer.Option(False, "--repair", help="Make right what is wrong, and look again."),
    deep: bool = typer.Option(False, "--deep", help="Read every file again instead of trusting its size and times."),
    accept_foreign: bool = typer.Option(
        False, "--accept-foreign", help="Points that somebody else has put into the collection are fine."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Compare files, ledger and Qdrant, each with the others.

    Environment: UPWELL_API_URL, UPWELL_API_KEY.

    A housekeeper (upwell worker beat) does the work; documents that change meanwhile raise no alarm. The exit code is 0
    only if everything agrees: with --repair, after the repair.
    """
    audit = _follow(find_api(), {"repair": repair, "deep": deep})
    report = audit["report"] or {}
    well = _well(report, accept_foreign=accept_foreign)
    if as_json:
        print_json(audit | {"ok": well})
    else:
        _show(report, well=well)
    if not well:
        raise CliError(_what_now(report, repair=repair))


def _follow(api: Api, wanted: dict[str, bool]) -> dict[str, Any]:
    """Ask for an audit and wait for its report."""
    key = api.post("/v1/verify", wanted)["id"]
    line = ProgressLine()
    begun = time.monotonic()
    try:
        while True:
            audit: dict[str, Any] = api.get(f"/v1/verify/{key}")
            if audit["state"] in ("done", "failed"):
                return audit
            if audit["state"] == "asked" and time.monotonic() - begun > NOBODY_S:
                running = api.get("/v1/verify")["running"]
                if running is None or running["id"] == key:
                    raise CliError(
                        f"No housekeeper has taken the audit within {NOBODY_S:.0f} s. Start one: upwell worker beat"
                        " (see upwell status)."
                    )
            line.show(_progress(audit))
            time.sleep(EVERY_S)
    finally:
        line.close()


def _progress(audit: dict[str, Any]) -> str:
    told = audit["progress"]
    if not told:
        return "waiting for a housekeeper"
    if told.get("step") == "settling":
        return f"repaired; waiting until it has come to rest ({told.get('repaired', 0)} looked at again)"
    counts = ", ".join(f"{told.get(name, 0):,} {name}" for name in ("files", "points", "documents"))
    return f"{told.get('step')}: {counts}"


def _well(report: dict[str, Any], *, accept_foreign: bool) -> bool:
    if report.get("clean") or not accept_foreign or "failed" in report:
        return bool(report.get("clean"))
    open_findings = set(report.get("after", report.get("findings", {})))
    open_findings |= {kind for kind in report.get("findings", {}) if kind == "vanished"}
    return not (open_findings - {"foreign"} or report.get("unchecked") or report.get("unsettled"))


def _show(report: dict[str, Any], *, well: bool) -> None:
    if "failed" in report:
        return
    counts = f"{report['documents']:,} documents, {report['points']:,} points, {report['files']:,} files"
    print(f"{'all is well' if well else 'not all is well'}: {counts} compared in {report.get('took_s', 0):g} s")
    if report.get("busy"):
        print(f"{report['busy']:,} documents were changing meanwhile; they are made true anyway")
    repaired, after = report.get("repaired", {}), report.get("after")
    for kind, found in report["findings"].items():
        done = "" if after is None else f", {repaired.get(kind, 0)} repaired"
        done += f", {after[kind]['documents']} still so" if after and kind in after else ""
        print(f"\n{kind}: {found['documents']:,} documents, {found['points']:,} points{done}")
        for each in found["examples"][:SHOWN]:
            where = "/".join(part for part in (each["source"], each["path"]) if part) or each["id"]
            print(f"  {clean(where)}: {clean(each['why'])}")
        if found["documents"] > SHOWN:
            print("  …")
        if after is None or kind in after or kind in ("foreign", "vanished"):
            print(f"  what to do: {found['remedy']}")
    for each in report.get("unchecked", []):
        print(f"\nnot compared: the files of {clean(each['source'])}. {clean(each['why'])}")


def _what_now(report: dict[str, Any], *, repair: bool) -> str:
    if "failed" in report:
        return f"The audit could not be done: {report['failed']}"
    if report.get("unsettled"):
        return f"{report['unsettled']:,} documents are still being repaired. Follow with: upwell status --wait"
    if not repair and report.get("findings"):
        return "Not everything agrees. Repair with: upwell verify --repair"
    return "Not everything agrees; see above what is left to do."
