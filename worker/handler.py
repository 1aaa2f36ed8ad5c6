"""The path of a batch: hash each payload, look all up at once, call the model only for what was never seen,
remember what succeeded, answer.

No I/O of its own, no clock, no environment: the cache, the clock and the models are given to it. The loop
makes the calls and commits the settlements.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from broker.base import Message
from wire.errors import ErrorKind, Failure, Outcome
from wire.message import Limits, Refused, Request
from wire.names import Names
from wire.reply import Provenance, encode_failure, encode_hit, encode_result
from worker.cache import Cache, CacheDown
from worker.calls import Answered
from worker.catalog import Catalog
from worker.delivery import NO_MODEL, Delivery, open_delivery
from worker.entry import Entry
from worker.freshness import Use, age_of, may_stand_in, use_of
from worker.job import Ask, Job
from worker.lookup import Lookup
from worker.memory import Memory
from worker.observer import OnMiss

_POISON = Failure(ErrorKind.POISON, "workers died of this request, which ran alone; it is a dead letter now")
_PASSED = Failure(ErrorKind.DEADLINE_EXCEEDED, "its deadline has passed; the model was not called")
_NOT_CACHED = Failure(ErrorKind.NOT_CACHED, "no entry may answer it, and only_if_cached rules out a call")
_FOR_A_WHILE = frozenset({ErrorKind.MODEL_UNAVAILABLE, ErrorKind.MODEL_TIMEOUT})


class Batch(NamedTuple):
    """What became of received messages at once: their deliveries, the jobs that need the model, and those
    that renew what was answered from a stale entry, for which nobody waits."""

    deliveries: list[Delivery]
    calls: list[Job]
    renewals: list[Job]


class Handler:
    """Handles the messages of one worker. `clock` gives Unix seconds; `on_bad_entry` is told of
    each unreadable entry, `on_fault` of each mistake of our own, `on_miss` of each miss. `token` is what our
    leases say."""

    def __init__(
        self,
        catalog: Catalog,
        cache: Cache,
        names: Names,
        limits: Limits,
        clock: Callable[[], float],
        on_bad_entry: Callable[[], None],
        on_fault: Callable[[Exception], None],
        *,
        entry_max_bytes: int = 1 << 20,
        token: str = "",
        on_miss: OnMiss = lambda *_, **__: None,
    ) -> None:
        self._catalog, self._names, self._limits = catalog, names, limits
        self._clock, self._on_fault, self._on_miss = clock, on_fault, on_miss
        self._lookup = Lookup(catalog, cache, names, on_bad_entry)
        self._memory = Memory(cache, self._lookup, names, clock, entry_max_bytes=entry_max_bytes, token=token)

    def handle(self, messages: Sequence[Message], received: float) -> Batch:
        """Decode, look up, answer what is known. `received` is monotonic seconds."""
        now = self._clock()
        deliveries = [self._open(message, received) for message in messages]
        asks = [ask for delivery in deliveries for ask in self._admit(delivery, now)]
        return Batch(deliveries, *self._look_up(asks))

    def finish(self, answers: Iterable[Answered]) -> None:
        """Remember what succeeded, then answer: a redelivery after a crash is then a hit. What its model
        cannot be asked for now waits, as long as it may."""
        answers = list(answers)
        self._memory.remember(answers)
        now, stand_ins = self._clock(), self._stand_ins(answers)
        for answer in answers:
            job: Job = answer.tag
            if answer.result is not None:
                origin = Provenance(job.outcome, job.model.name, job.model.version, job.key)
                reply = encode_result(job.request.id, answer.result, origin)
                job.delivery.answer(job.position, reply, (job.model.name, job.outcome))
            elif job in stand_ins:
                _answer_from(job, stand_ins[job], Outcome.STALE, now)
            elif answer.failure is not None:
                self._end_without_result(job, answer, answer.failure, now)

    def coalesce(self, found: Iterable[tuple[Sequence[Job], bytes]]) -> list[Job]:
        """Answer those who waited for the call of another worker from the entry that it wrote. Returns the
        jobs whose entry is of no use: it cannot be read, or is not as fresh as they ask."""
        now, left = self._clock(), list[Job]()
        for jobs, stored in found:
            entry = Entry.found(stored, jobs[0].key or "")  # a bad one was counted when it was looked up
            for job in jobs:
                policy = job.model.policy
                if entry is None or use_of(entry, job.request, policy, now) is not Use.HIT:
                    left.append(job)
                else:
                    _answer_from(job, entry, Outcome.COALESCED, now)
        return left

    def _open(self, message: Message, received: float) -> Delivery:
        try:
            return open_delivery(message, self._names, self._limits, received)
        except Exception as fault:  # noqa: BLE001 - whatever it is
            # Our own mistake about one message: a crash would bring it, and its neighbours, back for ever.
            self._on_fault(fault)
            failure = Failure(ErrorKind.INTERNAL, f"{type(fault).__name__} while decoding")
            return Delivery(message, [Refused(failure, message.correlation_id, whole_message=True)], received)

    def _admit(self, delivery: Delivery, now: float) -> list[Ask]:
        """What can be worked on; the rest is answered with what is wrong with it."""
        asks: list[Ask] = []
        blamed, find = delivery.message.blamed, self._catalog.find
        for position, request in enumerate(delivery.requests):
            if isinstance(request, Refused):
                self._fail(delivery, position, request, request.failure)
            elif position in blamed:
                self._fail(delivery, position, request, _POISON)
            elif (model := find(request.model)) is None:
                self._fail(delivery, position, request, self._catalog.unknown(request.model))
            elif not model.takes_all and (refusal := model.refusal_of(request)) is not None:
                self._fail(delivery, position, request, refusal)
            elif request.deadline is not None and request.deadline <= now:
                self._fail_job(Job((delivery, position, request, model), Outcome.EXPIRED, None), _PASSED)
            else:
                asks.append((delivery, position, request, model))
        return asks

    def _look_up(self, asks: Sequence[Ask]) -> tuple[list[Job], list[Job]]:
        """Answer what is remembered. The rest needs its model; what is stale is to be renewed."""
        readers: list[Ask] = []
        others: list[Ask] = []
        for ask in asks:
            (others if ask[2].bypass or ask[2].refresh else readers).append(ask)
        models = {model for _, _, request, model in asks if not request.bypass}
        try:
            found = self._lookup.read(models, readers) if models else []
        except CacheDown:
            return self._without_cache(asks), []
        jobs, renewals, now = [_job(ask) for ask in others], list[Job](), self._clock()
        for ask, (key, entry) in zip(readers, found, strict=True):
            use = Use.NONE if entry is None else use_of(entry, ask[2], ask[3].policy, now)
            if entry is not None and use is Use.HIT:
                _answer(ask, entry, now)
            elif entry is not None and use is Use.STALE:
                _answer_from(Job(ask, Outcome.STALE, key), entry, Outcome.STALE, now)
                renewals += _renewal(ask, key, entry)
            elif ask[2].only_if_cached:
                self._fail_job(Job(ask, Outcome.NOT_CACHED, key), _NOT_CACHED)
            else:
                jobs.append(Job(ask, Outcome.MISS, key, 0.0 if entry is None else entry.created))
                self._on_miss(jobs[-1], entry, now, is_unreadable=key in self._lookup.unreadable)
        return jobs, renewals

    def _without_cache(self, asks: Sequence[Ask]) -> list[Job]:
        jobs = [_job(ask, is_down=True) for ask in asks]
        for job in jobs:
            if job.request.only_if_cached:
                self._fail_job(job, _NOT_CACHED)
        return [job for job in jobs if not job.request.only_if_cached]

    def _stand_ins(self, answers: Sequence[Answered]) -> dict[Job, Entry]:
        """The entries that may answer in the place of a model that fails for a while. They are looked up now:
        holding them during the call would cost memory, and somebody may have renewed them since."""
        jobs = [a.tag for a in answers if a.failure is not None and a.failure.kind in _FOR_A_WHILE]
        jobs = [job for job in jobs if job.key is not None and job.may_be_stale]
        if not jobs:
            return {}
        try:
            entries = self._lookup.read_again(jobs)
        except CacheDown:
            return {}
        now = self._clock()
        return {
            job: entry
            for job, entry in zip(jobs, entries, strict=True)
            if entry is not None and may_stand_in(entry, job.request, job.model.policy, now)
        }

    def _end_without_result(self, job: Job, answer: Answered, failure: Failure, now: float) -> None:
        if answer.is_deferred and job.may_wait(now, answer.seconds):
            job.wait(failure.attempts)
        else:
            self._fail_job(job, failure)

    def _fail_job(self, job: Job, failure: Failure) -> None:
        self._fail(job.delivery, job.position, job.request, failure, job)

    def _fail(
        self,
        delivery: Delivery,
        position: int,
        request: Request | Refused,
        failure: Failure,
        job: Job | None = None,
    ) -> None:
        outcome = _OUTCOMES.get(failure.kind, Outcome.FAILED)
        origin = Provenance(outcome)
        if job is not None:
            origin = Provenance(outcome, job.model.name, job.model.version, job.key)
        name = NO_MODEL if job is None else job.model.name
        delivery.failures.append((name, failure))
        delivery.answer(position, encode_failure(request.id, failure, origin), (name, outcome))


_OUTCOMES = {
    ErrorKind.INVALID_REQUEST: Outcome.INVALID,
    ErrorKind.UNKNOWN_MODEL: Outcome.INVALID,
    ErrorKind.DEADLINE_EXCEEDED: Outcome.EXPIRED,
    ErrorKind.NOT_CACHED: Outcome.NOT_CACHED,
}


def _job(ask: Ask, *, is_down: bool = False) -> Job:
    """The job of a request that no entry may answer, or can where the cache `is_down`."""
    _, _, request, model = ask
    if request.bypass:
        return Job(ask, Outcome.BYPASS, None)
    outcome = Outcome.UNAVAILABLE if is_down else Outcome.REFRESH
    return Job(ask, outcome, model.key(request.payload))


def _renewal(ask: Ask, key: str, entry: Entry) -> list[Job]:
    """The call that a stale answer is followed by, unless its request wants nothing called or stored."""
    delivery, _, request, model = ask
    if request.only_if_cached or request.no_store:
        return []
    renewed = Request(request.payload, model=request.model, ttl=request.ttl)
    nobody = Delivery(delivery.message, [renewed], delivery.received)
    return [Job((nobody, 0, renewed, model), Outcome.MISS, key, entry.created, in_background=True)]


def _answer(ask: Ask, entry: Entry, now: float) -> None:
    delivery, position, request, model = ask
    key, created, expires, compute_ms, body = entry
    age = max(0.0, now - created)
    reply = encode_hit(request.id, body, model.hit_source, key, age, expires - now)
    delivery.hits.append((model.name, compute_ms / 1000, age))
    delivery.answer(position, reply, model.hit)


def _answer_from(job: Job, entry: Entry, outcome: Outcome, now: float) -> None:
    times = age_of(entry, now), entry.expires - now
    origin = Provenance(outcome, job.model.name, job.model.version, job.key, *times)
    reply = encode_result(job.request.id, entry.body, origin)
    job.delivery.answer(job.position, reply, (job.model.name, outcome))
