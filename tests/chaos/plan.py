"""Which fault happens when: derived from the seed alone, so that a run can be played again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

from tests.support.proxy import BYTES_ONLY, Fault

Kind = Literal[
    "kill",  # SIGKILL a process of the stack
    "freeze",  # SIGSTOP, and SIGCONT after `seconds`
    "kill-server",  # SIGKILL Valkey or Qdrant; it comes back with its data after `seconds`
    "empty-broker",  # Valkey comes back with nothing
    "flush",  # FLUSHALL
    "weather",  # faults on the way to a server, for `seconds`
    "break",  # every connection to a server is reset, once
    "power-cut",  # SIGKILL everything at once
]

PROCESSES = ("index", "index-2", "watch", "beat", "api", "query", "parser", "supervisor", "guard")
SERVERS = ("broker", "qdrant", "embeddings")
# Parsers and index workers hold documents: a document may end the worker that holds it three times before it is parked,
# so kills of these are spread more than a lease apart.
KILLS = {
    "index": 5,
    "index-2": 5,
    "watch": 4,
    "beat": 3,
    "api": 2,
    "query": 1,
    "parser": 3,
    "supervisor": 1,
    "guard": 1,
}
FREEZES = {"index": 4, "index-2": 4, "watch": 2, "beat": 2, "parser": 1, "api": 1}
KINDS = {
    "kill": 8,
    "freeze": 5,
    "kill-server": 3,
    "empty-broker": 1,
    "flush": 2,
    "weather": 9,
    "break": 2,
    "power-cut": 1,
}


@dataclass(frozen=True, slots=True)
class Action:
    """One fault: when (seconds from the start), what, to whom, for how long, and how bad."""

    at: float
    kind: Kind
    target: str
    seconds: float = 0.0
    shares: dict[Fault, float] = field(default_factory=dict)

    def __str__(self) -> str:
        length = f" for {self.seconds:.1f} s" if self.seconds else ""
        shares = " ".join(f"{fault}={share:.2f}" for fault, share in self.shares.items())
        return f"{self.at:7.1f} {self.kind} {self.target}{length} {shares}".rstrip()


def make_plan(seed: int, seconds: float, *, lease_s: float, every_s: float = 4.0) -> list[Action]:
    """Return the faults of a run of ``seconds``, one about every ``every_s``, in order of time."""
    draw = random.Random(f"faults {seed}")
    actions: list[Action] = []
    holds_documents = 0.0
    at = every_s / 2
    while at < seconds:
        action = _draw(draw, at, lease_s)
        if action.kind in ("kill", "power-cut") and action.target in ("index", "index-2", "parser", "guard", "all"):
            if at < holds_documents:
                action = Action(at, "weather", *_weather(draw))
            else:
                holds_documents = at + lease_s
        actions.append(action)
        at += draw.uniform(0.25, 1.75) * every_s
    return actions


def _draw(draw: random.Random, at: float, lease_s: float) -> Action:
    kind: Kind = draw.choices(list(KINDS), list(KINDS.values()))[0]  # type: ignore[assignment]
    match kind:
        case "kill":
            return Action(at, kind, draw.choices(list(KILLS), list(KILLS.values()))[0])
        case "freeze":
            # Now and then longer than a lease, so that others take over before it thaws.
            length = lease_s * draw.uniform(1.2, 2.0) if draw.random() < 0.4 else draw.uniform(0.5, 4.0)
            return Action(at, kind, draw.choices(list(FREEZES), list(FREEZES.values()))[0], length)
        case "kill-server":
            return Action(at, kind, draw.choice(("broker", "qdrant")), draw.uniform(0.2, 6.0))
        case "empty-broker":
            return Action(at, kind, "broker", draw.uniform(0.2, 4.0))
        case "flush":
            return Action(at, kind, "broker")
        case "break":
            return Action(at, kind, draw.choice(SERVERS))
        case "power-cut":
            return Action(at, kind, "all", draw.uniform(0.5, 3.0))
        case _:
            return Action(at, "weather", *_weather(draw))


def _weather(draw: random.Random) -> tuple[str, float, dict[Fault, float]]:
    """Return (server, seconds, shares): one kind of fault often, or several now and then."""
    server = draw.choice(SERVERS)
    possible = BYTES_ONLY if server == "broker" else tuple(Fault)
    if draw.random() < 0.6:
        shares = {draw.choice(possible): round(draw.uniform(0.2, 0.7), 2)}
    else:
        shares = {fault: round(draw.uniform(0.03, 0.12), 2) for fault in draw.sample(possible, 4)}
    return server, draw.uniform(3.0, 12.0), shares
