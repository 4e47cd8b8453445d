"""A small model of the protocol that makes one document true, and a search through every state it can reach.

One document, a few attempts, two of them alive at once.  An attempt may be killed at every step, frozen for as long as
it likes (other steps simply come first), and taken over at any moment.  A write may be applied and acknowledged, or its
answer is lost (the attempt gives back) or its sender dies: then each chunk of it lands by itself, at any later time, or
never.  Hints need no place in the model: a claim may be tried whenever the ledger says that there is work.

Assumed: a write lands before the verify that a takeover, or a failure, schedules for later (lease plus client timeout);
and an attempt that was overtaken is not killed between sending a write and noticing it.  ``removed`` names the
protections that a run goes without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

ATTEMPTS = 2
HISTORIES = {
    "edit": ("ab", "bc"),
    "revert": ("ab", "bc", "ab"),
    "delete": ("ab", "bc", ""),
    "recreate": ("ab", "", "ab"),
}
NEEDED = ("verify after takeover", "verify after failure", "generation at commit")
"""Without one of these, some schedule of two attempts ends with the wrong chunks for good."""

SPARE = (
    "fence of put",
    "fence of drop",
    "restamp of kept chunks",
    "verify before commit",
    "second look",
    "notice of a lost lease",
    "token at commit",
    "takeover of a dead verify",
)
"""Without one of these, two attempts still end right, because a verify comes after them; they keep what readers see in
the meantime right, save work, or matter with more attempts."""

Store = frozenset[tuple[str, int]]  # (chunk, token)
Op = tuple[str, str, int]  # kind, chunk, token


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: where it is, what it holds, what it has read and seen."""

    at: str
    token: int
    generation: int
    verify: bool
    content: str = ""
    seen: str = ""  # chunks that the index held


@dataclass(frozen=True, slots=True)
class World:
    """Source, ledger, Qdrant, attempts alive, and writes on their way."""

    source: int = 0
    noticed: bool = False  # the watcher has told of the newest source
    desired: int = 0
    indexed: int = 0
    version: str | None = None
    token: int = 0
    leased: bool = False
    verify: str = ""  # "", "later", "due"
    used: int = 0
    store: Store = frozenset()
    net: frozenset[Op] = frozenset()
    alive: tuple[Attempt, ...] = ()


def steps(w: World, history: tuple[str, ...], removed: frozenset[str]) -> Iterator[tuple[str, World]]:
    """Yield (what happens, the world after it) for everything that can happen."""
    if w.source + 1 < len(history):
        yield "edit", replace(w, source=w.source + 1, noticed=False)
    if not w.noticed:
        yield "notice", replace(w, noticed=True, desired=w.desired + 1)
    if w.verify == "later" and not w.net:
        yield "verify is due", replace(w, verify="due")
    for op in w.net:
        yield f"late {op}", replace(w, net=w.net - {op}, store=_applied(w.store, op, removed))
    if _has_work(w, removed) and w.used < ATTEMPTS and len(w.alive) < 2:
        yield "claim", _claimed(w, removed)
    for number, attempt in enumerate(w.alive):
        others = w.alive[:number] + w.alive[number + 1 :]
        for name, after in _attempt_steps(w, attempt, others, history, removed):
            yield f"{attempt.token}: {name}", after


def _has_work(w: World, removed: frozenset[str]) -> bool:
    abandoned = w.leased and "takeover of a dead verify" not in removed
    return w.desired != w.indexed or w.verify == "due" or abandoned


def _claimed(w: World, removed: frozenset[str]) -> World:
    taken_over = w.leased
    verify = "later" if taken_over and "verify after takeover" not in removed else w.verify
    if not taken_over and w.verify == "due":
        verify = ""
    must = (taken_over and "verify after takeover" not in removed) or w.verify == "due"
    attempt = Attempt("read", w.token + 1, w.desired, must)
    return replace(
        w, token=w.token + 1, leased=True, verify=verify, used=w.used + 1, alive=_sorted((*w.alive, attempt))
    )


