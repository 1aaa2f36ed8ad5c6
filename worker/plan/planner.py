"""Puts rows through the worker's own handler, which looks them up and calls nothing, and counts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from broker.base import JSON, Message
from wire.errors import Outcome
from wire.message import Request
from worker.cache import CacheDown
from worker.catalog import Catalog, Model
from worker.delivery import Delivery
from worker.handler import Handler
from worker.job import Job
from worker.plan.distinct import Distinct, Need
from worker.plan.volatile import Volatile, Watcher

_PROBLEMS = 10  # that are kept
_NO_KEY = frozenset({Outcome.INVALID, Outcome.EXPIRED, Outcome.FAILED})


class Line(NamedTuple):
    """A row as it would be sent: its request's bytes, or what is wrong with it."""

    number: int
    request: bytes = b""
    problem: str | None = None


class ModelPlan(NamedTuple):
    """What the rows of one model would come to, each of which is counted in `outcomes` or needs the model.

    `distinct` keys; `calls` of the model, of which `renewals` are made after an answer from the cache, and
    which are but the least where it `has_rule`: what that refuses is asked for by every equal row;
    `repeats`: rows that the call of another row answers.
    """

    name: str
    rows: int
    distinct: int
    outcomes: Counter[Outcome]
    calls: int
    renewals: int
    repeats: int
    has_rule: bool
    volatile: Volatile | None


@dataclass(slots=True)
class _Tally:
    """Of one model: `always` are rows with a call of their own, `misses` those that may share one."""

    distinct: Distinct
    watcher: Watcher
    rows: int = 0
    always: int = 0
    misses: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)


class Planner:
    """`handler` must be one whose work nobody else has. `place` is an empty directory: see Distinct."""

    def __init__(self, handler: Handler, catalog: Catalog, place: Path) -> None:
        self._handler, self._catalog, self._place = handler, catalog, place
        self._tallies: dict[Model, _Tally] = {}
        self.rows = self.invalid = 0
        self.problems: list[tuple[int, str]] = []
        """The first rows that would be refused: number and reason, which names the line."""

    def add(self, lines: Sequence[Line]) -> None:
        """Look rows up, a batch at once. Raises CacheDown, OSError."""
        self.rows += len(lines)
        messages = [Message(line.request, JSON) for line in lines if line.problem is None]
        batch = self._handler.handle(messages, 0.0)
        jobs: dict[int, Job] = {id(job.delivery): job for job in batch.calls}
        deliveries = iter(batch.deliveries)
        for line in lines:
            if line.problem is not None:
                self._refuse(line.number, line.problem)
            else:
                delivery = next(deliveries)
                self._count(line, delivery, jobs.get(id(delivery)))

    def plans(self) -> list[ModelPlan]:
        """What has been counted, by model."""
        return [_plan(model, tally) for model, tally in self._tallies.items()]

    def _count(self, line: Line, delivery: Delivery, job: Job | None) -> None:
        (request,) = delivery.requests
        outcome = delivery.outcomes[0][1] if job is None else job.outcome
        if outcome is Outcome.UNAVAILABLE:
            raise CacheDown("it did not answer in time")
        model = self._catalog.find(request.model) if isinstance(request, Request) else None
        if outcome is Outcome.INVALID or model is None or not isinstance(request, Request):
            self._refuse(line.number, delivery.failures[0][1].message)
            return
        tally = self._tally(model)
        tally.rows += 1
        if job is None:
            tally.outcomes[outcome] += 1
        elif request.bypass or not job.joins:
            tally.always += 1
        else:
            tally.misses += 1
        if outcome not in _NO_KEY:
            tally.distinct.add(model.key(request.payload), _need(outcome, job))
            tally.watcher.add(request.payload)

    def _refuse(self, number: int, problem: str) -> None:
        self.invalid += 1
        if len(self.problems) < _PROBLEMS:
            self.problems.append((number, _of_line(number, problem)))

    def _tally(self, model: Model) -> _Tally:
        tally = self._tallies.get(model)
        if tally is None:
            keys, others = (self._place / f"{len(self._tallies)}-{kind}" for kind in ("keys", "others"))
            for place in (keys, others):
                place.mkdir()
            tally = self._tallies[model] = _Tally(Distinct(keys), Watcher(model, others))
        return tally


def _of_line(number: int, problem: str) -> str:
    """A reader of rows may have named it."""
    named = problem.startswith((f"line {number} ", f"line {number}:"))
    return problem if named else f"line {number}: {problem}"


def _need(outcome: Outcome, job: Job | None) -> Need:
    if outcome is Outcome.STALE:
        return Need.RENEWAL
    if job is None or job.request.bypass:
        return Need.NOTHING
    if job.request.no_store:
        return Need.UNSTORED if job.joins else Need.NOTHING
    return Need.CALL if job.joins else Need.OWN


def _plan(model: Model, tally: _Tally) -> ModelPlan:
    distinct, shared, renewals = tally.distinct.count()
    return ModelPlan(
        model.name,
        tally.rows,
        distinct,
        tally.outcomes,
        tally.always + shared + renewals,
        renewals,
        tally.misses - shared,
        model.has_rule,
        tally.watcher.found(distinct),
    )
