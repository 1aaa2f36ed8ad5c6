"""The one place where the AMQP broker waits: for all its connections at once, their heartbeats included."""

import select
import time
from collections.abc import Callable

from broker.amqp.connection import Connection
from broker.amqp.wake import Waker

_BEAT_SECONDS = 1.0


class Pump:
    """Moves what is to be read and written, and keeps heartbeats; tells `on_beat` of each, once a second."""

    def __init__(self, on_beat: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._on_beat, self._clock = on_beat, clock
        self._connections: list[Connection] = []
        self._next_beat = clock() + _BEAT_SECONDS

    def add(self, connection: Connection) -> None:
        """Look after this one, too."""
        self._connections.append(connection)
        connection.turn = self.turn

    def remove(self, connection: Connection) -> None:
        """Look after it no longer."""
        self._connections.remove(connection)

    def turn(self, seconds: float, waker: Waker | None = None) -> bool:
        """Wait until something can be read or written, at most so long and never over a heartbeat.

        Returns whether `waker` ended it. Raises whatever is wrong with a connection.
        """
        if sum(connection.read_left_over() for connection in self._connections):
            seconds = 0.0
        for connection in self._connections:
            connection.flush()
        ready = self._poll(min(seconds, _BEAT_SECONDS), waker)
        for connection in self._connections:
            if ready.get(connection.fileno(), 0) & ~select.POLLOUT:
                connection.read()
                connection.flush()
        self.beat()
        if waker is None or waker.fileno() not in ready:
            return False
        waker.clear()
        return True

    def beat(self) -> None:
        """Send heartbeats that are due, notice those that are missing; does something once a second."""
        now = self._clock()
        if now < self._next_beat:
            return
        self._next_beat = now + _BEAT_SECONDS
        self._on_beat()
        for connection in self._connections:
            # What has arrived meanwhile is a sign of life, however late we come to look.
            connection.read_left_over()
            if self._poll(0.0, None).get(connection.fileno(), 0) & ~select.POLLOUT:
                connection.read()
            connection.heartbeat_tick()
            connection.flush()

    def _poll(self, seconds: float, waker: Waker | None) -> dict[int, int]:
        poll = select.poll()
        for connection in self._connections:
            writes = select.POLLOUT if connection.unsent_bytes else 0
            poll.register(connection.fileno(), select.POLLIN | writes)
        if waker is not None:
            poll.register(waker.fileno(), select.POLLIN)
        return dict(poll.poll(max(0.0, seconds) * 1000))
