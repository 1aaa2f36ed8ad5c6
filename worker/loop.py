"""The I/O thread: receive, handle, commit; and, when asked to stop, drain.

It alone touches the broker. Model threads only put their results down and wake it. A commit runs while the
next messages are received and handled.
"""

import contextlib
import math
import random
from collections.abc import Callable

from broker.base import Broker, BrokerError, BrokerLost, BrokerUnreachable, Message, Settlement
from wire.message import Limits
from wire.names import Names
from worker.delivery import Delivery
from worker.intake import Intake
from worker.observer import LoopObserver
from worker.settling import Settling
from worker.suspects import Suspects
from worker.work import Work

_BACKOFF_SECONDS = 0.1
_IDLE_SECONDS = 0.5
# While somebody asks, turns are short: whoever comes in the middle of one waits for all that it took.
_POLITE_SECONDS, _POLITE_PART = 1.0, 8


class Loop:
    """Runs until `stop` is called, then drains for at most `drain_seconds`; a second call cuts that short.

    `clock` is monotonic, `wall_clock` Unix seconds; `reconnect_max_seconds` is the longest back-off.
    """

    def __init__(
        self,
        broker: Broker,
        work: Work,
        observer: LoopObserver,
        names: Names,
        limits: Limits,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        sleep: Callable[[float], None],
        intake: Intake,
        reconnect_max_seconds: float,
        drain_seconds: float,
        retry: bool,
        is_paused: Callable[[], bool],
        dead_letter_failed: bool,
    ) -> None:
        self._broker, self._work, self._observer = broker, work, observer
        self._interactive, self._requests, self._misses = names.worked
        self._clock, self._sleep = clock, sleep
        self._intake, self._reconnect_max_seconds = intake, reconnect_max_seconds
        self._drain_seconds, self._retry, self._is_paused = drain_seconds, retry, is_paused
        self._open: set[Delivery] = set()

        def settlement(delivery: Delivery) -> Settlement:
            now = wall_clock()
            return delivery.settlement(names, limits, now, dead_letter_failed=dead_letter_failed)

        self._settling = Settling(broker, observer, settlement)
        self._suspects = Suspects(broker, work)
        self._stopping = self._abandoning = False
        self._pause, self._polite_until = _BACKOFF_SECONDS, 0.0
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
            self._work.close()
            self._broker.close()

    def _has_lost_a_model(self) -> bool:
        self.lost_model = self._work.lost_model()
        if self.lost_model is not None:
            self._observer.model_lost(self.lost_model)
        return self.lost_model is not None

    def _turn(self) -> None:
        self._observer.turned()
        self._broker.keep_alive()
        self._advance()
        messages = self._broker.receive(self._credit(), self._patience())
        ordinary = self._suspects.put_aside(messages)
        interactive = [message for message in ordinary if message.queue == self._interactive]
        if interactive:  # answered on its own: it does not wait for the work on the others
            self._polite_until = self._clock() + _POLITE_SECONDS
            self._begin(interactive)
            ordinary = [message for message in ordinary if message.queue != self._interactive]
        if ordinary:
            deliveries = self._begin(ordinary)
            self._intake.learn([delivery for delivery in deliveries if not delivery.is_second])

    def _begin(self, messages: list[Message]) -> list[Delivery]:
        deliveries = self._work.begin(messages, self._open)
        self._hold(deliveries)
        self._commit()
        return deliveries

    def _credit(self) -> dict[str, int]:
        """What is interactive comes first; then what has waited for its model, as far as there is room."""
        if self._is_paused():
            return {}
        if self._suspects or self._work.is_overfull(self._open):
            return {self._interactive: 0, self._misses: 0, self._requests: 0}
        return {
            self._interactive: self._work.interactive_credit(),
            self._misses: self._work.credit(self._open),
            self._requests: self._bulk_credit(),
        }

    def _bulk_credit(self) -> int:
        credit = self._intake.credit()
        is_polite = self._clock() < self._polite_until
        return math.ceil(credit / _POLITE_PART) if is_polite else credit

    def _advance(self, *, wait: bool = False) -> None:
        """Answer what the models answered, go on with what runs alone, settle.

        A trial begins when nothing else is held, and what is under commit is held: its end is awaited.
        """
        self._collect()
        on_trial = bool(self._suspects)
        self._suspects.acquit()
        self._commit(wait=wait or on_trial)
        while (opened := self._suspects.step(self._open)) is not None:
            self._hold([opened])
            self._suspects.acquit()
            self._commit(wait=True)

    def _collect(self) -> None:
        self._suspects.finished(self._work.go_on())

    def _hold(self, deliveries: list[Delivery]) -> None:
        self._open.update(deliveries)
        self._observer.received(deliveries)

    def _patience(self) -> float:
        due = self._work.next_due_seconds()
        return _IDLE_SECONDS if due is None else min(_IDLE_SECONDS, due)

    def _commit(self, *, wait: bool = False) -> None:
        """Settle what is answered, and go on; or, with `wait`, when all of it is settled."""
        answered = [delivery for delivery in self._open if delivery.is_answered]
        self._open.difference_update(answered)
        self._settling.commit(answered, wait=wait)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
            self._pause = _BACKOFF_SECONDS
        except BrokerLost as error:
            self._reconnect(error, lambda: self._stopping)

    def _connect(self) -> None:
        try:
            self._broker.connect()
        except BrokerUnreachable as error:
            if not self._retry:
                raise
            self._reconnect(error, lambda: self._stopping)
        else:
            self._observer.connected()

    def _reconnect(self, error: BrokerError, give_up: Callable[[], bool]) -> None:
        """Full-jitter back-off. Calls go on meanwhile: their results wait in the cache for the redelivery.

        Only a whole turn ends it: a server that connects and refuses the work is not asked on and on.
        """
        while not give_up():
            wait = random.uniform(0, self._pause)  # noqa: S311 - spreads load, guards nothing
            self._observer.lost(error, wait)
            self._wait(wait, give_up)
            self._pause = min(2 * self._pause, self._reconnect_max_seconds)
            try:
                self._broker.connect()
                self._settling.begin_again()
                self._give_up_suspects()
            except (BrokerUnreachable, BrokerLost) as again:
                error = again
            else:
                self._observer.connected()
                return

    def _give_up_suspects(self) -> None:
        """A lost connection may have given them to others, and two trials of one message prove nothing."""
        on_trial = self._suspects.end_trial()
        if on_trial is not None:
            self._open.discard(on_trial)
            self._observer.forgotten(on_trial)
        self._broker.release(self._suspects.waiting())
        self._suspects.forget_waiting()

    def _wait(self, seconds: float, give_up: Callable[[], bool]) -> None:
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0 and not give_up():
            self._observer.turned()
            self._collect()
            self._sleep(min(left, 0.1))

    def _drain(self) -> None:
        """Finish what is held, within the deadline; the rest goes back for others. In this order, because:

        nothing new may come in while the end is awaited, nor any trial begin; an answer that is ready is
        worth more than a redelivery, so calls, retries and a lost connection are seen to; what is unfinished
        at the deadline is released at once, or it would wait until somebody notices our absence. The
        connection, whose heartbeats made all this possible, goes last, in `run`.
        """
        self._observer.draining(sum(len(delivery.requests) for delivery in self._open))
        end = self._clock() + self._drain_seconds

        def is_over() -> bool:
            return self._abandoning or self._clock() >= end

        while (self._open or self._settling or self._suspects) and not is_over():
            try:
                self._drain_turn()
                self._pause = _BACKOFF_SECONDS
            except BrokerLost as error:
                self._reconnect(error, is_over)
        self._work.let_go()
        with contextlib.suppress(BrokerLost):  # then it gives everything back by itself
            self._broker.release([delivery.message for delivery in self._open])
        self._observer.drained(len(self._open))

    def _drain_turn(self) -> None:
        self._observer.turned()
        self._broker.keep_alive()
        self._broker.release(self._suspects.waiting())
        self._suspects.forget_waiting()
        self._advance(wait=True)
        if self._open:
            self._broker.receive({}, 0.05)
