"""One connection to RabbitMQ that never blocks its thread, and channels that are used once.

Everything written goes to an outbox, which `flush` empties as far as the socket takes it: a broker that does
not read (memory alarm, frozen) must not keep us from the other connection's heartbeats. Everything read goes
through `Reader`. Whoever waits does so in the pump's `turn`, which looks after all connections.
"""

import contextlib
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import amqp
from kombu.transport import pyamqp

from broker.amqp.content import Content, frame_handler
from broker.amqp.reader import Reader

_SLICE_BYTES = 256 * 1024


class Delivery(NamedTuple):
    """A message as a channel received it."""

    consumer: str
    tag: int
    redelivered: bool
    content: Content


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
        self.deliveries.append(Delivery(consumer, tag, redelivered, content))


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
        self._reader = Reader(self.transport, self.on_inbound_frame)

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
