"""One run: faults and edits by the seed for some minutes, then heal, wait until converged, and check."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis
from sqlalchemy.exc import SQLAlchemyError

from tests.chaos.edits import Edits, real_history
from tests.chaos.plan import Action, make_plan
from tests.chaos.rig import Rig
from tests.chaos.thrift import Thrift
from tests.support.checker import Checker, Finding, Report
from tests.support.endpoint import vectors
from tests.support.proxy import Weather
from tests.support.stack import ROOT
from workers.contract import schema

EDITS = ROOT.parent / "shared" / "data" / "edits"
TICK_S = 0.05
JUNK_EVERY_S = 20.0


@dataclass(frozen=True, slots=True)
class Run:
    """What to run.  ``lease_s`` and ``timeout_s`` are short, so that takeovers happen; late writes stay within both."""

    seed: int
    seconds: float
    heal_s: float = 900.0
    lease_s: float = 10.0
    timeout_s: float = 6.0
    documents: int = 60
    edit_every_s: float = 1.5
    fault_every_s: float = 4.0
    real_edits: bool = True
    real_model: bool = False


@dataclass(slots=True)
class Figures:
    """What happened."""

    actions: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    edits: dict[str, int] = field(default_factory=dict)
    stack_starts: int = 0
    server_starts: dict[str, int] = field(default_factory=dict)
    healed_s: float | None = None
    report: Report = field(default_factory=Report)
    thrift: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Return the figures as JSON has them."""
        return {
            "documents": self.report.documents,
            "chunks": self.report.chunks,
            "vectors_compared": self.report.vectors_compared,
            "actions": dict(sorted(self.actions.items())),
            "actions_without_a_target": self.missed,
            "faults": dict(sorted(self.faults.items())),
            "edits": dict(sorted(self.edits.items())),
            "stack_starts": self.stack_starts,
            "server_starts": self.server_starts,
            "seconds_to_heal": self.healed_s and round(self.healed_s, 1),
            "thrift": self.thrift,
            "violations": self.violations,
        }


