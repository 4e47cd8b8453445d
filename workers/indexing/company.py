"""Attempts of several documents walk side by side: what they ask for at the same step is asked for in one go.

A backfill of small files spends its time on what each document costs by itself: transactions, requests, round trips.
In company a step costs them once for all.  Whose step fails goes on, or ends, by itself; whose file takes long to
parse is not waited for, and follows later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from workers.errors import Outage
from workers.indexing.deadline import LeaseLost
from workers.indexing.ledger import Ledger
from workers.indexing.ports import Index, Parser
from workers.indexing.steps import Commit, DropDocument, Known, Parse, Put, Step, Stored, Walk

T = TypeVar("T")

PATIENCE_S = 1.0
"""How long the company waits for the next file to be parsed before it goes on without those that are not."""
ORDER: tuple[type[Step], ...] = (Parse, Stored, Known, Put, DropDocument, Commit)


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """What became of one attempt: a value, or the exception that ended it."""

    value: T | None = None
    error: BaseException | None = None

    def get(self) -> T:
        """Return the value, or raise the exception."""
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


@dataclass(eq=False)
class _Walker(Generic[T]):
    """One attempt on its way: the step it waits at, or its result."""

    walk: Walk[T]
    step: Step | None = None
    result: Result[T] | None = None
    parsing: Future[Any] | None = None

    def go_on(self, answer: Any = None, error: BaseException | None = None) -> None:
        """Hand over the answer to the step; walk to the next one, or to the end."""
        self.parsing = None
        try:
            self.step = self.walk.send(answer) if error is None else self.walk.throw(error)
        except StopIteration as end:
            self.step, self.result = None, Result(value=end.value)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - each document's fate is its own; the worker decides it
            self.step, self.result = None, Result(error=exc)

    def answered(self, answer: Any) -> None:
        """Go on with an answer, or with an exception that stands for it."""
        if isinstance(answer, BaseException):
            self.go_on(error=answer)
        else:
            self.go_on(answer)


@dataclass(frozen=True)
class Ports:
    """Who answers the steps."""

    ledger: Ledger
    index: Index
    parser: Parser

    def answer(self, step: Step) -> Any:
        """Do one step alone."""
        match step:
            case Parse():
                return self.parser.cut(step.fd, step.path, step.options, urgent=step.urgent)
            case Stored():
                return self.index.stored(step.document_id)
            case Known():
                return self.ledger.vectors.known(step.keys)
            case Put():
                step.deadline.check()
                return self.index.put(step.points, step.token)
            case DropDocument():
                step.deadline.check()
                return self.index.drop_document(step.document_id, step.token)
            case Commit():
                return self.ledger.commit(step.claim, step.indexed)

    def answers(self, steps: Sequence[Any]) -> Sequence[Any]:
        """Do several steps of one kind together; returns what each gets: its answer, or its exception.

        Raises:
            What a step alone would raise, when it concerns them all.
        """
        match steps[0]:
            case Stored():
                found = self.index.stored_of([step.document_id for step in steps])
                return [found.get(step.document_id, {}) for step in steps]
            case Known():
                vectors = self.ledger.vectors.known({key for step in steps for key in step.keys})
                return [{key: vectors[key] for key in step.keys if key in vectors} for step in steps]
            case Put():
                return _in_time(steps, lambda left: self.index.put_all([(step.points, step.token) for step in left]))
            case DropDocument():
                return _in_time(
                    steps, lambda left: self.index.drop_documents([(step.document_id, step.token) for step in left])
                )
            case Commit():
                told = self.ledger.commit_all([(step.claim, step.indexed) for step in steps])
                return [LeaseLost("Another worker has taken over.") if each is None else each for each in told]
            case _:
                raise AssertionError(f"nobody does {type(steps[0]).__name__} together")


def alone(walk: Walk[T], ports: Ports) -> T:
    """Drive one attempt to its end.

    Raises:
        Whatever ends it.
    """
    walker = _Walker(walk)
    walker.go_on()
    while walker.step is not None:
        try:
            answer, error = ports.answer(walker.step), None
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - raised again where the attempt waits for the answer
            answer, error = None, exc
        walker.go_on(answer, error)
    assert walker.result is not None
    return walker.result.get()


@dataclass(frozen=True)
class Company:
    """Drives attempts side by side; ``parsing`` runs as many parsers at once as there are children (None: one)."""

    ports: Ports
    parsing: Executor | None = None

    def walk(self, walks: Sequence[Walk[T]]) -> list[Result[T]]:
        """Drive all to their ends; returns their results, in order."""
        walkers = [_Walker(walk) for walk in walks]
        for walker in walkers:
            walker.go_on()
        while waiting := [walker for walker in walkers if walker.step is not None]:
            # The most advanced first: nobody is held up by whoever goes round again, or still parses.
            foremost = max((type(walker.step) for walker in waiting), key=ORDER.index)
            together = [walker for walker in waiting if type(walker.step) is foremost]
            if foremost is Parse:
                self._parse(together)
            else:
                self._step(together)
        return [walker.result for walker in walkers if walker.result is not None]

    def _parse(self, walkers: Sequence[_Walker[T]]) -> None:
        """Parse the files of all; those that are not done when nothing has come for a while stay where they are."""
        if self.parsing is None:
            for walker in walkers:
                walker.answered(self._tried(walker.step))
            return
        for walker in walkers:
            if walker.parsing is None:
                walker.parsing = self.parsing.submit(self.ports.answer, walker.step)  # type: ignore[arg-type]
        left = {walker.parsing: walker for walker in walkers if walker.parsing is not None}
        came = False
        while left:
            done, _ = wait(left, timeout=PATIENCE_S if came else None, return_when=FIRST_COMPLETED)
            if not done:
                return
            came = True
            for future in done:
                left.pop(future).answered(future.exception() or future.result())

    def _step(self, walkers: Sequence[_Walker[T]]) -> None:
        steps = [walker.step for walker in walkers]
        answers: Sequence[Any]
        if len(steps) == 1:
            answers = [self._tried(steps[0])]
        else:
            try:
                answers = self.ports.answers(steps)
            except (Outage, SQLAlchemyError) as exc:
                answers = [exc] * len(steps)
            except Exception:  # noqa: BLE001 - one of them may be at fault for all: each by itself finds out
                answers = [self._tried(step) for step in steps]
        for walker, answer in zip(walkers, answers, strict=True):
            walker.answered(answer)

    def _tried(self, step: Step | None) -> Any:
        assert step is not None
        try:
            return self.ports.answer(step)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - raised again where the attempt waits for the answer
            return exc


def _in_time(steps: Sequence[Any], send: Callable[[Sequence[Any]], None]) -> Sequence[Any]:
    """Send what belongs to leases that still last; whoever's may have ended is told so."""
    answers: list[LeaseLost | None] = []
    left = []
    for step in steps:
        try:
            step.deadline.check()
        except LeaseLost as exc:
            answers.append(exc)
        else:
            answers.append(None)
            left.append(step)
    if left:
        send(left)
    return answers
