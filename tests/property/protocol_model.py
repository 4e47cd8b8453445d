"""A small model of the protocol that makes one document true, and a search through every state it can reach.

One document, whose file has a history.  Up to three attempts interleave in every way; after them come any number of
undisturbed ones.  An attempt may stop at any step, for ever (it was killed) or for as long as it likes (it was frozen);
it may be taken over at any moment, and may fail at any step, with its last write unanswered.  A lease that is handed
back early because its owner is dead (ADR 0044) is one of those moments, after that owner's last step.  A write is a
set of chunks that land one by one, at any later time, in any order, each or never.  Hints need no place in the model:
a claim may be tried whenever the ledger says that there is work.

    python -m tests.property.protocol_model        prints the states of each history, and what each protection is for

Three worlds differ in what time does, and in what is true there.

* ``ON_TIME``: a write lands before the verify that was put off for it, or never, and nobody sends after its lease
  ended.  *Truth*: at rest, the index holds exactly the chunks of the file, stamped with its version.
* ``RESUMED``: somebody may send after its lease ended (frozen between looking at the clock and sending), but lives
  until it notices.  *Truth* again.
* ``ANY_TIME``: nothing is assumed.  *No gap*: since the first commit a reader always finds a complete version of the
  file, none older than the committed one, and a chunk that no edit since has touched is never missing.  What is
  wrong at rest in this world is therefore a chunk too much, never one too few; an audit that finds it asks for one more
  undisturbed attempt.

``removed`` names the protections that a run goes without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.property.exhaustive import Found, Keys, Rule, Space, search

ON_TIME, RESUMED, ANY_TIME = "on time", "resumed", "any time"
ATTEMPTS = {ON_TIME: 3, RESUMED: 2, ANY_TIME: 3}

CHUNKS = "abc"
HISTORIES = {
    "create": ("ab",),
    "edit": ("ab", "bc"),
    "edit twice": ("ab", "bc", "ac"),
    "revert": ("ab", "bc", "ab"),
    "delete": ("ab", ""),
    "recreate": ("ab", "", "ab"),
}
"""Contents of the file one after the other, a letter a chunk.  A move is *delete* at one path and *create* at another:
two documents, which share no point."""

PROTECTIONS = {
    # protection removed: (the property that breaks, in which world, with which history)
    "put before drop": ("no gap", ANY_TIME, "edit"),
    "read back before drop": ("no gap", ANY_TIME, "revert"),
    "read back no later than that": ("no gap", ANY_TIME, "edit"),
    "fence of put": ("no gap", ANY_TIME, "revert"),
    "fence of restamp": ("no gap", ANY_TIME, "revert"),
    "fence of drop": ("no gap", ANY_TIME, "revert"),
    "restamp of kept chunks": ("no gap", ANY_TIME, "revert"),
    "restamp by a later round": ("truth", ON_TIME, "edit"),
    "full road after a takeover": ("no gap", ANY_TIME, "revert"),
    "full road while a verify is pending": ("no gap", ANY_TIME, "revert"),
    "full road after a round of its own": ("no gap", ANY_TIME, "revert"),
    "second look": ("truth", ON_TIME, "revert"),
    "generation at commit": ("truth", ON_TIME, "edit"),
    "token at commit": ("truth", ON_TIME, "revert"),
    "verify after takeover": ("truth", ON_TIME, "edit"),
    "verify after failure": ("truth", ON_TIME, "edit"),
    "takeover of a dead verify": ("truth", ON_TIME, "edit"),
    "deadline before each write": ("truth", ON_TIME, "edit"),
    "verify after a lost lease": ("truth", RESUMED, "edit"),
}
"""What the code would not have to do if nothing ever went wrong, and what breaks without it."""

ALL = 0b111
WRITES = ("put", "restamp", "drop")


class Shared(NamedTuple):
    """The source, and the document's row in the ledger.  Generations and versions are places in the history."""

    source: int = 0
    told: int = -1  # desired generation: what the watcher saw last
    indexed: int = -1  # indexed generation
    version: int = -1  # what the last commit had read
    leased: bool = False  # to the attempt of the highest token
    verify: str = ""  # "", "later", "due"
    token: int = 0


