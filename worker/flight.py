"""Single flight: of the requests that want the same answer at the same time, one calls the model.

The others are answered from that call, each with its own id, and hold no model thread meanwhile. Within this
worker a table of flights does it; between workers a lease in the cache's server, which is taken, and looked
behind, in one step (groupcache, too, looks again within its flight; leases that fence writes are those of
Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013). Without the cache single flight within the worker
remains.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from wire.errors import Outcome
from wire.names import Names
from worker.cache import Cache, CacheDown, Taken
from worker.calls import Answered
from worker.handler import Job

_LOOK_SECONDS = 0.05  # between two looks at what other workers call
_LAST_WORD_SECONDS = 3.0  # for how long others hear that nothing will come of a call
_ALONE = Taken(None, is_ours=False, is_over=True)


class News(NamedTuple):
    """What follows: jobs whose model is to be called, and jobs with the entry that another worker wrote."""

    calls: list[Job]
    found: list[tuple[Job, bytes]]


class _Flight:
    """A call and who waits for it. Where another worker makes it there is no `leader` here."""

    __slots__ = ("followers", "key", "leader")

    def __init__(self, leader: Job, key: str) -> None:
        self.leader: Job | None = leader
        self.key, self.followers = key, list[Job]()


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
        self._led: dict[Job, _Flight] = {}
        self._next_look = self._next_renewal = 0.0

    def begin(self, jobs: Iterable[Job]) -> News:
        """Who of these calls the model now; the others wait.

        A refresh joins no flight, since that may have begun before it arrived, but others may join it. What
        is not to be stored follows and never leads: nobody else would find its result.
        """
        alone: list[Job] = []
        new: list[_Flight] = []
        for job in jobs:
            key = job.key
            flight = None if key is None else self._flights.get(key)
            if flight is not None and not job.request.refresh:
                flight.followers.append(job)
            elif key is None or job.request.no_store:
                alone.append(job)
            else:
                new.append(self._replace(flight, job, key))
        news = self._take(new)
        return News(alone + news.calls, news.found)

    def look(self) -> News:
        """Whether what other workers call has come, or is up to us by now. Holds our own leases, too."""
        now = self._clock()
        if now >= self._next_renewal:
            self._next_renewal = now + self._seconds / 3
            self._renew()
        if now < self._next_look:
            return News([], [])
        self._next_look = now + _LOOK_SECONDS
        return self._take([flight for flight in self._flights.values() if flight.leader is None])

    def land(self, answers: Sequence[Answered]) -> list[Answered]:
        """The same, and the answers of those who waited for them.

        A failure is theirs, too: the flight's attempts were made for all of them.
        """
        landed = list(answers)
        for answer in answers:
            flight = self._led.pop(answer.tag, None)
            if flight is None:
                continue
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
            for job in flight.followers:
                job.outcome = Outcome.COALESCED
                landed.append(answer._replace(tag=job))
        return landed

    def give_up(self, answers: Iterable[Answered]) -> None:
        """Tell other workers at once where a call brought nothing that is stored."""
        leases = [self._lease(answer.tag) for answer in answers if answer.tag.has_lease]
        if leases:
            self._quietly(lambda: self._cache.give_up(leases, self._token, _LAST_WORD_SECONDS))

    def next_due_seconds(self) -> float | None:
        """How long until there is something to look at; None where nobody waits and nothing is held."""
        if any(flight.leader is None for flight in self._flights.values()):
            return max(0.0, self._next_look - self._clock())
        return max(0.0, self._next_renewal - self._clock()) if self._led else None

    def _replace(self, old: _Flight | None, leader: Job, key: str) -> _Flight:
        self._flights[key] = new = _Flight(leader, key)
        if old is not None and old.leader is None:  # nobody else here would look after them
            new.followers = old.followers
        return new

    def _take(self, flights: Sequence[_Flight]) -> News:
        news = News([], [])
        for flight, taken in zip(flights, self._taken(flights), strict=True):
            leader = flight.leader
            if taken.is_ours or taken.is_over or (leader is not None and leader.request.refresh):
                self._lead(flight, news, has_lease=taken.is_ours)
            elif taken.entry is not None:
                self._arrive(flight, taken.entry, news)
            elif leader is not None:
                flight.followers.append(leader)
                flight.leader = None
        return news

    def _taken(self, flights: Sequence[_Flight]) -> Sequence[Taken]:
        if not flights:
            return []
        jobs = [flight.leader or flight.followers[0] for flight in flights]
        pairs = [(self._entry(job), self._lease(job)) for job in jobs]
        try:
            return self._cache.take(pairs, self._token, self._seconds)
        except CacheDown:
            return [_ALONE] * len(flights)

    def _arrive(self, flight: _Flight, entry: bytes, news: News) -> None:
        """Somebody wrote it."""
        del self._flights[flight.key]
        waiting = flight.followers if flight.leader is None else [flight.leader, *flight.followers]
        news.found.extend((job, entry) for job in waiting)

    def _lead(self, flight: _Flight, news: News, *, has_lease: bool) -> None:
        if flight.leader is None:
            flight.leader = flight.followers.pop(0)
        flight.leader.has_lease = has_lease
        self._led[flight.leader] = flight
        news.calls.append(flight.leader)

    def _renew(self) -> None:
        leases = [self._lease(job) for job in self._led if job.has_lease]
        if leases:
            self._quietly(lambda: self._cache.renew(leases, self._token, self._seconds))

    @staticmethod
    def _quietly(tell: Callable[[], None]) -> None:
        with contextlib.suppress(CacheDown):  # a lease that is lost costs a call at most
            tell()

    def _entry(self, job: Job) -> str:
        return self._names.entry(job.model.name, job.model.version, job.key or "")

    def _lease(self, job: Job) -> str:
        return self._names.flight(job.model.name, job.model.version, job.key or "")
