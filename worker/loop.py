"""The I/O thread: receive, handle, commit; and, when asked to stop, drain.

It alone touches the broker. Model threads only put their results down and wake it.
"""

import random
from collections.abc import Callable
from typing import Protocol

from broker.base import Broker, BrokerError, BrokerLost, BrokerUnreachable, Committed, Settlement
from wire.message import Limits
from wire.names import Names
from worker.calls import Calls
from worker.delivery import Delivery
from worker.handler import Handler

_BACKOFF_SECONDS = (0.1, 10.0)
_IDLE_SECONDS = 0.5
_MOST_MESSAGES = 256


class LoopObserver(Protocol):
    """What the loop tells of its work: metrics and logs hang here."""

    def turned(self) -> None:
        """The loop has turned."""

    def received(self, deliveries: list[Delivery]) -> None:
        """Messages came in."""

    def settled(self, delivery: Delivery, settlement: Settlement) -> None:
        """Everything for this message is confirmed, and it is acknowledged."""

    def forgotten(self, delivery: Delivery) -> None:
        """It is no longer ours to settle: a lost connection gave it to somebody else."""

    def undeliverable(self, count: int) -> None:
        """So many replies became dead letters."""

    def connected(self) -> None:
        """The broker is there."""

    def lost(self, error: BrokerError, retry_seconds: float) -> None:
        """The broker is not; the next try comes after so many seconds."""

    def model_lost(self, model: str) -> None:
        """Half of a model's threads hang: the process is better replaced."""

    def draining(self, open_requests: int) -> None:
        """Nothing more is received."""

    def drained(self, released: int) -> None:
        """The end; so many messages went back to their queue."""


