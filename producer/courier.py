"""Sends and receives for a producer, and comes back after the broker was away."""

import random
import time
from collections.abc import Callable, Sequence

from broker.base import Broker, BrokerLost, BrokerUnreachable, Message, Settlement

_BACKOFF_SECONDS = (0.1, 5.0)


class Courier:
    """A broker that reconnects with full-jitter back-off, for `reconnect_seconds` at most.

    `on_wait` is told of each failed try. `resend` is called after every new connection: a request or its
    reply may have been lost with the old one.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        reconnect_seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        on_wait: Callable[[Exception], None] | None = None,
    ) -> None:
        self._broker, self._reconnect_seconds = broker, reconnect_seconds
        self._clock, self._sleep, self._on_wait = clock, sleep, on_wait
        self._connected = False
        self._owned: list[str] = []
        self.resend: Callable[[], None] = lambda: None

    def connect(self, *, retry: bool = True) -> None:
        """Connect unless connected. Raises BrokerUnreachable, at once without `retry`."""
        if self._connected:
            return
        end = self._clock() + (self._reconnect_seconds if retry else 0)
        pause, longest = _BACKOFF_SECONDS
        while True:
            try:
                self._broker.connect()
                for queue in self._owned:
                    self._broker.own(queue)
            except (BrokerUnreachable, BrokerLost) as error:
                if self._clock() >= end:
                    raise BrokerUnreachable(str(error)) from error
                if self._on_wait is not None:
                    self._on_wait(error)
                self._sleep(random.uniform(0, pause))  # noqa: S311 - spreads load, guards nothing
                pause = min(2 * pause, longest)
            else:
                self._connected = True
                return

    def own(self, queue: str) -> None:
        """Have a private reply queue from now on, also after a reconnect."""
        self._owned.append(queue)
        self._again(lambda: self._broker.own(queue))

    def declare(self, queue: str) -> None:
        """Make sure that a reply queue for many exists."""
        self._again(lambda: self._broker.declare(queue))

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        """Send, confirmed. What a lost connection leaves in doubt is sent again: a hit for the worker."""
        self._again(lambda: self._broker.send(queue, messages))

    def receive(self, queue: str, most: int, timeout: float) -> list[Message]:
        """At most so many messages; none where the connection was lost meanwhile."""
        try:
            self._broker.keep_alive()
            return self._broker.receive({queue: most}, timeout)
        except BrokerLost:
            self._come_back()
            return []

    def settle(self, messages: Sequence[Message]) -> None:
        """Acknowledge."""
        try:
            self._broker.commit([Settlement(message, ()) for message in messages])
        except BrokerLost:
            self._come_back()

    def close(self) -> None:
        """Leave."""
        self._broker.close()
        self._connected = False

    def _again(self, step: Callable[[], None]) -> None:
        self.connect()
        while True:
            try:
                step()
            except BrokerLost:
                self._come_back()
            else:
                return

    def _come_back(self) -> None:
        self._connected = False
        self.connect()
        self.resend()
