"""Sends and receives for a producer, and comes back after the broker was away."""

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from broker.base import Broker, BrokerLost, BrokerUnreachable, Message, Settlement

_BACKOFF_SECONDS = (0.1, 5.0)


class Trouble(NamedTuple):
    """Since when a verb fails, how often it was tried since, and how it failed last."""

    since: float
    tries: int
    error: Exception | None = None


class Courier:
    """A broker that is tried again with full-jitter back-off, for `reconnect_seconds` at most.

    `on_wait` is told of each failed try. `connections` counts them: whoever has something in flight sends it
    again when the count has moved, since a request or its reply may have been lost with the old connection.
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
        self._give_up_at: float | None = None
        self._troubles: dict[str, Trouble] = {}
        self._unsettled: list[Settlement] = []
        self._unwanted: list[Message] = []
        self.connections = 0
        self._process, self._closed = os.getpid(), False

    @contextlib.contextmanager
    def until(self, give_up_at: float) -> Iterator[None]:
        """Meanwhile nothing is tried again after `give_up_at` on the clock."""
        self._give_up_at = give_up_at
        try:
            yield
        finally:
            self._give_up_at = None

    def connect(self, *, retry: bool = True) -> None:
        """Connect unless connected. Raises BrokerUnreachable, at once without `retry`."""
        self._again("connect", lambda: None, retry=retry)

    def own(self, queue: str) -> None:
        """Have a private reply queue from now on, also after a reconnect."""
        self._owned.append(queue)
        self._again("own", lambda: self._broker.own(queue))

    def declare(self, queue: str) -> None:
        """Make sure that a reply queue for many exists."""
        self._again("declare", lambda: self._broker.declare(queue))

    def depth(self, replies: Sequence[str] = ()) -> dict[str, int]:
        """How many messages wait in the prefix's own queues, and in these of replies; nothing is taken."""
        found: dict[str, int] = {}
        self._again("depth", lambda: found.update(self._broker.depth(replies)))
        return found

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        """Send, confirmed. What a lost connection leaves in doubt is sent again: a hit for the worker."""
        self._again("send", lambda: self._broker.send(queue, messages))

    @property
    def trouble(self) -> Exception | None:
        """Why there is no connection that works, where one was tried; from any thread."""
        return next((trouble.error for trouble in list(self._troubles.values())), None)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as is known; from any thread."""
        return self._connected

    def wake(self) -> None:
        """End a `receive` that is waiting, from any thread."""
        self._broker.wake()

    def receive(self, credit: Mapping[str, int], timeout: float) -> list[Message]:
        """At most so many messages of each queue; none where the connection was lost meanwhile."""
        try:
            self._come_back()
            self._broker.keep_alive()
            self._finish()
            self._recovered("settle")
            messages = self._broker.receive(credit, timeout)
        except (BrokerLost, BrokerUnreachable) as error:
            self._failed("receive", error)
            return []
        self._recovered("receive")
        return messages

    def settle(self, messages: Sequence[Message]) -> None:
        """Acknowledge. What a lost connection leaves in doubt is settled with the next, or comes again."""
        self._unsettled += [Settlement(message, ()) for message in messages]
        try:
            self._finish()
        except BrokerLost as error:
            self._failed("settle", error)
        else:
            self._recovered("settle")

    def release(self, messages: Sequence[Message]) -> None:
        """Give back what was received and not wanted, now or with the next connection."""
        if self._is_forked():
            return
        self._unwanted += messages
        try:
            self._finish()
        except BrokerLost:
            self._connected = False

    def _finish(self) -> None:
        # A broker may hold for us what an earlier connection received (Redis does): left alone, it would
        # be held for as long as we live.
        if self._unsettled:
            self._broker.commit(self._unsettled)
            self._unsettled.clear()
        if self._unwanted:
            self._broker.release(self._unwanted)
            self._unwanted.clear()

    def close(self) -> None:
        """Leave. In a forked child nothing: the connection, the lease and the queue are its parent's."""
        if self._is_forked():
            return
        self._broker.close()
        self._connected, self._closed = False, True

    def _is_forked(self) -> bool:
        return os.getpid() != self._process

    def _again(self, verb: str, step: Callable[[], None], *, retry: bool = True) -> None:
        while True:
            try:
                self._come_back()
                step()
            except (BrokerLost, BrokerUnreachable) as error:
                self._failed(verb, error, retry=retry)
            else:
                return self._recovered(verb)

    def _come_back(self) -> None:
        if self._is_forked():
            raise RuntimeError("this Producer was made before a fork; make one in each process")
        if self._closed:
            raise RuntimeError("this Producer is closed; make a new one")
        if self._connected:
            return
        self._broker.connect()
        for queue in self._owned:
            self._broker.own(queue)
        self._connected = True
        self.connections += 1

    def _recovered(self, verb: str) -> None:
        # By verb, and not when a connection was made: a server that takes connections and drops every receive
        # must end in BrokerUnreachable too, and must not be asked without a pause.
        self._troubles.pop(verb, None)

    def _failed(self, verb: str, error: Exception, *, retry: bool = True) -> None:
        self._connected = False
        now = self._clock()
        since, tries, _ = self._troubles.get(verb, Trouble(now, 0))
        end = since + self._reconnect_seconds
        if not retry or now >= min(end, end if self._give_up_at is None else self._give_up_at):
            self._troubles.clear()  # the next verb starts afresh
            raise BrokerUnreachable(str(error)) from error
        if self._on_wait is not None:
            self._on_wait(error)
        self._troubles[verb] = Trouble(since, tries + 1, error)
        first, longest = _BACKOFF_SECONDS
        self._sleep(random.uniform(0, min(longest, first * 2 ** min(tries, 16))))  # noqa: S311 - spreads load
