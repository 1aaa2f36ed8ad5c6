"""Single flight as a state machine: three workers, one cache that says what its scripts promise, any order of
arrivals, ends, failures and deaths. Who may call the model is told by a reference that knows everything."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.base import JSON, Message
from wire.errors import ErrorKind, Failure
from wire.message import Limits
from wire.names import Names
from worker.cache import Taken, Wanted, Write
from worker.calls import Answered
from worker.catalog import Catalog, Model
from worker.delivery import Delivery
from worker.entry import Entry
from worker.flight import Flights, News
from worker.handler import Handler
from worker.job import Job

NAMES, LEASE, LAST_WORD = Names(), 10.0, 3.0
AWAY = Failure(ErrorKind.MODEL_UNAVAILABLE, "away")
KINDS = {"plain": b"", "refresh": b',"refresh":true', "no_store": b',"no_store":true'}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """What take.lua, store.lua and keep.lua promise, in a few lines each."""

    is_down = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.entries: dict[str, bytes] = {}
        self.leases: dict[str, tuple[str, float]] = {}

    def holder(self, lease: str) -> str | None:
        token, ends = self.leases.get(lease, ("", 0.0))
        return token if ends > self._clock() else None

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        return [self.entries.get(name) for name in names]

    def write(self, writes: Sequence[Write]) -> int:
        for write in writes:
            if _created(self.entries.get(write.name)) <= write.created:
                self.entries[write.name] = write.value
            if self.holder(write.lease) == write.token:
                del self.leases[write.lease]
        return 0

    def take(self, wanted: Sequence[Wanted], token: str, seconds: float) -> list[Taken]:
        return [self._take(one, token, seconds) for one in wanted]

    def _take(self, one: Wanted, token: str, seconds: float) -> Taken:
        there = self.entries.get(one.entry)
        if _created(there) > one.seen:
            return Taken(there, is_ours=False, is_over=False)
        holder = self.holder(one.lease)
        if holder is None:
            self.leases[one.lease] = (token, self._clock() + seconds)
        is_over, has_failed = holder in ("!", "-"), holder == "!"
        return Taken(None, holder in (None, token), is_over, has_failed)

    def renew(self, leases: Sequence[str], token: str, seconds: float) -> None:
        self._keep(leases, token, token, seconds)

    def give_up(self, leases: Sequence[str], token: str, seconds: float, *, failed: bool) -> None:
        self._keep(leases, token, "!" if failed else "-", seconds)

    def _keep(self, leases: Sequence[str], token: str, word: str, seconds: float) -> None:
        for lease in leases:
            if self.holder(lease) == token:
                self.leases[lease] = (word, self._clock() + seconds)


def _created(stored: bytes | None) -> float:
    return 0.0 if stored is None else float(stored.split(b",")[2])


class Begun(NamedTuple):
    """A call under way."""

    job: Job
    at: float


class Worker:
    """Handler and flights of one process; the machine is its loop and its model."""

    def __init__(self, token: str, shelf: Shelf, clock: Clock) -> None:
        self.token, self._clock = token, clock
        self.model = Model("m", "1")
        self.handler = Handler(
            Catalog({"m": self.model}), shelf, NAMES, Limits(), clock, lambda: None, _fault, token=token
        )
        self.flights = Flights(shelf, NAMES, token, clock, lease_seconds=LEASE)
        self.deliveries: list[Delivery] = []
        self.calls: list[Begun] = []

    def receive(self, body: bytes) -> list[Job]:
        batch = self.handler.handle([Message(body, JSON, "c")], 0.0)
        self.deliveries += batch.deliveries
        return self._follow(self.flights.begin(batch.calls))

    def look(self) -> list[Job]:
        return self._follow(self.flights.look())

    def end(self, begun: Begun, failure: Failure | None) -> None:
        self.calls.remove(begun)
        result = b"1" if failure is None else None
        answers = self.flights.land([Answered(begun.job, result, failure, begun.at, 0.05)])
        self.handler.finish(answers)
        self.flights.give_up(answers)

    def _follow(self, news: News) -> list[Job]:
        jobs = [*news.calls, *self.flights.begin_alone(self.handler.coalesce(news.found))]
        self.calls += [Begun(job, self._clock()) for job in jobs]
        return jobs


def _fault(error: Exception) -> None:
    raise error


class Fleet(RuleBasedStateMachine):
    """Three workers. Time moves in steps in which every living one looks, as loops do."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.shelf = Shelf(self.clock)
        self.born = 0
        self.workers = [self._hire() for _ in range(3)]
        self.failed_at: dict[str | None, float] = {}

    def _hire(self) -> Worker:
        self.born += 1
        return Worker(f"w{self.born}", self.shelf, self.clock)

    @rule(who=st.integers(0, 2), key=st.sampled_from("ab"), kind=st.sampled_from(sorted(KINDS)))
    def a_request_comes(self, who: int, key: str, kind: str) -> None:
        body = b'{"payload":"%b"%b}' % (key.encode(), KINDS[kind])
        others = self._leads()
        self._may_begin(self.workers[who].receive(body), others)

    @rule(who=st.integers(0, 2), which=st.integers(0, 5), fails=st.booleans())
    def a_call_ends(self, who: int, which: int, fails: bool) -> None:
        calls = self.workers[who].calls
        if calls:
            begun = calls[which % len(calls)]
            if fails:
                self.failed_at[begun.job.key] = self.clock()
            self.workers[who].end(begun, AWAY if fails else None)

    @rule(seconds=st.sampled_from([0.06, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        for worker in self.workers:
            others = self._leads()
            self._may_begin(worker.look(), others)

    @rule(who=st.integers(0, 2))
    def a_worker_dies(self, who: int) -> None:
        """What it held comes to its successor."""
        dead, self.workers[who] = self.workers[who], self._hire()
        for delivery in dead.deliveries:
            if not delivery.is_answered:
                others = self._leads()
                self._may_begin(self.workers[who].receive(delivery.message.body), others)

    def _leads(self) -> set[str | None]:
        """The keys for which somebody alive makes a call that others can see."""
        return {b.job.key for w in self.workers for b in w.calls if b.job.has_lease}

    def _may_begin(self, jobs: Sequence[Job], others: set[str | None]) -> None:
        """No second call for a key, but for what joins none or is not stored, and just after a failure: then
        side by side."""
        for job in jobs:
            failed = self.clock() - self.failed_at.get(job.key, -1e9) <= LAST_WORD
            if job.joins and not job.request.no_store and not failed:
                assert job.key not in others, "somebody makes this call already"

    @invariant()
    def each_worker_makes_one_call_for_a_key(self) -> None:
        """Whatever failed: what may wait for another of the same worker does."""
        for worker in self.workers:
            keys = [b.job.key for b in worker.calls if b.job.joins and not b.job.request.no_store]
            assert len(keys) == len(set(keys))

    @invariant()
    def a_lease_is_held_by_who_calls(self) -> None:
        """Or by the dead, or it has been given up."""
        living: dict[str, Worker] = {worker.token: worker for worker in self.workers}
        for lease in self.shelf.leases:
            holder = living.get(self.shelf.holder(lease) or "")
            if holder is not None:
                assert any(lease.endswith(f"{{{b.job.key}}}") for b in holder.calls), lease

    def teardown(self) -> None:
        """In the end all are answered, once each."""
        for _ in range(30):
            for worker in self.workers:
                for begun in list(worker.calls):
                    worker.end(begun, None)
            self.time_passes(1.0)
        for worker in self.workers:
            assert all(delivery.is_answered for delivery in worker.deliveries)
            assert all(len(delivery.outcomes) == 1 for delivery in worker.deliveries)
        for stored in self.shelf.entries.values():
            assert Entry.found(stored, stored.split(b'"')[3].decode()) is not None


TestFleet: Any = Fleet.TestCase
TestFleet.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_refresh_that_fails_leaves_the_call_before_it_to_be_joined() -> None:
    """Found by the machine: what had been replaced was forgotten with what replaced it."""
    clock = Clock()
    worker = Worker("w", Shelf(clock), clock)
    plain, refresh = b'{"payload":"a"}', b'{"payload":"a","refresh":true}'
    worker.receive(plain)
    for _ in range(2):
        (renewal,) = worker.receive(refresh)
        worker.end(Begun(renewal, clock()), AWAY)
    assert worker.receive(plain) == []
    (first,) = worker.calls
    worker.end(first, None)
    assert [delivery.is_answered for delivery in worker.deliveries] == [True] * 4
