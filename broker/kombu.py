"""The plain broker: any transport that kombu emulates queues on, only as safe and as fast as kombu makes it.

It pulls (`basic_get`) rather than consumes: credit is then exact on every transport, nothing is hoarded by a
prefetch window, and no callback of ours runs inside kombu. The price is a round trip a message, and polling
while a queue is empty.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import kombu
from kombu.exceptions import KombuError

from broker.base import (
    BrokerLost,
    BrokerUnreachable,
    Committed,
    Message,
    Settlement,
)
from broker.flavours import Flavour, flavour_of
from wire.names import Names

_POLL_SECONDS = (0.001, 0.02)


class KombuBroker:
    """A broker.base.Broker over one kombu connection: a channel that receives, and one that sends.

    `before_connect` runs before each connection is made, `on_close` once at the end of `close`; `shown`
    stands for the URL in messages.
    """

    def __init__(
        self,
        url: str,
        names: Names,
        *,
        shown: str | None = None,
        before_connect: Callable[[], None] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._url, self._names, self._shown = url, names, shown or url
        self._before_connect, self._on_close = before_connect, on_close
        self._flavour: Flavour = flavour_of(url)
        self._connection: Any = None
        self._receiving: Any = None
        self._sending: Any = None
        self._epoch = 0
        self._held: dict[str, Message] = {}
        self._owned: set[str] = set()
        # Not an Event: a signal handler wakes us, and an Event's lock may be held by the code it interrupts.
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._broken = False

    def connect(self) -> None:
        """See Broker. What an earlier connection held goes back to its queue."""
        self._disconnect()
        if self._before_connect is not None:
            self._before_connect()
        connection = kombu.Connection(
            self._url,
            connect_timeout=5,
            transport_options=self._flavour.options(),
        )
        # Errors of any kind: the transports raise what their client library happens to raise.
        try:
            connection.connect()
            self._connection = connection
            self._receiving = self._flavour.open(connection)
            self._sending = self._flavour.open(connection)
            for queue in self._names.queues:
                self._flavour.declare(self._receiving, queue)
            for tag in self._held:
                self._flavour.restore(self._receiving, tag)
        except Exception as error:
            self._disconnect()
            raise BrokerUnreachable(f"no broker at {self._shown}: {_said(error)}") from error
        self._held.clear()
        self._broken = False
        self._epoch += 1

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        """See Broker."""
        with self._lost():
            for message in messages:
                self._flavour.publish(self._sending, queue, message)

    def receive(self, credit: Mapping[str, int], timeout: float) -> list[Message]:
        """See Broker."""
        end = time.monotonic() + timeout
        pause, longest = _POLL_SECONDS
        while not (messages := self._take(credit)):
            left = end - time.monotonic()
            if left <= 0 or self._is_woken(min(pause, left)):
                break
            pause = min(2 * pause, longest)
        return messages

    def commit(self, settlements: Sequence[Settlement], *, wait: bool = True) -> Committed:  # noqa: ARG002
        """See Broker. Waits in any case."""
        settled: list[Settlement] = []
        gone: list[Settlement] = []
        with self._lost():
            for settlement in settlements:
                epoch, tag = settlement.message.token
                if epoch != self._epoch or tag not in self._held:
                    gone.append(settlement)
                    continue
                for queue, outgoing in settlement.outgoing:
                    self._flavour.publish(self._sending, queue, outgoing)
                self._receiving.basic_ack(tag)
                self._held.pop(tag, None)
                settled.append(settlement)
        return Committed(settled, (), gone)

    def release(self, messages: Sequence[Message]) -> None:
        """See Broker."""
        with self._lost():
            for message in reversed(messages):
                epoch, tag = message.token
                if epoch == self._epoch and tag in self._held:
                    self._receiving.basic_reject(tag, requeue=True)
                    self._held.pop(tag, None)

    def blame(self, message: Message, position: int | None) -> None:
        """See Broker. Nothing: this broker never counts as far as the third delivery."""

    def keep_alive(self) -> None:
        """See Broker. Nothing: these transports have no heartbeats."""

    def own(self, queue: str) -> None:
        """See Broker."""
        with self._lost():
            self._flavour.declare(self._receiving, queue)
        self._owned.add(queue)

    def declare(self, queue: str) -> None:
        """See Broker."""
        with self._lost():
            self._flavour.declare(self._receiving, queue)

    def depth(self, replies: Sequence[str] = ()) -> dict[str, int]:
        """See Broker."""
        with self._lost():
            queues = (*self._names.queues, *replies)
            return {queue: self._flavour.size(self._receiving, queue) for queue in queues}

    def oldest(self) -> dict[str, float]:
        """See Broker. A look would be a delivery."""
        return {}

    def purge(self, queue: str) -> int:
        """See Broker."""
        with self._lost():
            return int(self._receiving.queue_purge(queue) or 0)

    def wake(self) -> None:
        """See Broker."""
        self._wakes.put(None)

    def close(self) -> None:
        """See Broker."""
        with contextlib.suppress(Exception):
            for queue in self._owned:
                self._receiving.queue_delete(queue)
        self._disconnect()
        if self._on_close is not None:
            self._on_close()
            self._on_close = None

    def _is_woken(self, seconds: float) -> bool:
        try:
            self._wakes.get(timeout=seconds)
        except Empty:
            return False
        while not self._wakes.empty():
            self._wakes.get_nowait()
        return True

    def _take(self, credit: Mapping[str, int]) -> list[Message]:
        messages: list[Message] = []
        with self._lost():
            for queue, most in credit.items():
                for _ in range(most):
                    found = self._flavour.get(self._receiving, queue)
                    if found is None:
                        break
                    message, tag = found
                    message.token = (self._epoch, tag)
                    self._held[tag] = message
                    messages.append(message)
        return messages

    @contextlib.contextmanager
    def _lost(self) -> Iterator[None]:
        if self._connection is None:
            raise BrokerLost(f"not connected to {self._shown}")
        try:
            yield
        except Exception as error:
            self._broken = True
            raise BrokerLost(f"lost {self._shown}: {_said(error)}") from error

    def _disconnect(self) -> None:
        if not self._broken and self._connection is not None:
            # memory:// would forget them; elsewhere it spares the others the wait for a time-out.
            with contextlib.suppress(BrokerLost):
                self.release(list(self._held.values()))
        connection, self._connection = self._connection, None
        self._receiving = self._sending = None
        if connection is not None:
            with contextlib.suppress(KombuError, OSError, Exception):
                connection.close()


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
