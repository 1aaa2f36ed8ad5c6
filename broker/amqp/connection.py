"""One connection to RabbitMQ that never blocks its thread, and channels that are used once.

Everything written goes to an outbox, which `flush` empties as far as the socket takes it: a broker that does
not read (memory alarm, frozen) must not keep us from the other connection's heartbeats. Everything read goes
through `Reader`. Whoever waits does so in the pump's `turn`, which looks after all connections.
"""

import contextlib
import ssl
import time
from collections.abc import Callable, Collection
from typing import Any

import amqp
from kombu.transport import pyamqp

from broker.amqp.content import Content, frame_handler
from broker.amqp.frames import acknowledgements, returns
from broker.amqp.message import received
from broker.amqp.reader import Reader
from broker.amqp.shortcut import Shortcut
from broker.base import Message

_SLICE_BYTES = 256 * 1024


# As a channel received it: the name of the consumer, the delivery tag, and the message, without its queue.
Delivery = tuple[str, int, Message]


class Channel(amqp.Channel):  # type: ignore[misc]
    """A channel that ends with its first error, and only takes note of what arrives.

    py-amqp opens a channel that the broker closed once more, without its consumers and its confirm mode: a
    loop that counts confirms would wait for ever.
    """

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, auto_decode=False)
        self.deliveries: list[Delivery] = []
        self.open()

    def _do_revive(self) -> None:
        self.collect()

    def _on_basic_deliver(
        self, consumer: str, tag: int, redelivered: bool, _exchange: str, _key: str, content: Content
    ) -> None:
        self.deliveries.append((consumer, tag, received(content, redelivered)))

    def acknowledge(self, up_to: int, others: Collection[int]) -> None:
        """Settle all deliveries up to the tag `up_to` (0: none), and each of `others`."""
        self.put(acknowledgements(self.channel_id, up_to, others))

    def give_back(self, up_to: int, others: Collection[int]) -> None:
        """Return all deliveries up to the tag `up_to` (0: none), and each of `others`, to their queues."""
        self.put(returns(self.channel_id, up_to, others))

    def put(self, frames: bytes) -> None:
        """Have whole frames of this channel sent."""
        if self.connection is None:
            raise ConnectionResetError("the channel is closed")
        self.connection.put(frames)


class Connection(pyamqp.Connection):  # type: ignore[misc]
    """kombu's connection of py-amqp. A call that needs an answer has it in `answer_seconds`, or raises."""

    answer_seconds = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options, frame_handler=frame_handler)
        self.turn: Callable[[float], Any] = self._unattended
        self.blocked = False
        self.flushed_bytes = 0
        self._outbox = bytearray()
        self._reader: Reader | None = None

    def connect(self, callback: Any = None) -> None:
        """Shake hands as py-amqp does, each step within the connect time-out; then never block again."""
        super().connect(callback)
        self.transport.sock.setblocking(False)
        self.transport._write = self._outbox.extend
        self._reader = Reader(self.transport, self.on_inbound_frame, Shortcut(self))

    def drain_events(self, timeout: float | None = None) -> None:
        """Where py-amqp waits for an answer. Raises TimeoutError after `answer_seconds` without any."""
        if self._reader is None:
            super().drain_events(timeout)
            return
        end = time.monotonic() + self.answer_seconds
        seen = self._reader.methods
        while self._reader.methods == seen:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {self.answer_seconds:g} s")
            self.turn(left)

    def put(self, frames: bytes) -> None:
        """Have whole frames sent."""
        if frames:  # none must not pass for a sign of life: heartbeats would stop while we wait for confirms
            self._outbox += frames
            self.bytes_sent += 1

    @property
    def unsent_bytes(self) -> int:
        """How much waits in the outbox."""
        return len(self._outbox)

    def fileno(self) -> int:
        """Of its socket. Raises OSError where it has none any more."""
        transport = self._transport
        if transport is None or transport.sock is None:
            raise ConnectionResetError("the connection is closed")
        return int(transport.sock.fileno())

    def read(self) -> None:
        """Pass on what has arrived."""
        assert self._reader is not None
        self._reader.read()

    def read_left_over(self) -> bool:
        """Pass on what had arrived before an exception; whether there was anything."""
        assert self._reader is not None
        return self._reader.read_left_over()

    def flush(self) -> None:
        """Send as much as the socket takes."""
        # Not `transport`: that property connects anew where the connection has been closed.
        while self._outbox and self._transport is not None:
            try:
                with memoryview(self._outbox) as view:
                    sent = self._transport.sock.send(view[:_SLICE_BYTES])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            del self._outbox[:sent]
            self.flushed_bytes += sent

    def shut(self, seconds: float) -> None:
        """Say goodbye within so many seconds, then close the socket whatever happens."""
        self.answer_seconds = seconds
        with contextlib.suppress(Exception):
            self.close()
        self.drop()

    def drop(self) -> None:
        """Close the socket at once, after a last try to send what waits."""
        with contextlib.suppress(Exception):
            self.flush()
        with contextlib.suppress(Exception):
            self.collect()

    def _on_blocked(self) -> None:
        self.blocked = True

    def _on_unblocked(self) -> None:
        self.blocked = False

    @staticmethod
    def _unattended(_seconds: float) -> None:
        raise RuntimeError("a connection is used before a pump looks after it")


class Transport(pyamqp.Transport):  # type: ignore[misc]
    """kombu's transport, with our connection."""

    Connection = Connection