class Loop:
    """Plays the plan against the rig."""

    def __init__(self, run: Run, home: Path, say: Callable[[str], None]) -> None:
        self.run_ = run
        self.home = home
        self.say = say
        self.figures = Figures()
        self.draw = random.Random(f"victims {run.seed}")
        self.weather_until: dict[str, float] = {}
        self.journal = (home / "actions.log").open("w")

    def play(self) -> Figures:
        """Run it all; the figures say whether it was clean."""
        run = self.run_
        with Rig(
            self.home / "rig", run.seed, lease_s=run.lease_s, timeout_s=run.timeout_s, real_model=run.real_model
        ) as rig:
            self.rig = rig
            self.thrift = Thrift(rig.proxies["embeddings"])
            edits = self._edits(rig.docs)
            self._break(edits)
            self._heal()
            self._finish(edits)
        self.journal.close()
        return self.figures

    def _edits(self, docs: Path) -> Edits:
        run = self.run_
        real = run.real_edits and EDITS.is_dir()
        commits = real_history(EDITS, docs) if real else None
        edits = Edits(docs, run.seed, commits=commits)
        if not real:
            edits.start(run.documents)
        return edits

    # ------------------------------------------------------------------ breaking

    def _break(self, edits: Edits) -> None:
        run = self.run_
        plan = make_plan(run.seed, run.seconds, lease_s=run.lease_s, every_s=run.fault_every_s)
        (self.home / "plan.log").write_text("\n".join(map(str, plan)) + "\n")
        started = time.monotonic()
        next_edit = next_junk = 0.0
        while (now := time.monotonic() - started) < run.seconds:
            while plan and plan[0].at <= now:
                self._do(plan.pop(0), now)
            if now >= next_edit:
                next_edit += run.edit_every_s
                self._note(now, "edit " + edits.step())
            if now >= next_junk:
                next_junk += JUNK_EVERY_S
                self.rig.throw_junk()
            for server, until in list(self.weather_until.items()):
                if now >= until:
                    del self.weather_until[server]
                    self.rig.proxies[server].weather = Weather()
            self.rig.tick()
            time.sleep(TICK_S)

    def _do(self, action: Action, now: float) -> None:
        rig, done = self.rig, True
        match action.kind:
            case "kill":
                done = rig.kill(action.target, self.draw)
            case "freeze":
                done = rig.freeze(action.target, action.seconds, self.draw)
            case "kill-server":
                rig.servers[action.target].kill(action.seconds)
            case "empty-broker":
                rig.empty_broker(action.seconds)
            case "flush":
                done = rig.flush()
            case "break":
                rig.proxies[action.target].break_connections()
            case "power-cut":
                rig.power_cut(action.seconds, self.draw)
            case "weather":
                late_s = self.run_.lease_s  # a write is never later than the protocol waits for it
                rig.proxies[action.target].weather = Weather(action.shares, latency_s=2.0, late_s=late_s)
                self.weather_until[action.target] = now + action.seconds
        self._note(now, str(action) if done else f"{action} (nobody there)")
        if not done:
            self.figures.missed += 1
        else:
            self.figures.actions[f"{action.kind} {action.target}"] += 1
            if action.kind in ("kill", "freeze", "power-cut"):
                self.thrift.disturbed(action.target)

    def _note(self, now: float, text: str) -> None:
        self.journal.write(f"{now:7.1f} {text}\n")
        self.journal.flush()

    # ------------------------------------------------------------------ healing and judging

    def _heal(self) -> None:
        rig = self.rig
        self.say("healing")
        started = time.monotonic()
        rig.heal()
        engine = schema.open_ledger(f"sqlite:///{rig.stack.data}/ledger.db")
        broker = redis.Redis.from_url(rig.broker_url, socket_timeout=5)
        self.checker = Checker(
            {"docs": rig.docs},
            rig.qdrant_url,
            "upwell",
            engine,
            None if self.run_.real_model else lambda texts: vectors(texts, rig.endpoint.behaviour.dimensions),
            sample=10_000,
            broker=broker,
        )
        self.left: list[Finding] = []
        while time.monotonic() - started < self.run_.heal_s:
            rig.tick()
            if self._quiet():
                self.figures.healed_s = time.monotonic() - started
                return
            time.sleep(0.5)
        self.figures.violations.append(f"not converged {self.run_.heal_s:.0f} s after everything was healed")
        self.figures.violations += [str(finding) for finding in self.left[:20]]

    def _quiet(self) -> bool:
        """Tell whether upwell says that it is done, and nothing that could still do something is left."""
        if any(proxy.late for proxy in self.rig.proxies.values()):
            return False
        try:
            if not self.rig.stack.status()["converged"]:
                return False
            self.left = self.checker.unfinished()
        except (httpx.HTTPError, OSError, KeyError, ValueError, SQLAlchemyError, redis.RedisError):
            return False
        return not self.left

    def _finish(self, edits: Edits) -> None:
        figures, rig = self.figures, self.rig
        figures.report = self.checker.check()
        # A sweep may have sent a hint in this very moment; what lasts is what counts.
        last = [finding for finding in figures.report.findings if finding.kind != "unfinished"]
        if figures.healed_s is not None:
            deadline = time.monotonic() + 20
            while (left := self.checker.unfinished()) and time.monotonic() < deadline:
                time.sleep(0.5)
            last += left
        figures.report.findings = last
        figures.violations += [str(finding) for finding in last]
        figures.violations += [f"upwell up gave up: {line}" for line in rig.gave_up]
        for name, proxy in rig.proxies.items():
            figures.faults.update({f"{name} {fault}": count for fault, count in proxy.done.items()})
        figures.edits = edits.steps
        figures.stack_starts = rig.stack_starts
        figures.server_starts = {name: server.starts for name, server in rig.servers.items()}
        figures.thrift = self.thrift.told()
        (self.home / "thrift.json").write_text(json.dumps(self.thrift.repeats(), indent=1))
        (self.home / "findings.txt").write_text(str(figures.report) + "\n" + "\n".join(figures.violations) + "\n")
        (self.home / "figures.json").write_text(json.dumps(figures.told(), indent=1) + "\n")


def clean_up(home: Path) -> None:
    """Keep the figures and the plan; the rest of a clean run is of no use."""
    shutil.rmtree(home / "rig", ignore_errors=True)
