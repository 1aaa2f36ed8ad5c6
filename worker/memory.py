"""Remembering what succeeded."""

from collections.abc import Callable, Sequence

from wire.errors import Outcome
from wire.names import Names
from worker.cache import Cache, CacheDown, Write
from worker.calls import Answered
from worker.entry import Entry, jittered
from worker.job import Job
from worker.lookup import Lookup


class Memory:
    """Writes entries. `clock` gives Unix seconds; `token` is what our leases say."""

    def __init__(
        self,
        cache: Cache,
        lookup: Lookup,
        names: Names,
        clock: Callable[[], float],
        *,
        entry_max_bytes: int,
        token: str,
    ) -> None:
        self._cache, self._lookup, self._names, self._clock = cache, lookup, names, clock
        self._entry_max_bytes, self._token = entry_max_bytes, token

    def remember(self, answers: Sequence[Answered]) -> None:
        """Store the results that may be; says in each job's `outcome` where that was not to be."""
        writes = {a.tag: write for a in answers if (write := self._write_of(a)) is not None}
        try:
            self._cache.write(list(writes.values()))
            for job in writes:
                job.has_lease = False
        except CacheDown:
            # A refresh promises a new entry, so it may not pass for one when there is none.
            for answer in answers:
                if answer.tag.outcome is Outcome.REFRESH:
                    answer.tag.outcome = Outcome.UNAVAILABLE

    def _write_of(self, answer: Answered) -> Write | None:
        job: Job = answer.tag
        result = answer.result
        if result is None or job.key is None or job.request.no_store:
            return None
        if job.outcome not in (Outcome.MISS, Outcome.REFRESH):
            return None
        if len(result) > self._entry_max_bytes or not job.model.may_keep(result):
            job.outcome = Outcome.UNCACHEABLE
            return None
        policy = job.model.policy
        expires = answer.created + jittered(policy.ttl_for(job.request.ttl), job.key)
        entry = Entry(job.key, answer.created, expires, round(answer.seconds * 1000), result)
        lease = self._names.flight(job.model.name, job.model.version, job.key)
        seconds = max(0.001, expires + policy.stale_max - self._clock())
        name = self._lookup.name(job.model, job.key)
        return Write(name, entry.encode(), seconds, answer.created, lease, self._token)