class Loop:
    """Runs until `stop` is called, then drains for at most `drain_seconds`; a second call cuts that short.

    `in_flight` bounds the requests held at once. `clock` is monotonic, `wall_clock` Unix seconds.
    """

    def __init__(
        self,
        broker: Broker,
        handler: Handler,
        calls: Calls,
        observer: LoopObserver,
        names: Names,
        limits: Limits,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        sleep: Callable[[float], None],
        in_flight: int,
        in_flight_bytes: int,
        drain_seconds: float,
        retry: bool,
        dead_letter_failed: bool,
    ) -> None:
        self._broker, self._handler, self._calls, self._observer = broker, handler, calls, observer
        self._names, self._limits = names, limits
        self._clock, self._wall_clock, self._sleep = clock, wall_clock, sleep
        self._in_flight, self._in_flight_bytes = in_flight, in_flight_bytes
        self._drain_seconds, self._retry = drain_seconds, retry
        self._dead_letter_failed = dead_letter_failed
        self._open: set[Delivery] = set()
        self._unsettled: list[tuple[Delivery, Settlement]] = []
        self._typical_requests, self._typical_bytes = 1.0, 1.0
        self._stopping = self._abandoning = False
        self.lost_model: str | None = None

    def stop(self) -> None:
        """Drain and end; called again, give everything back at once. For signal handlers: takes no lock."""
        self._abandoning = self._stopping
        self._stopping = True
        self._broker.wake()

    def run(self) -> None:
        """Work until told to stop. Raises BrokerUnreachable at the start only, and only without `retry`."""
        try:
            self._connect()
            while not self._stopping and not self._has_lost_a_model():
                self._guarded(self._turn)
            self._drain()
        finally:
            # Whatever ends us: what is held goes back at once instead of after somebody's time-out.
            self._calls.close()
            self._broker.close()

    def _has_lost_a_model(self) -> bool:
        self.lost_model = self._calls.exhausted()
        if self.lost_model is not None:
            self._observer.model_lost(self.lost_model)
        return self.lost_model is not None

    def _turn(self) -> None:
        self._observer.turned()
        self._broker.keep_alive()
        self._handler.finish(self._calls.advance())
        self._commit()
        credit = self._credit()
        messages = self._broker.receive({self._names.requests: credit}, self._patience())
        if messages:
            batch = self._handler.handle(messages, self._clock())
            self._learn(batch.deliveries)
            self._open.update(batch.deliveries)
            self._observer.received(batch.deliveries)
            for job in batch.calls:
                self._calls.start(job.model.name, job.request.payload, job)
            self._commit()

    def _credit(self) -> int:
        """How many messages to take: the bounds count requests and bytes, and messages differ in both."""
        requests = sum(len(delivery.requests) for delivery in self._open)
        size = sum(len(delivery.message.body) for delivery in self._open)
        by_count = (self._in_flight - requests) / self._typical_requests
        by_bytes = (self._in_flight_bytes - size) / self._typical_bytes
        room = min(by_count, by_bytes, _MOST_MESSAGES)
        # Below one message there is still room for one when nothing is held: a large one must pass, too.
        return max(int(room), 1 if not self._open or 0 < room < 1 else 0)

    def _learn(self, deliveries: list[Delivery]) -> None:
        """Expect the largest of late, forgetting slowly: a wrong guess costs memory only upwards."""
        requests = max(len(delivery.requests) for delivery in deliveries)
        size = max(len(delivery.message.body) for delivery in deliveries)
        self._typical_requests = max(1.0, requests, 0.9 * self._typical_requests)
        self._typical_bytes = max(1.0, size, 0.9 * self._typical_bytes)

    def _patience(self) -> float:
        due = self._calls.next_due_seconds()
        return _IDLE_SECONDS if due is None else min(due, _IDLE_SECONDS)

    def _commit(self) -> None:
        """Settle what is answered. What a lost connection leaves open is committed again after the next."""
        answered = [delivery for delivery in self._open if delivery.is_answered]
        for delivery in answered:
            settlement = delivery.settlement(
                self._names,
                self._limits,
                self._wall_clock(),
                dead_letter_failed=self._dead_letter_failed,
            )
            self._unsettled.append((delivery, settlement))
            self._open.discard(delivery)
        if not self._unsettled:
            return
        committed = self._broker.commit([settlement for _, settlement in self._unsettled])
        self._report(committed)
        self._unsettled.clear()

    def _report(self, committed: Committed) -> None:
        settled = {id(settlement.message) for settlement in committed.settled}
        for delivery, settlement in self._unsettled:
            if id(settlement.message) in settled:
                self._observer.settled(delivery, settlement)
            else:
                self._observer.forgotten(delivery)
        if committed.undeliverable:
            self._observer.undeliverable(len(committed.undeliverable))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BrokerLost as error:
            self._reconnect(error)

    def _connect(self) -> None:
        try:
            self._broker.connect()
        except BrokerUnreachable as error:
            if not self._retry:
                raise
            self._reconnect(error)
        else:
            self._observer.connected()

    def _reconnect(self, error: BrokerError) -> None:
        """Full-jitter back-off. Calls go on meanwhile: their results wait in the cache for the redelivery."""
        low, high = _BACKOFF_SECONDS
        pause = low
        while not self._stopping:
            wait = random.uniform(0, pause)  # noqa: S311 - spreads load, guards nothing
            self._observer.lost(error, wait)
            self._wait(wait)
            pause = min(2 * pause, high)
            try:
                self._broker.connect()
            except BrokerUnreachable as again:
                error = again
            else:
                self._observer.connected()
                return

    def _wait(self, seconds: float) -> None:
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0 and not self._stopping:
            self._observer.turned()
            self._handler.finish(self._calls.advance())
            self._sleep(min(left, 0.1))

    def _drain(self) -> None:
        """Finish what is held, within the deadline; the rest goes back for others. In this order, because:

        nothing new may come in while the end is awaited; an answer that is ready is worth more than a
        redelivery, so calls and retries go on; what is unfinished at the deadline is released at once, or it
        would wait until somebody notices our absence. The connection, whose heartbeats made all this
        possible, goes last, in `run`.
        """
        self._observer.draining(sum(len(delivery.requests) for delivery in self._open))
        end = self._clock() + self._drain_seconds
        try:
            while (self._open or self._unsettled) and self._clock() < end and not self._abandoning:
                self._observer.turned()
                self._broker.keep_alive()
                self._handler.finish(self._calls.advance())
                self._commit()
                if self._open:
                    self._broker.receive({}, 0.05)
            self._broker.release([delivery.message for delivery in self._open])
        except BrokerLost:
            pass  # it gives everything back by itself: at least once is the promise
        self._observer.drained(len(self._open))
