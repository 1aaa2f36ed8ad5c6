"""The path of a batch: hash each payload, look all up at once, call the model only for what was never seen,
remember what succeeded, answer.

No I/O of its own, no clock, no environment: the cache, the clock and the models are given to it. The loop
makes the calls and commits the settlements.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from broker.base import Message
from wire.errors import ErrorKind, Failure, Outcome
from wire.message import Limits, Refused, Request
from wire.names import Names
from wire.reply import Provenance, encode_failure, encode_hit, encode_result
from worker.cache import Cache, CacheDown, Write
from worker.calls import Answered
from worker.catalog import Catalog, Model
from worker.delivery import NO_MODEL, Delivery, open_delivery
from worker.entry import Entry, jittered

_POISON = Failure(ErrorKind.POISON, "workers died of this request, which ran alone; it is a dead letter now")


# One request on its way through a batch: its delivery and position, itself, its model. A bare tuple, because
# a batch of hits has hundreds, and nothing else is made for them.
Ask = tuple[Delivery, int, Request, Model]


class Job:
    """One request that needs its model. `outcome` is what it will be if the model answers; `key` is None for
    a bypass; others wait for it where it `has_lease`."""

    __slots__ = ("delivery", "has_lease", "key", "model", "outcome", "position", "request")

    def __init__(self, ask: Ask, outcome: Outcome, key: str | None) -> None:
        self.delivery, self.position, self.request, self.model = ask
        self.outcome, self.key, self.has_lease = outcome, key, False


class Batch(NamedTuple):
    """What became of received messages at once: their deliveries, and the jobs that need the model."""

    deliveries: list[Delivery]
    calls: list[Job]


class Handler:
    """Handles the messages of one worker. `clock` gives Unix seconds; `on_bad_entry` is told of
    each unreadable entry, `on_fault` of each mistake of our own. `token` is what our leases say."""

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
    ) -> None:
        self._catalog, self._cache, self._names, self._limits = catalog, cache, names, limits
        self._clock, self._on_bad_entry, self._on_fault = clock, on_bad_entry, on_fault
        self._entry_max_bytes, self._token = entry_max_bytes, token
        self._entry_name = {m: names.entry_maker(m.name, m.version) for m in catalog.models()}

    def handle(self, messages: Sequence[Message], received: float) -> Batch:
        """Decode, look up, answer what is known. `received` is monotonic seconds."""
        deliveries = [self._open(message, received) for message in messages]
        asks = [ask for delivery in deliveries for ask in self._admit(delivery)]
        return Batch(deliveries, self._look_up(asks))

    def finish(self, answers: Iterable[Answered]) -> None:
        """Remember what succeeded, then answer: a redelivery after a crash is then a hit."""
        answers = list(answers)
        self._remember(answers)
        for answer in answers:
            job: Job = answer.tag
            origin = Provenance(job.outcome, job.model.name, job.model.version, job.key)
            if answer.result is not None:
                reply = encode_result(job.request.id, answer.result, origin)
                job.delivery.answer(job.position, reply, (job.model.name, job.outcome))
            elif answer.failure is not None:
                self._fail(job.delivery, job.position, job.request, answer.failure, Outcome.FAILED, job)

    def coalesce(self, found: Iterable[tuple[Sequence[Job], bytes]]) -> list[Job]:
        """Answer those who waited for the call of another worker from the entry that it wrote. Returns the
        jobs whose entry is of no use: it cannot be read, or is no longer fresh."""
        now, left = self._clock(), list[Job]()
        for jobs, stored in found:
            entry = Entry.found(stored, jobs[0].key or "")  # a bad one was counted when it was looked up
            if entry is None or entry.expires <= now:
                left += jobs
                continue
            times = max(0.0, now - entry.created), entry.expires - now
            for job in jobs:
                origin = Provenance(Outcome.COALESCED, job.model.name, job.model.version, job.key, *times)
                reply = encode_result(job.request.id, entry.body, origin)
                job.delivery.answer(job.position, reply, (job.model.name, Outcome.COALESCED))
        return left

    def _open(self, message: Message, received: float) -> Delivery:
        try:
            return open_delivery(message, self._names, self._limits, received)
        except Exception as fault:  # noqa: BLE001 - whatever it is
            # Our own mistake about one message: a crash would bring it, and its neighbours, back for ever.
            self._on_fault(fault)
            failure = Failure(ErrorKind.INTERNAL, f"{type(fault).__name__} while decoding")
            return Delivery(message, [Refused(failure, message.correlation_id, whole_message=True)], received)

    def _admit(self, delivery: Delivery) -> list[Ask]:
        """What can be worked on; the rest is answered with what is wrong with it."""
        asks: list[Ask] = []
        blamed, find = delivery.message.blamed, self._catalog.find
        for position, request in enumerate(delivery.requests):
            if isinstance(request, Refused):
                invalid = request.failure.kind is ErrorKind.INVALID_REQUEST
                outcome = Outcome.INVALID if invalid else Outcome.FAILED
                self._fail(delivery, position, request, request.failure, outcome)
            elif position in blamed:
                self._fail(delivery, position, request, _POISON, Outcome.FAILED)
            elif (model := find(request.model)) is None:
                unknown = self._catalog.unknown(request.model)
                self._fail(delivery, position, request, unknown, Outcome.INVALID)
            else:
                asks.append((delivery, position, request, model))
        return asks

    def _look_up(self, asks: Sequence[Ask]) -> list[Job]:
        """Answer what is remembered. The rest needs its model."""
        readers: list[Ask] = []
        others: list[Ask] = []
        for ask in asks:
            (others if ask[2].bypass or ask[2].refresh else readers).append(ask)
        models = {model for _, _, request, model in asks if not request.bypass}
        try:
            found = self._read(models, readers) if models else []
        except CacheDown:
            return [_job(ask, is_down=True) for ask in asks]
        jobs, now = [_job(ask) for ask in others], self._clock()
        for ask, (key, stored) in zip(readers, found, strict=True):
            entry = None if stored is None else self._entry(stored, key)
            if entry is None or entry.expires <= now:
                jobs.append(Job(ask, Outcome.MISS, key))
            else:
                _answer(ask, entry, now)
        return jobs

    def _read(self, models: Collection[Model], asks: Sequence[Ask]) -> list[tuple[str, bytes | None]]:
        """The key of each and what is stored under it. One MGET for generations and entries; a second one
        only where a generation has moved."""
        keys, names = self._keys(asks)
        values = self._cache.read([*(self._names.generation(model.name) for model in models), *names])
        moved = [model for model, value in zip(models, values, strict=False) if _moved(model, value)]
        values = values[len(models) :]
        if moved:
            keys, names = self._keys(asks)
            values = self._cache.read(names)
        return list(zip(keys, values, strict=True))

    def _keys(self, asks: Sequence[Ask]) -> tuple[list[str], list[str]]:
        keys = [model.key(request.payload) for _, _, request, model in asks]
        name = self._entry_name
        return keys, [name[ask[3]](key) for ask, key in zip(asks, keys, strict=True)]

    def _entry(self, stored: bytes, key: str) -> Entry | None:
        if (entry := Entry.found(stored, key)) is None:
            self._on_bad_entry()
        return entry

    def _remember(self, answers: Sequence[Answered]) -> None:
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
        ttl = jittered(job.model.ttl_seconds(job.request.ttl), job.key)
        expires = answer.created + ttl
        entry = Entry(job.key, answer.created, expires, round(answer.seconds * 1000), result)
        name = self._entry_name[job.model](job.key)
        lease = self._names.flight(job.model.name, job.model.version, job.key)
        seconds = max(0.001, expires - self._clock())
        return Write(name, entry.encode(), seconds, answer.created, lease, self._token)

    def _fail(
        self,
        delivery: Delivery,
        position: int,
        request: Request | Refused,
        failure: Failure,
        outcome: Outcome,
        job: Job | None = None,
    ) -> None:
        origin = Provenance(outcome)
        if job is not None:
            origin = Provenance(outcome, job.model.name, job.model.version, job.key)
        name = NO_MODEL if job is None else job.model.name
        delivery.failures.append((name, failure))
        delivery.answer(position, encode_failure(request.id, failure, origin), (name, outcome))


def _job(ask: Ask, *, is_down: bool = False) -> Job:
    """The job of a request that no entry may answer, or can where the cache `is_down`."""
    _, _, request, model = ask
    if request.bypass:
        return Job(ask, Outcome.BYPASS, None)
    outcome = Outcome.UNAVAILABLE if is_down else Outcome.REFRESH
    return Job(ask, outcome, model.key(request.payload))


def _answer(ask: Ask, entry: Entry, now: float) -> None:
    delivery, position, request, model = ask
    key, created, expires, compute_ms, body = entry
    reply = encode_hit(request.id, body, model.hit_source, key, max(0.0, now - created), expires - now)
    saved = delivery.saved_seconds
    saved[model.name] = saved.get(model.name, 0.0) + compute_ms / 1000
    delivery.answer(position, reply, model.hit)


def _moved(model: Model, value: bytes | None) -> bool:
    """Whether a model's generation is another than the one last seen; it is then the one last seen."""
    generation = int(value) if value is not None and value.isdigit() and len(value) < 19 else 0
    if generation == model.generation:
        return False
    model.see_generation(generation)
    return True
