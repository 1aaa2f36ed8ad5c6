"""What Prometheus sees. Names and labels are those of the design; every known label value starts at 0.

No id, key or free text is ever a label. Counts are taken per batch, not per request.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

from wire.errors import ErrorKind, Outcome
from worker.delivery import NO_MODEL, Hit
from worker.histogram import BatchHistogram

_CACHE = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
AGE_SECONDS = tuple(
    float(seconds)
    for seconds in (60, 600, 3600, 6 * 3600, 12 * 3600, *(days * 86_400 for days in (1, 2, 3, 5, 7, 14, 30)))
)
_WAIT = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_REQUEST = (0.001, 0.0025, *CALL_SECONDS, 300.0)
_BYTES = tuple(float(4**n) for n in range(3, 12))
_ATTEMPTS = ("ok", "transient", "permanent", "timeout")
_REASONS = ("timeout", "status", "connection", "transient")
_POSTPONED = ("room", "down")
_DEAD = ("undecodable", "undeliverable", "failed", "poison")


class Metrics:
    """All metrics of one worker in one registry. Safe to use from any thread."""

    def __init__(
        self, models: Iterable[str], version: str, registry: CollectorRegistry | None = None
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._define_requests()
        self._define_cache()
        self._define_hindsight()
        self._define_model()
        self._define_messages()
        build = Gauge("recollect_build_info", "Always 1.", ["version"], registry=self.registry)
        build.labels(version).set(1)
        self._start_at_zero(list(models))

    def ages(self, queue: str, oldest_seconds: Callable[[], float]) -> None:
        """How old the oldest message of a queue is; asked at each scrape."""
        self._oldest.labels(queue).set_function(oldest_seconds)

    def serves(self, model: str, concurrency: int, calls_in_progress: Callable[[], float]) -> None:
        """How much of a model this worker can use; how much it does is asked at each scrape."""
        self._concurrency.labels(model).set(concurrency)
        self._calls_in_progress.labels(model).set_function(calls_in_progress)

    def count_hits(self, hits: Iterable[Hit]) -> None:
        """What was remembered."""
        by_model: defaultdict[str, list[Hit]] = defaultdict(list)
        for hit in hits:
            by_model[hit[0]].append(hit)
        for model, found in by_model.items():
            self.saved.labels(model).inc(sum([seconds for _, seconds, _ in found]))
            self.hit_ages.observe_all([age for _, _, age in found], model)

    def count_sampled(self, model: str, reason: str) -> None:
        """A miss was looked into."""
        self.sampled.labels(model, reason).inc()

    def _define_requests(self) -> None:
        registry = self.registry
        self.requests = Counter(
            "recollect_requests", "Requests settled.", ["model", "outcome"], registry=registry
        )
        self.failed = Counter(
            "recollect_failed_requests",
            "Requests answered with an error, by its kind.",
            ["model", "kind"],
            registry=registry,
        )
        self.request_seconds = BatchHistogram(
            "recollect_request_duration_seconds",
            "From receiving a request's message to its settlement.",
            ["model", "outcome"],
            buckets=_REQUEST,
            registry=registry,
        )
        self.queue_wait = BatchHistogram(
            "recollect_queue_wait_seconds",
            "From enqueuing a message (its producer's clock) to receiving it.",
            buckets=_WAIT,
            registry=registry,
        )
        self.in_progress = Gauge(
            "recollect_requests_in_progress", "Requests received and not settled.", registry=registry
        )
        self.last_request = Gauge(
            "recollect_last_request_timestamp_seconds",
            "When a request was last settled, in Unix time.",
            registry=registry,
        )

    def _define_cache(self) -> None:
        registry = self.registry
        self.cache_seconds = BatchHistogram(
            "recollect_cache_operation_duration_seconds",
            "One cache operation of a batch that went well.",
            ["operation"],
            buckets=_CACHE,
            registry=registry,
        )
        self.cache_errors = Counter(
            "recollect_cache_errors",
            "Cache operations that failed, and entries refused or unreadable.",
            ["operation"],
            registry=registry,
        )
        self.cache_down = Gauge(
            "recollect_cache_down", "1 while the cache is left alone but for a probe.", registry=registry
        )
        self.value_bytes = BatchHistogram(
            "recollect_cache_value_bytes", "Results remembered, by size.", buckets=_BYTES, registry=registry
        )
        self.saved = Counter(
            "recollect_saved_model_seconds",
            "Model time that hits did not need: the stored compute time of each.",
            ["model"],
            registry=registry,
        )

    def _define_hindsight(self) -> None:
        """For the fleet's figures, which `cache stats --since` reads: no series of Prometheus."""
        aside = CollectorRegistry()
        self.hit_ages = BatchHistogram("age", "Of hits.", ["model"], buckets=AGE_SECONDS, registry=aside)
        self.sampled = Counter("misses", "Looked into.", ["model", "reason"], registry=aside)

    def _define_model(self) -> None:
        registry = self.registry
        self.attempts = Counter(
            "recollect_model_attempts",
            "Model calls ended, counted for each request in them.",
            ["model", "result"],
            registry=registry,
        )
        self.call_seconds = BatchHistogram(
            "recollect_model_call_duration_seconds",
            "One model call.",
            ["model"],
            buckets=CALL_SECONDS,
            registry=registry,
        )
        self.retries = Counter(
            "recollect_model_retries", "Model calls made again.", ["model", "reason"], registry=registry
        )

        self.model_down = Gauge(
            "recollect_model_down",
            "1 while the breaker of a model is open: it is left alone but for a probe now and then.",
            ["model"],
            registry=registry,
        )
        self._calls_in_progress = Gauge(
            "recollect_model_calls_in_progress", "Model calls under way.", ["model"], registry=registry
        )
        self._concurrency = Gauge(
            "recollect_model_concurrency",
            "How many calls of a model this worker makes at once.",
            ["model"],
            registry=registry,
        )
        self.postponed = Counter(
            "recollect_postponed_requests",
            "Requests sent on to the misses queue, since their model was full (room) or left alone (down).",
            ["reason"],
            registry=registry,
        )

    def _define_messages(self) -> None:
        registry = self.registry
        self.replies = Counter("recollect_replies", "Replies sent.", ["status"], registry=registry)
        self.queue_depth = Gauge(
            "recollect_queue_messages",
            "Messages waiting in a queue: every worker sees the same, so take the max.",
            ["queue"],
            registry=registry,
        )
        self._oldest = Gauge(
            "recollect_queue_oldest_seconds",
            "The age of the oldest message that waits in a queue, 0 where none does: take the max.",
            ["queue"],
            registry=registry,
        )
        self.broker_down = Gauge(
            "recollect_broker_down", "1 while this worker is without its broker.", registry=registry
        )
        self.is_paused = Gauge(
            "recollect_paused", "1 while nothing is taken from the queues.", registry=registry
        )
        self.dead_letters = Counter(
            "recollect_dead_letters", "Messages set aside for a person.", ["reason"], registry=registry
        )
        self.redeliveries = Counter(
            "recollect_redeliveries", "Messages received that had been received before.", registry=registry
        )
        self.reconnects = Counter(
            "recollect_reconnects", "Connections made anew.", ["service"], registry=registry
        )

    def _start_at_zero(self, models: list[str]) -> None:
        """A series that appears with its first error has no rate at that moment."""
        for model in [*models, NO_MODEL]:
            for kind in ErrorKind:
                self.failed.labels(model, kind.value)
            for outcome in Outcome:
                self.requests.labels(model, outcome.value)
                self.request_seconds.touch(model, outcome.value)
        for model in models:
            self._start_model_at_zero(model)
        for reason in _POSTPONED:
            self.postponed.labels(reason)
        for operation in ("lookup", "write", "lease"):
            self.cache_errors.labels(operation)
            self.cache_seconds.touch(operation)
        for status in ("ok", "error"):
            self.replies.labels(status)
        for reason in _DEAD:
            self.dead_letters.labels(reason)
        for service in ("broker", "cache"):
            self.reconnects.labels(service)

    def _start_model_at_zero(self, model: str) -> None:
        for result in _ATTEMPTS:
            self.attempts.labels(model, result)
        for reason in _REASONS:
            self.retries.labels(model, reason)
        self.saved.labels(model)
        self.call_seconds.touch(model)
        self.model_down.labels(model)