def _attempt_steps(
    w: World, a: Attempt, others: tuple[Attempt, ...], history: tuple[str, ...], removed: frozenset[str]
) -> Iterator[tuple[str, World]]:
    ours = a.token == w.token
    now = history[w.source]

    def goes(at: str, **changes: object) -> World:
        return replace(w, alive=_sorted((*others, replace(a, at=at, **changes))))  # type: ignore[arg-type]

    def ends(**changes: object) -> World:
        return replace(w, alive=others, **changes)  # type: ignore[arg-type]

    def lost() -> World:
        return ends() if "notice of a lost lease" in removed else ends(verify="later")

    if ours or a.at in ("read", "list", "check"):  # an overtaken attempt that has written lives until it notices
        yield "killed", ends()
    if a.at == "read":
        same = now == w.version and not a.verify
        yield f"reads {now!r}", goes("confirm" if same else "list", content=now)
    elif a.at == "list":
        yield "lists", goes("check", seen="".join(sorted(chunk for chunk, _ in w.store)))
    elif a.at == "check":
        yield ("still ours", goes("put")) if ours else ("lost", lost())
    elif a.at in ("put", "restamp", "drop"):
        yield from _writes(w, a, others, removed, goes)
    elif a.at == "verify":
        agrees = w.store == frozenset((chunk, a.token) for chunk in a.content) or "verify before commit" in removed
        if not a.content:
            agrees = True  # nothing is to be there: the drop was for whatever was
        yield ("agrees", goes("look")) if agrees else ("disagrees", goes("read") if ours else lost())
    elif a.at == "look":
        moved_on = now != a.content and "second look" not in removed
        yield ("source moved on", goes("read")) if moved_on else ("source is the same", goes("commit"))
    elif a.at in ("commit", "confirm"):
        if a.at == "confirm" and now != a.content and "second look" not in removed:
            yield "source moved on", goes("read")
        elif not ours and "token at commit" not in removed:
            yield "lost", lost()
        else:
            generation = w.desired if "generation at commit" in removed else a.generation
            yield "commits", ends(indexed=generation, version=a.content, leased=False)


def _writes(
    w: World, a: Attempt, others: tuple[Attempt, ...], removed: frozenset[str], goes: object
) -> Iterator[tuple[str, World]]:
    """A write is applied and acknowledged; or its answer never comes; or its sender dies with it on its way."""
    ops, following = _ops(a, removed)
    store = w.store
    for op in ops:
        store = _applied(store, op, removed)
    after = goes(following)  # type: ignore[operator]
    yield a.at, replace(after, store=store)
    if not ops:
        return
    in_flight = w.net | ops
    later = w.verify if "verify after failure" in removed else "later"
    overtaken = a.token != w.token
    yield f"{a.at}, no answer", replace(w, alive=others, net=in_flight, leased=w.leased and overtaken, verify=later)
    if not overtaken:  # an overtaken attempt lives until it notices: the assumption above
        yield f"{a.at}, killed", replace(w, alive=others, net=in_flight)


def _ops(a: Attempt, removed: frozenset[str]) -> tuple[frozenset[Op], str]:
    if a.at == "put":
        return frozenset(("put", c, a.token) for c in a.content if c not in a.seen), "restamp"
    if a.at == "restamp":
        if "restamp of kept chunks" in removed:
            return frozenset(), "drop"
        return frozenset(("stamp", c, a.token) for c in a.content if c in a.seen), "drop"
    return frozenset(("drop", c, a.token) for c in a.seen if c not in a.content), "verify"


def _applied(store: Store, op: Op, removed: frozenset[str]) -> Store:
    kind, chunk, token = op
    known = next((t for c, t in store if c == chunk), None)
    without = store - {(chunk, known)} if known is not None else store
    if kind == "put" and (known is None or known < token or "fence of put" in removed):
        return without | {(chunk, token)}
    if kind == "stamp" and known is not None and known < token:
        return without | {(chunk, token)}
    if kind == "drop" and known is not None and (known <= token or "fence of drop" in removed):
        return without
    return store


def _sorted(alive: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    return tuple(sorted(alive, key=lambda a: a.token))


def is_quiet(w: World, history: tuple[str, ...], removed: frozenset[str]) -> bool:
    """Nothing more will happen by itself."""
    done = w.source == len(history) - 1 and w.noticed and not w.alive and not w.net
    return done and not _has_work(w, removed) and w.verify == ""


def is_true(w: World, history: tuple[str, ...]) -> bool:
    """The index holds exactly the chunks of the source."""
    return "".join(sorted(chunk for chunk, _ in w.store)) == history[w.source]


@dataclass(frozen=True, slots=True)
class Searched:
    """How many states there are, and the first schedule that ends wrong, if any."""

    states: int
    quiet: int
    counter_example: tuple[str, ...] | None


def search(history: tuple[str, ...], removed: frozenset[str] = frozenset(), *, most: int = 4_000_000) -> Searched:
    """Visit every reachable state, breadth first, so that a counter-example is a shortest one."""
    start = World()
    parents: dict[World, tuple[World, str] | None] = {start: None}
    frontier, quiet = [start], 0
    while frontier:
        following = []
        for world in frontier:
            if is_quiet(world, history, removed):
                quiet += 1
                if not is_true(world, history):
                    return Searched(len(parents), quiet, _schedule(parents, world))
            for name, after in steps(world, history, removed):
                if after not in parents:
                    parents[after] = (world, name)
                    following.append(after)
        if len(parents) > most:
            raise RuntimeError(f"more than {most} states")
        frontier = following
    return Searched(len(parents), quiet, None)


def _schedule(parents: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    names = []
    while (step := parents[world]) is not None:
        world, name = step
        names.append(name)
    return tuple(reversed(names))
