"""Single flight: of the requests that want the same answer at the same time, one calls the model.

The others are answered from that call, each with its own id, and hold no model thread meanwhile. Within this
worker a table of flights does it; between workers a lease in the cache's server, which is taken, and looked
behind, in one step (groupcache, too, looks again within its flight; leases that fence writes are those of
Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013). Without the cache single flight within the worker
remains.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from wire.errors import ErrorKind, Outcome
from wire.names import Names
from worker.cache import Cache, CacheDown, Taken, Wanted
from worker.calls import Answered
from worker.job import Job

_LOOK_SECONDS = 0.05  # between two looks at what other workers call
_LAST_WORD_SECONDS = 3.0  # for how long others hear that nothing will come of a call
_AT_ONCE = 500  # keys in one step of the server, and in one look
_WAIT = Taken(None, is_ours=False, is_over=False)
_LEAD = Taken(None, is_ours=True, is_over=False)


class News(NamedTuple):
    """What follows: jobs whose model is to be called, and jobs with the entry that another worker wrote."""

    calls: list[Job]
    found: list[tuple[list[Job], bytes]]


class _Flight:
    """A call and who waits for it. Where another worker makes it there is no `leader` here. `seen` is of the
    entry that was of no use to whoever began it."""

    __slots__ = ("begun", "entry", "followers", "key", "leader", "lease", "seen")

    def __init__(self, leader: Job, key: str, names: Names, begun: float) -> None:
        self.leader: Job | None = leader
        self.begun, self.seen = begun, leader.seen
        self.key, self.followers = key, list[Job]()
        model = leader.model
        self.entry = names.entry(model.name, model.version, key)
        self.lease = names.flight(model.name, model.version, key)


class Flights:
    """All flights that this worker takes part in. Belongs to the loop's thread; `clock` is monotonic.

    `token` stands in its leases, and is nobody else's. `lease_seconds`: how long the death of a worker in the
    middle of a call can hold up the others.
    """

    def __init__(
        self, cache: Cache, names: Names, token: str, clock: Callable[[], float], *, lease_seconds: float
    ) -> None:
        self._cache, self._names, self._token = cache, names, token
        self._clock, self._seconds = clock, lease_seconds
        self._flights: dict[str, _Flight] = {}
        self._replaced: dict[str, list[_Flight]] = {}  # that are under way all the same, oldest first
        self._led: dict[Job, _Flight] = {}
        self._foreign: deque[_Flight] = deque()
        self._orphans: list[Job] = []
        self._next_look = self._next_renewal = 0.0

    def begin(self, jobs: Iterable[Job]) -> News:
        """Who of these calls the model now; the others wait, unless nobody waits for them.

        A refresh joins no flight, since that may have begun before it arrived, but others may join it; nor
        does one join that takes no answer as old as the flight. What is not to be stored follows and never
        leads: nobody else would find its result. Where the cache could not be read a moment ago no lease is
        asked for either.
        """
        news = News([], [])
        new: list[_Flight] = []
        for job in sorted(jobs, key=lambda job: job.joins):
            key = job.key
            flight = None if key is None else self._flights.get(key)
            if flight is not None and self._joins(job, flight):
                if not job.in_background:
                    flight.followers.append(job)
            elif key is None or job.request.no_store:
                news.calls.append(job)
            elif job.outcome is Outcome.UNAVAILABLE:
                self._lead(self._replace(flight, job, key), news, has_lease=False)
            else:
                new.append(self._replace(flight, job, key))
        self._take(new, news)
        return news

    def covers(self, job: Job) -> bool:
        """Whether it would be answered by a call that is under way."""
        flight = self._flights.get(job.key or "")
        return flight is not None and self._joins(job, flight)

    def begin_alone(self, jobs: Iterable[Job]) -> list[Job]:
        """Who of these calls the model now, without a look at other workers."""
        news = News([], [])
        for job in jobs:
            flight = self._flights.get(job.key or "")
            if flight is not None and self._joins(job, flight):
                flight.followers.append(job)
            else:
                self._lead(self._replace(flight, job, job.key or ""), news, has_lease=False)
        return news.calls

    def look(self) -> News:
        """Whether what other workers call has come, or is up to us by now. Holds our own leases, too."""
        orphans, self._orphans = self._orphans, []
        now, news = self._clock(), self.begin(orphans)
        if now >= self._next_renewal:
            self._next_renewal = now + self._seconds / 3
            self._tell(self._cache.renew, self._held(self._led), self._seconds)
        if self._foreign and now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            some = [self._foreign.popleft() for _ in range(min(_AT_ONCE, len(self._foreign)))]
            for flight in some:
                if not flight.followers:  # they went over to what replaced it
                    self._end(flight)
            self._take([flight for flight in some if flight.followers], news)
        return news

    def land(self, answers: Sequence[Answered]) -> list[Answered]:
        """The same, and the answers of those who waited for them.

        A failure is theirs, too: the flight's attempts were made for all of them. Not so where the deadline
        of the one that led has passed: they begin again with the next look.
        """
        landed = list(answers)
        for answer in answers:
            flight = self._led.pop(answer.tag, None)
            if flight is None:
                continue
            self._end(flight)
            if _is_late(answer):
                self._orphans += flight.followers
                continue
            for job in flight.followers:
                job.outcome = Outcome.COALESCED
                landed.append(answer._replace(tag=job))
        return landed

    def give_up(self, answers: Iterable[Answered]) -> None:
        """Tell other workers at once where a call brought nothing that is stored, or has failed: its attempts
        were made for them, too."""
        answers = list(answers)
        for failed in (True, False):
            jobs = [answer.tag for answer in answers if _has_failed(answer) == failed]
            tell = partial(self._cache.give_up, failed=failed)
            self._tell(tell, self._held(jobs), _LAST_WORD_SECONDS)

    def close(self) -> None:
        """Let go of what is held: somebody else will make these calls."""
        self._tell(self._cache.renew, self._held(self._led), 0.0)
        self._led.clear()

    def next_due_seconds(self) -> float | None:
        """How long until there is something to look at; None where nobody waits and nothing is held."""
        if self._orphans:
            return 0.0
        if self._foreign:
            return max(0.0, self._next_look - self._clock())
        return max(0.0, self._next_renewal - self._clock()) if self._led else None

    def _joins(self, job: Job, flight: _Flight) -> bool:
        age = job.request.max_age
        return job.joins and (age is None or self._clock() - flight.begun < age)

    def _replace(self, old: _Flight | None, leader: Job, key: str) -> _Flight:
        self._flights[key] = new = _Flight(leader, key, self._names, self._clock())
        if old is not None and old.leader is None:  # nobody else here would look after them
            new.followers, old.followers = old.followers, []
        elif old is not None:
            self._replaced.setdefault(key, []).append(old)
        return new

    def _end(self, flight: _Flight) -> None:
        """What it had replaced, and is still under way, may be joined again."""
        replaced = self._replaced.get(flight.key, [])
        if self._flights.get(flight.key) is not flight:
            if flight in replaced:
                replaced.remove(flight)
        elif replaced:
            self._flights[flight.key] = replaced.pop()
        else:
            del self._flights[flight.key]
        if not replaced:
            self._replaced.pop(flight.key, None)

    def _take(self, flights: Sequence[_Flight], news: News) -> None:
        for flight, taken in zip(flights, self._taken(flights), strict=True):
            leader = flight.leader
            if leader is not None and leader.in_background and not (taken.is_ours or flight.followers):
                self._end(flight)  # somebody else renews it, has just failed to, or has done it
            elif taken.is_ours or taken.is_over or (leader is not None and not leader.joins):
                has_waited = leader is None
                self._lead(flight, news, has_lease=taken.is_ours, is_last=taken.has_failed and has_waited)
            elif taken.entry is not None:
                self._end(flight)
                waiting = flight.followers if leader is None else [leader, *flight.followers]
                news.found.append((waiting, taken.entry))
            else:
                if leader is not None and not leader.in_background:
                    flight.followers.insert(0, leader)  # in front: it may lead, unlike what is not stored
                flight.leader = None
                self._foreign.append(flight)

    def _taken(self, flights: Sequence[_Flight]) -> Iterator[Taken]:
        for begin in range(0, len(flights), _AT_ONCE):
            some = flights[begin : begin + _AT_ONCE]
            try:
                wanted = [Wanted(f.entry, f.lease, f.seen) for f in some]
                yield from self._cache.take(wanted, self._token, self._seconds)
            except CacheDown:
                # An answer that came late may have brought the lease: as if it had. Who waits for another
                # worker goes on waiting, unless the cache is known to be away.
                is_away = self._cache.is_down
                yield from (_WAIT if f.leader is None and not is_away else _LEAD for f in some)

    def _lead(self, flight: _Flight, news: News, *, has_lease: bool, is_last: bool = False) -> None:
        if flight.leader is None:
            flight.leader = flight.followers.pop(0)
        flight.leader.has_lease, flight.leader.is_last = has_lease, is_last
        self._led[flight.leader] = flight
        news.calls.append(flight.leader)

    def _held(self, jobs: Iterable[Job]) -> list[str]:
        name = self._names.flight
        return [name(job.model.name, job.model.version, job.key or "") for job in jobs if job.has_lease]

    def _tell(
        self, tell: Callable[[Sequence[str], str, float], None], leases: Sequence[str], seconds: float
    ) -> None:
        with contextlib.suppress(CacheDown):  # a lease that is lost costs a call at most
            for begin in range(0, len(leases), _AT_ONCE):
                tell(leases[begin : begin + _AT_ONCE], self._token, seconds)


def _is_late(answer: Answered) -> bool:
    return answer.failure is not None and answer.failure.kind is ErrorKind.DEADLINE_EXCEEDED


def _has_failed(answer: Answered) -> bool:
    """Whether all attempts were made in vain: not where it was deferred, or nobody wanted it any more."""
    return answer.failure is not None and not answer.is_deferred and not _is_late(answer)
