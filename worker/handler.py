"""The path of a batch: hash each payload, look all up at once, call the model only for what was never seen,
remember what succeeded, answer.

No I/O of its own, no clock, no environment: the cache, the clock and the models are given to it. The loop
makes the calls and commits the settlements.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from broker.base import Message
from wire.errors import ErrorKind, Failure, Outcome
from wire.message import Limits, Refused, Request
from wire.names import Names
from wire.reply import Provenance, encode_failure, encode_hit, encode_result, encode_source
from worker.cache import Cache, CacheDown, Write
from worker.calls import Answered
from worker.catalog import Catalog, Model
from worker.delivery import Delivery, open_delivery
from worker.entry import BadEntry, Entry, jittered

_POISON = Failure(ErrorKind.POISON, "workers died of this request, which ran alone; it is a dead letter now")


class Job:
    """One request that is being worked on. `outcome` is what it will be if the model answers."""

    __slots__ = ("delivery", "key", "model", "outcome", "position", "request")

    def __init__(self, delivery: Delivery, position: int, request: Request, model: Model) -> None:
        self.delivery, self.position, self.request, self.model = delivery, position, request, model
        self.key: str | None = None
        self.outcome = Outcome.MISS
        if request.bypass:
            self.outcome = Outcome.BYPASS
        elif request.refresh:
            self.outcome = Outcome.REFRESH

    @property
    def reads(self) -> bool:
        """Whether an entry may answer it."""
        return self.outcome is Outcome.MISS


class Batch(NamedTuple):
    """What became of received messages at once: their deliveries, and the jobs that need the model."""

    deliveries: list[Delivery]
    calls: list[Job]


class Handler:
    """Handles the messages of one worker. `clock` gives Unix seconds; `on_bad_entry` is told of
    each unreadable entry, `on_fault` of each mistake of our own."""

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
    ) -> None:
        self._catalog, self._cache, self._names, self._limits = catalog, cache, names, limits
        self._clock, self._on_bad_entry, self._on_fault = clock, on_bad_entry, on_fault
        self._entry_max_bytes = entry_max_bytes

    def handle(self, messages: Sequence[Message], received: float) -> Batch:
        """Decode, look up, answer what is known. `received` is monotonic seconds."""
        deliveries = [self._open(message, received) for message in messages]
        jobs = [job for delivery in deliveries for job in self._admit(delivery)]
        known = self._look_up([job for job in jobs if not job.request.bypass])
        self._answer_from(known)
        return Batch(deliveries, [job for job in jobs if job not in known])

    def finish(self, answers: Iterable[Answered]) -> None:
        """Remember what succeeded, then answer: a redelivery after a crash is then a hit."""
        answers = list(answers)
        self._remember(answers)
        for answer in answers:
            job: Job = answer.tag
            origin = Provenance(job.outcome, job.model.name, job.model.version, job.key)
            if answer.result is not None:
                reply = encode_result(job.request.id, answer.result, origin)
                job.delivery.answer(job.position, reply, job.model, job.outcome)
            elif answer.failure is not None:
                self._fail(job.delivery, job.position, job.request, answer.failure, Outcome.FAILED, job)

    def _open(self, message: Message, received: float) -> Delivery:
        try:
            return open_delivery(message, self._names, self._limits, received)
        except Exception as fault:  # noqa: BLE001 - whatever it is
            # Our own mistake about one message: a crash would bring it, and its neighbours, back for ever.
            self._on_fault(fault)
            failure = Failure(ErrorKind.INTERNAL, f"{type(fault).__name__} while decoding")
            return Delivery(message, [Refused(failure, message.correlation_id, whole_message=True)], received)

    def _admit(self, delivery: Delivery) -> list[Job]:
        jobs, blamed = [], delivery.message.blamed
        for position, request in enumerate(delivery.requests):
            if isinstance(request, Refused):
                invalid = request.failure.kind is ErrorKind.INVALID_REQUEST
                outcome = Outcome.INVALID if invalid else Outcome.FAILED
                self._fail(delivery, position, request, request.failure, outcome)
            elif position in blamed:
                self._fail(delivery, position, request, _POISON, Outcome.FAILED)
            elif isinstance(model := self._catalog.choose(request.model), Failure):
                self._fail(delivery, position, request, model, Outcome.INVALID)
            else:
                jobs.append(Job(delivery, position, request, model))
        return jobs

    def _look_up(self, jobs: Sequence[Job]) -> dict[Job, Entry]:
        for job in jobs:
            job.key = job.model.key(job.request.payload)
        try:
            return self._read(jobs)
        except CacheDown:
            for job in jobs:
                job.outcome = Outcome.UNAVAILABLE
            return {}

    def _read(self, jobs: Sequence[Job]) -> dict[Job, Entry]:
        """One MGET for generations and entries; a second one only where a generation has moved."""
        models = list({job.model.name: job.model for job in jobs}.values())
        readers = [job for job in jobs if job.reads]
        names = [self._names.generation(model.name) for model in models]
        values = self._cache.read(names + [self._entry_name(job) for job in readers])
        moved = [m for m, value in zip(models, values, strict=False) if _moved(m, value)]
        entries = values[len(models) :]
        if moved:
            for job in jobs:
                job.key = job.model.key(job.request.payload)
            entries = self._cache.read([self._entry_name(job) for job in readers])
        return self._decode(zip(readers, entries, strict=True))

    def _decode(self, found: Iterable[tuple[Job, bytes | None]]) -> dict[Job, Entry]:
        """What is still good of what the cache gave."""
        known, now = {}, self._clock()
        for job, value in found:
            if value is None:
                continue
            try:
                entry = Entry.decode(value, job.key or "")
            except BadEntry:
                self._on_bad_entry()
                continue
            if entry.expires > now:
                known[job] = entry
        return known

    def _answer_from(self, known: Mapping[Job, Entry]) -> None:
        now, hit = self._clock(), Outcome.HIT
        for job, (key, created, expires, compute_ms, body) in known.items():
            model, delivery = job.model, job.delivery
            source = encode_source(hit, model.name, model.version)
            age = max(0.0, now - created)
            reply = encode_hit(job.request.id, body, source, key, age, expires - now)
            saved = delivery.saved_seconds
            saved[model.name] = saved.get(model.name, 0.0) + compute_ms / 1000
            delivery.answer(job.position, reply, model, hit)

    def _remember(self, answers: Sequence[Answered]) -> None:
        writes = [write for answer in answers if (write := self._write_of(answer)) is not None]
        try:
            self._cache.write(writes)
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
        return Write(self._entry_name(job), entry.encode(), max(0.001, expires - self._clock()))

    def _entry_name(self, job: Job) -> str:
        return self._names.entry(job.model.name, job.model.version, job.key or "")

    def _fail(
        self,
        delivery: Delivery,
        position: int,
        request: Request | Refused,
        failure: Failure,
        outcome: Outcome,
        job: Job | None = None,
    ) -> None:
        model = None if job is None else job.model
        origin = Provenance(outcome)
        if job is not None:
            origin = Provenance(outcome, job.model.name, job.model.version, job.key)
        delivery.failures.append(("none" if model is None else model.name, failure))
        delivery.answer(position, encode_failure(request.id, failure, origin), model, outcome)


def _moved(model: Model, value: bytes | None) -> bool:
    """Whether a model's generation is another than the one last seen; it is then the one last seen."""
    generation = int(value) if value is not None and value.isdigit() and len(value) < 19 else 0
    if generation == model.generation:
        return False
    model.see_generation(generation)
    return True