class Attempt(NamedTuple):
    """One attempt: where it is and what it remembers.  ``at`` "" means that there is nothing more to it."""

    at: str = ""
    token: int = 0
    generation: int = 0
    doubt: bool = False
    read: int = -1  # place in the history whose digest it took
    content: int = 0  # chunks it wants to be there
    kept: int = 0  # those of them that were there
    stale: int = 0  # chunks to drop
    left: int = 0  # chunks of the write under way that have not landed
    gone: bool = False  # it has ended; only what is left of its last write may still land


Store = tuple[int, ...]
"""For each chunk 0, or the stamp on it: 8 x token + version (as a set of chunks)."""


class Model:
    """The rules for one history, one world, and all protections but some."""

    def __init__(self, history: Sequence[str], world: str, removed: frozenset[str] = frozenset()) -> None:
        if unknown := removed - PROTECTIONS.keys():
            raise ValueError(f"no such protection: {unknown}")
        self.history = [sum(1 << CHUNKS.index(chunk) for chunk in content) for content in history]
        self.world = world
        self.removed = removed
        self.attempts = ATTEMPTS[world]

    def has(self, protection: str) -> bool:
        """Tell whether the protection is there."""
        return protection not in self.removed

    # ------------------------------------------------------------------ the world

    def happens(self, s: Shared, _: object) -> list[tuple[str, Shared, Shared]]:
        """The file is edited; its watcher notices."""
        steps = []
        if s.source + 1 < len(self.history):
            steps.append(("edit", s._replace(source=s.source + 1)))
        if s.told != self.generation(s.source):
            steps.append(("notice", s._replace(told=self.generation(s.source))))
        if self.world == ANY_TIME:
            # All that an end, a failure or a notice does to the ledger; the attempt itself may as well live on.
            if s.verify == "" and s.token:
                steps.append(("a verify is due", s._replace(verify="due")))
            if s.leased:
                steps.append((f"{s.token} gives back", s._replace(leased=False, verify="due")))
        return [(name, after, after) for name, after in steps]

    def generation(self, source: int) -> int:
        """Return the generation that a notice makes of the source; at any time, only whether it is there matters."""
        if self.world != ANY_TIME:
            return source
        return next(g for g, content in enumerate(self.history) if bool(content) == bool(self.history[source]))

    def verify_is_due(self, s: Shared, _: object) -> list[tuple[str, Shared, Shared]]:
        """The time of a verify comes; `settled` says when."""
        due = s._replace(verify="due")
        return [("verify is due", due, due)] if s.verify == "later" else []

    def settled(self, s: Shared, a: Attempt) -> bool:
        """Tell whether nothing of ``a`` is on its way that the coming verify was put off for."""
        ended = a.gone or (self.world == ON_TIME and a.token != s.token)
        return self.world == ANY_TIME or not (ended and a.left)

    def undisturbed(self, s: Shared, store: Store) -> list[tuple[str, Shared, Store]]:
        """After the three attempts: one that nothing happens to, from claim to commit at once."""
        if s.token < self.attempts or not self.has_work(s):
            return []
        now = self.history[s.source]
        if not now and self.history[s.told]:
            return []  # it waits for the watcher to confirm the deletion
        following, doubt = self.claimed(s)
        indexed = s.indexed if self.world == ANY_TIME else s.told
        following = following._replace(indexed=indexed, version=s.source, leased=False, token=self.attempts + 1)
        if not (self.unchanged(s, doubt) and now):
            mine = self.stamp(self.attempts + 1, now)
            store = tuple(mine if now >> chunk & 1 else 0 for chunk in range(len(CHUNKS)))
        return [("an undisturbed attempt", following, store)]

    # ------------------------------------------------------------------ the ledger

    def has_work(self, s: Shared) -> bool:
        """Tell whether a claim would be given (when the lease has run out, which it may at any time)."""
        if self.world == ANY_TIME:
            return s.told >= 0  # a doubled hint, an audit: there may always be something that asks for a look
        return s.told != s.indexed or s.verify == "due" or (s.leased and self.has("takeover of a dead verify"))

    def claimed(self, s: Shared) -> tuple[Shared, bool]:
        """Return the ledger after a claim, and whether the index is in doubt."""
        doubt = (
            (s.leased and self.has("full road after a takeover"))
            or (s.verify == "due" and self.world != ANY_TIME)
            or (s.verify != "" and self.has("full road while a verify is pending"))
        )
        verify = "" if s.verify == "due" else s.verify
        if s.leased and self.has("verify after takeover"):
            verify = "due" if self.world == ANY_TIME else "later"
        return s._replace(token=s.token + 1, leased=True, verify=verify), doubt

    def claim(self, s: Shared, a: Attempt, token: int) -> list[tuple[str, Shared, Attempt]]:
        """An attempt begins."""
        if s.token + 1 != token or not self.has_work(s):
            return []
        following, doubt = self.claimed(s)
        return [(f"{token} claims", following, Attempt("digest", token, s.told, doubt))]

    def unchanged(self, s: Shared, doubt: bool) -> bool:
        """Tell whether the bytes are the indexed ones and nothing is to be done."""
        return not doubt and s.version >= 0 and self.history[s.version] == self.history[s.source]

    def fails(self, s: Shared, a: Attempt) -> tuple[str, Shared, Attempt]:
        """Some server gave no answer, or a bad one: the attempt gives the document back."""
        ours = a.token == s.token
        verify = "later" if self.has("verify after failure" if ours else "verify after a lost lease") else s.verify
        following = s._replace(leased=s.leased and not ours, verify=verify)
        return f"{a.token} fails at {a.at}", following, _ended(a)

    def loses(self, s: Shared, a: Attempt) -> list[tuple[str, Shared, Attempt]]:
        """It notices that it was overtaken."""
        if self.world == ANY_TIME:
            return []
        verify = "later" if self.has("verify after a lost lease") else s.verify
        return [(f"{a.token} notices that it was overtaken", s._replace(verify=verify), _ended(a))]

    # ------------------------------------------------------------------ an attempt, on source and ledger

    def goes_on(self, s: Shared, a: Attempt) -> list[tuple[str, Shared, Attempt]]:
        """What an attempt does next that touches no chunk."""
        if not a.at or a.gone:
            return []
        steps = [] if self.world == ANY_TIME else [self.fails(s, a)]
        if a.at in WRITES and self.world != ANY_TIME and a.token == s.token:
            # Elsewhere, to be killed is never to go on; here what it has sent must land before a verify.
            steps.append((f"{a.token} is killed at its {a.at}", s, _ended(a)))
        if a.at == "digest":
            steps += self._digest(s, a)
        elif a.at == "parse":
            steps.append((f"{a.token} parses", s, a._replace(at="list")))
            now = self.history[s.source]
            if now not in (0, a.content):  # written in place since the digest was taken
                steps.append((f"{a.token} parses newer bytes", s, a._replace(at="list", content=now)))
        elif a.at == "again" or (a.at == "look" and a.read != s.source and self.has("second look")):
            steps += self._again(s, a)
        elif a.at == "look":
            steps.append((f"{a.token} looks again", s, a._replace(at="commit")))
        elif a.at == "commit":
            steps += self._commit(s, a)
        return steps

    def _digest(self, s: Shared, a: Attempt) -> list[tuple[str, Shared, Attempt]]:
        now = self.history[s.source]
        if now and self.unchanged(s, a.doubt):
            return [(f"{a.token} reads: unchanged", s, a._replace(at="look", read=s.source))]
        if now:
            at = "list" if self.world == ANY_TIME else "parse"
            return [(f"{a.token} reads", s, a._replace(at=at, read=s.source, content=now))]
        if self.history[a.generation]:
            return []  # it fails: the watcher has to confirm the deletion
        return [(f"{a.token} finds nothing", s, a._replace(at="drop", read=s.source, left=ALL))]

    def _again(self, s: Shared, a: Attempt) -> list[tuple[str, Shared, Attempt]]:
        if a.token != s.token:
            return self.loses(s, a)
        # What it has done so far is not what it will want: the index is in doubt from now on.
        doubt = a.doubt or self.has("full road after a round of its own")
        return [(f"{a.token} goes round", s, Attempt("digest", a.token, a.generation, doubt))]

    def _commit(self, s: Shared, a: Attempt) -> list[tuple[str, Shared, Attempt]]:
        if a.token != s.token and self.has("token at commit"):
            return self.loses(s, a)
        generation = a.generation if self.has("generation at commit") else s.told
        if self.world == ANY_TIME:
            generation = s.indexed  # nobody asks
        return [(f"{a.token} commits", s._replace(indexed=generation, version=a.read, leased=False), Attempt())]

    # ------------------------------------------------------------------ an attempt, on the index

    def meets(self, store: Store, a: Attempt) -> list[tuple[str, Store, Attempt]]:
        """An attempt reads the index and sends what follows from it, or a chunk of its write lands."""
        found = _present(store)
        if a.at == "list":
            a = a._replace(kept=a.content & found, stale=found & ~a.content)
            return [(f"{a.token} lists", store, self._next(a))]
        if a.at == "read back":
            right = all(self._ours(stamp, a) for chunk, stamp in enumerate(store) if a.content >> chunk & 1)
            if not right:
                return [(f"{a.token} reads back: disagrees", store, _canonical(a._replace(at="again")))]
            return [(f"{a.token} reads back: agrees", store, self._next(a._replace(stale=found & ~a.content)))]
        if a.at not in WRITES:
            return []
        steps = []
        for chunk in range(len(CHUNKS)):
            if not a.left >> chunk & 1:
                continue
            rest = a._replace(left=a.left & ~(1 << chunk))
            rest = rest if rest.left else Attempt() if rest.gone else self._next(rest)
            steps.append((f"{a.token}'s {a.at} of {CHUNKS[chunk]} lands", self.applied(store, a, chunk), rest))
            if a.gone and self.world != ANY_TIME:  # there, it may as well be on its way for ever
                steps.append((f"{a.token}'s {a.at} of {CHUNKS[chunk]} is lost", store, rest))
        return steps

    def _ours(self, stamp: int, a: Attempt) -> bool:
        return stamp >> 3 == a.token or (stamp > 0 and not self.has("restamp of kept chunks"))

    def applied(self, store: Store, a: Attempt, chunk: int) -> Store:
        """Return the store after ``chunk`` of the write of ``a`` has landed."""
        old, mine = store[chunk], self.stamp(a.token, a.content)
        there, older, not_newer = old > 0, old >> 3 < a.token, old >> 3 <= a.token
        if a.at == "put":
            new = mine if not there or older or not self.has("fence of put") else old
        elif a.at == "restamp":
            loses = not not_newer if self.has("restamp by a later round") else not older
            new = mine if there and not (loses and self.has("fence of restamp")) else old
        else:
            new = 0 if not_newer or not self.has("fence of drop") else old
        return (*store[:chunk], new, *store[chunk + 1 :])

    def stamp(self, token: int, content: int) -> int:
        """Return what a chunk is stamped with; the version is left out where no property asks for it."""
        return 8 * token + (ALL if self.world == ANY_TIME else content)

    def _next(self, a: Attempt) -> Attempt:
        """Where an attempt goes from here; a write is under way as soon as what it follows from is known.

        That stands for being frozen before it is sent, too: then nothing of it has landed yet.
        """
        if not a.content:
            return _canonical(a._replace(at="commit"))
        order = ["list", "put", "restamp", "read back", "drop", "look"]
        if not self.has("put before drop"):
            order = ["list", "drop", "put", "restamp", "read back", "look"]
        if not self.has("read back no later than that"):
            order = ["list", "put", "restamp", "drop", "read back", "look"]
        sent = {"put": a.content & ~a.kept, "restamp": a.kept, "drop": a.stale, "read back": a.kept, "look": ALL}
        if not self.has("restamp of kept chunks"):
            sent["restamp"] = 0
        if not self.has("read back before drop"):
            sent["read back"] = 0
        at = next(at for at in order[order.index(a.at) + 1 :] if sent[at])
        return _canonical(a._replace(at=at, left=sent[at] if at in WRITES else 0))

    # ------------------------------------------------------------------ properties

    def at_rest(self, s: Shared, _: object) -> bool:
        """Tell whether nothing more will happen by itself."""
        return s.source == s.told == len(self.history) - 1 and not self.has_work(s) and s.verify == ""

    def has_sent(self, s: Shared, a: Attempt) -> bool:
        """Tell whether an overtaken attempt may have sent something that it has still to notice."""
        before = ("", "digest", "parse", "list")
        return a.token != s.token and a.at not in before and not a.gone

    def is_true(self, s: Shared, store: Store) -> bool:
        """Tell whether the index holds exactly the chunks of the source, stamped with its version."""
        now = self.history[s.source]
        return _present(store) == now and all(stamp & ALL == now for stamp in store if stamp)

    def is_committed(self, s: Shared, _: object) -> bool:
        """Tell whether some attempt has committed."""
        return s.version >= 0

    def has_no_gap(self, s: Shared, store: Store) -> bool:
        """Tell whether a reader finds a complete version, and all that no edit since the last commit has touched."""
        if not self.is_committed(s, store):
            return True
        found = _present(store)
        since = self.history[s.version : s.source + 1]
        untouched = int(np.bitwise_and.reduce(since))
        return any(content & ~found == 0 for content in since) and untouched & ~found == 0

    # ------------------------------------------------------------------ the search

    def space(self) -> Space:
        """Return the space of all states: source and ledger, index, and the attempts."""
        rules = [Rule(0, 0, self.happens), Rule(0, 1, self.undisturbed)]
        if self.world != ANY_TIME:
            rules.append(Rule(0, 0, self.verify_is_due, guard=self._all_settled))
        for number in range(self.attempts):
            rules.append(Rule(0, 2 + number, self._claim_as(number + 1)))
            rules.append(Rule(0, 2 + number, self.goes_on))
            rules.append(Rule(1, 2 + number, self.meets))
        return Space(2 + self.attempts, rules, self._normal)

    def _claim_as(self, token: int) -> Callable[[Shared, Attempt], list[tuple[str, Shared, Attempt]]]:
        return lambda s, a: self.claim(s, a, token)

    def _normal(self, space: Space, keys: Keys) -> Keys:
        token = np.array([s.token for s in space.parts[0].values], dtype=np.int64)[space.column(keys, 0)]
        lowest = np.full(len(keys), self.attempts + 1, dtype=np.int64)
        for number in reversed(range(self.attempts)):
            part = 2 + number
            overtaken = (token > number + 1).astype(np.int64)
            keys = space.mapped(keys, part, overtaken, self._overtaken)
            nobody = space.parts[part].number(Attempt())
            alive = (space.column(keys, part) != nobody) | (token <= number)
            lowest[alive] = number + 1
        return space.mapped(keys, 1, lowest, _settled)

    def _overtaken(self, a: Attempt, overtaken: int) -> Attempt:
        """Bring an overtaken attempt to the shortest form that can still do the same, or more."""
        commits = not self.has("token at commit")
        if not overtaken or not a.at or a.gone:
            return a
        if self.world == ON_TIME and self.has("deadline before each write"):  # it can only notice
            if a.at in WRITES:  # sent in time
                return (
                    a._replace(kept=0, stale=0) if commits else Attempt(a.at, a.token, content=a.content, left=a.left)
                )
            return a if commits and a.at in ("look", "commit") else Attempt("again", a.token)
        if commits:
            return a
        if self.world == ANY_TIME and a.at in ("look", "commit", "again"):  # nothing that it will do is seen
            return Attempt()
        if self.world == ANY_TIME:
            return a._replace(doubt=True, read=-1)
        return a

    def _all_settled(self, space: Space, keys: Keys) -> NDArray[np.bool_]:
        fine = np.ones(len(keys), dtype=bool)
        for number in range(self.attempts):
            fine &= space.holds(keys, 0, 2 + number, self.settled)
        return fine

    def bad(self, space: Space, keys: Keys) -> tuple[NDArray[np.bool_], int]:
        """Tell which states break the property of this world, and count those in which it says something."""
        if self.world == ANY_TIME:
            committed = space.holds(keys, 0, 0, self.is_committed)
            return ~space.holds(keys, 0, 1, self.has_no_gap), int(committed.sum())
        resting = space.holds(keys, 0, 0, self.at_rest)
        if self.world == RESUMED:
            for number in range(self.attempts):
                resting &= ~space.holds(keys, 0, 2 + number, self.has_sent)
        wrong = np.zeros(len(keys), dtype=bool)
        wrong[resting] = ~space.holds(keys[resting], 0, 1, self.is_true)
        return wrong, int(resting.sum())

    def search(self) -> Found:
        """Visit every state."""
        nobody = (Attempt(),) * self.attempts
        return search(self.space(), (Shared(), (0,) * len(CHUNKS), *nobody), self.bad)


