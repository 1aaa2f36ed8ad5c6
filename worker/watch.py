"""What the worker tells of itself: loop, cache and calls report here; metrics, logs and health come out."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, groupby

from broker.base import BrokerError, Settlement
from broker.dead import UNDECODABLE, UNDELIVERABLE
from wire.trace import trace_id
from worker.delivery import Delivery
from worker.health import Heartbeat, Readiness
from worker.logs import Log
from worker.metrics import Metrics
from worker.queues import Queues

_NUMBER = (int, float)  # `int | float` would be made anew for each message


class Watch:
    """The observer of loop, cache and calls. `clock` is monotonic, `wall_clock` Unix seconds."""

    def __init__(
        self,
        metrics: Metrics,
        log: Log,
        heartbeat: Heartbeat,
        readiness: Readiness,
        queues: Queues,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics, self._log = metrics, log
        self._heartbeat, self._readiness = heartbeat, readiness
        self._clock, self._wall_clock = clock, wall_clock
        self._queues = queues
        for name in queues.worked:
            metrics.ages(name, partial(queues.oldest_seconds, name))
        self._was_connected = False
        self._told_lost = False

    def turned(self) -> None:
        """See LoopObserver."""
        self._heartbeat.beat()

    def received(self, deliveries: list[Delivery]) -> None:
        """See LoopObserver."""
        now, waits, newest = self._wall_clock(), [], dict[str, float]()
        for delivery in deliveries:
            message = delivery.message
            if message.deliveries > 1:
                self._metrics.redeliveries.inc()
            enqueued = message.headers.get("enqueued_at")
            if isinstance(enqueued, _NUMBER) and 0 < enqueued < 1e11:
                newest[message.queue] = enqueued
                if not delivery.is_second:
                    waits.append(max(0.0, now - enqueued))
        for queue, enqueued in newest.items():
            self._queues.taken(queue, enqueued)
        self._metrics.queue_wait.observe_all(waits)
        self._metrics.in_progress.inc(sum(len(delivery.requests) for delivery in deliveries))

    def settled(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        """See LoopObserver."""
        now = self._clock()
        if any(delivery.is_postponed for delivery, _ in settled):
            self._count_postponed([delivery for delivery, _ in settled if delivery.is_postponed])
            settled = [pair for pair in settled if not pair[0].is_postponed]
        for received, group in groupby(settled, lambda pair: pair[0].received):
            self._count([delivery for delivery, _ in group], now - received)
        self._count_sent(settled)
        self._log_settled(settled, now)

    def _count(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Count what was received at once and is settled after so many seconds."""
        metrics = self._metrics
        hows = Counter(chain.from_iterable(delivery.outcomes for delivery in deliveries))
        for (model, outcome), count in hows.items():
            metrics.requests.labels(model, outcome.value).inc(count)
            metrics.request_seconds.observe(seconds, model, outcome.value, count=count)
        metrics.count_hits(chain.from_iterable(delivery.hits for delivery in deliveries))
        metrics.in_progress.dec(hows.total())
        if hows:
            metrics.last_request.set(self._wall_clock())

    def _count_postponed(self, postponed: Sequence[Delivery]) -> None:
        """They went on to wait for their model. Their outcomes count when they have been answered."""
        for delivery in postponed:
            requests = len(delivery.requests)
            reason = "down" if delivery.found_down else "room"
            self._metrics.postponed.labels(reason).inc(requests)
            self._metrics.in_progress.dec(requests)

    def _count_sent(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        sent = Counter(chain.from_iterable(d.outcomes for d, settlement in settled if settlement.outgoing))
        for (_, outcome), count in sent.items():
            self._metrics.replies.labels("ok" if outcome.ok else "error").inc(count)
        for _, settlement in settled:
            for _, message in settlement.outgoing:
                if message.headers and "reason" in message.headers:
                    self._metrics.dead_letters.labels(message.headers["reason"]).inc()

    def _log_settled(self, settled: Sequence[tuple[Delivery, Settlement]], now: float) -> None:
        for delivery, _ in settled:
            if delivery.failures or delivery.message.problem is not None:
                self._tell_failures(delivery)
        if self._log.is_enabled_for(logging.DEBUG):
            for delivery, _ in settled:
                self._log.debug(
                    "settled",
                    correlation_id=delivery.message.correlation_id,
                    requests=len(delivery.requests),
                    seconds=round(now - delivery.received, 4),
                    outcomes=Counter(outcome.value for _, outcome in delivery.outcomes),
                    **_trace_of(delivery),
                )

    def _tell_failures(self, delivery: Delivery) -> None:
        message = delivery.message
        if message.problem is not None:
            self._log.warning(UNDECODABLE, queue=message.queue, problem=message.problem)
        # What the model said may quote the payload: kinds and counts go to the log, the words do not.
        for (model, kind), count in Counter((m, failure.kind) for m, failure in delivery.failures).items():
            self._metrics.failed.labels(model, kind.value).inc(count)
            self._log.warning(
                "failed",
                model=model,
                kind=kind.value,
                requests=count,
                correlation_id=message.correlation_id,
                **_trace_of(delivery),
            )

    def forgotten(self, delivery: Delivery) -> None:
        """See LoopObserver."""
        self._metrics.in_progress.dec(len(delivery.requests))

    def undeliverable(self, count: int) -> None:
        """See LoopObserver."""
        self._metrics.dead_letters.labels(UNDELIVERABLE).inc(count)
        self._log.warning(UNDELIVERABLE, replies=count)

    def connected(self) -> None:
        """See LoopObserver."""
        if self._was_connected:
            self._metrics.reconnects.labels("broker").inc()
        self._log.info("broker connected" if not self._was_connected else "broker connected again")
        self._was_connected, self._told_lost = True, False
        self._metrics.broker_down.set(0)
        self._readiness.reason = None

    def lost(self, error: BrokerError, retry_seconds: float) -> None:  # noqa: ARG002
        """See LoopObserver."""
        self._readiness.reason = str(error)
        self._metrics.broker_down.set(1)
        # Once per outage: a line for each try is what fills disks overnight.
        if not self._told_lost:
            self._log.warning("broker lost", error=str(error), hint="retrying; --no-retry gives up at once")
        self._told_lost = True

    def model_lost(self, model: str) -> None:
        """See LoopObserver."""
        self._log.error("model lost", model=model, hint="half of its calls hang: to be replaced")

    def draining(self, open_requests: int) -> None:
        """See LoopObserver."""
        self._readiness.reason = "draining"
        self._log.info("draining", requests=open_requests)

    def drained(self, released: int) -> None:
        """See LoopObserver."""
        self._log.info("drained", released_messages=released)

    def cache_operation(self, operation: str, seconds: float) -> None:
        """See worker.cache.Observer."""
        self._metrics.cache_seconds.observe(seconds, operation)

    def cache_error(self, operation: str) -> None:
        """See worker.cache.Observer."""
        self._metrics.cache_errors.labels(operation).inc()

    def cache_stored(self, size: int) -> None:
        """See worker.cache.Observer."""
        self._metrics.value_bytes.observe(size)

    def fault(self, error: Exception) -> None:
        """A mistake of recollect's own, with its traceback."""
        self._log.error("fault", exc_info=error)

    def cache_changed(self, is_down: bool) -> None:
        """Told by the cache's breaker, once per change."""
        self._metrics.cache_down.set(is_down)
        if is_down:
            self._log.warning("cache down", hint="requests go to the model until it answers again")
        else:
            self._metrics.reconnects.labels("cache").inc()
            self._log.info("cache up")

    def figures_refused(self, error: str) -> None:
        """What this worker counted cannot be written for the page: told once until it can."""
        self._log.warning("figures refused", error=error, hint="the page misses them until it is mended")

    def queues_seen(self, queues: Queues) -> None:
        """See LookoutObserver."""
        for queue, waiting in queues.waiting.items():
            self._metrics.queue_depth.labels(queue).set(waiting.messages)

    def paused(self, is_paused: bool) -> None:
        """See LookoutObserver."""
        self._metrics.is_paused.set(is_paused)
        if is_paused:
            self._log.warning("paused", hint="nothing is taken from the queues until `queue resume`")
        else:
            self._log.info("resumed")

    def serves(self, model: str, concurrency: int, calls_in_progress: Callable[[], int]) -> None:
        """A model is served, with so many calls at once at most."""
        self._metrics.serves(model, concurrency, calls_in_progress)

    def model_down(self, model: str, is_down: bool) -> None:
        """Told by a model's breaker, once per change."""
        self._metrics.model_down.labels(model).set(is_down)
        if is_down:
            self._log.warning("model down", model=model, hint="its requests wait until it answers a probe")
        else:
            self._log.info("model up", model=model)

    def model_attempt(self, model: str, result: str, seconds: float) -> None:
        """See worker.calls.CallObserver."""
        self._metrics.attempts.labels(model, result).inc()
        self._metrics.call_seconds.observe(seconds, model)

    def model_retry(self, model: str, reason: str) -> None:
        """See worker.calls.CallObserver."""
        self._metrics.retries.labels(model, reason).inc()


def _trace_of(delivery: Delivery) -> dict[str, str]:
    """What joins a log line to its trace, where the message names one."""
    traceparent = delivery.traceparent
    return {} if traceparent is None else {"trace_id": trace_id(traceparent)}