def _present(store: Store) -> int:
    return sum(1 << chunk for chunk, stamp in enumerate(store) if stamp)


def _ended(a: Attempt) -> Attempt:
    """What remains of an attempt that is no more: the part of its last write that has not landed."""
    if not a.left or a.at not in WRITES:
        return Attempt()
    return Attempt(a.at, a.token, content=a.content, left=a.left, gone=True)


def _settled(store: Store, lowest: int) -> Store:
    """Stamps of attempts that are no more are all the same to those that are."""
    return tuple(stamp & ALL if stamp >> 3 < lowest else stamp for stamp in store)


def _canonical(a: Attempt) -> Attempt:
    """Forget what makes no difference any more, so that equal futures are one state."""
    if a.at in ("look", "commit", "again"):
        return a._replace(content=0, kept=0, stale=0, left=0)
    return a


def main() -> None:
    """Print the tables; "of which" are the states at rest, and at any time those after a first commit."""
    print(f"{'world':<10} {'history':<12} {'states':>10} {'of which':>9} {'violations':>10} {'seconds':>8}")
    for world in ATTEMPTS:
        for name, history in HISTORIES.items():
            begun = time.monotonic()
            found = Model(history, world).search()
            wrong, took = int(found.schedule is not None), time.monotonic() - begun
            print(f"{world:<10} {name:<12} {found.states:>10,} {found.marked:>9,} {wrong:>10} {took:>8.1f}", flush=True)
    for protection, (broken, world, name) in PROTECTIONS.items():
        found = Model(HISTORIES[name], world, frozenset([protection])).search()
        print(f"\nwithout {protection}: {broken} breaks ({world}, {name}, {found.states:,} states visited)")
        print("    " + ("; ".join(found.schedule) if found.schedule else "NOTHING BREAKS"), flush=True)


if __name__ == "__main__":
    main()
