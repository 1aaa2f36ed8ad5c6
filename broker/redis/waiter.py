"""The wait for queues that are empty."""

import contextlib
import selectors
import socket
import time
from collections.abc import Iterable, Iterator

from redis.connection import ConnectionInterface
from redis.exceptions import RedisError

from broker.redis.address import Address


class Peek:
    """Waits for a list to have something in it, without taking it.

    BLMOVE of a list's last item onto its own end blocks while the list is empty, changes nothing, and wakes
    everybody who waits. Rejected: BRPOP, which takes the message before anybody has a record of it; polling.
    One that fails rests: a full server, or one that forbids BLMOVE, refuses it at once and every time.
    """

    _SECONDS = 5
    _REST_SECONDS = 2.0

    def __init__(self, address: Address, queue: str) -> None:
        self._address, self._queue = address, queue
        self._connection: ConnectionInterface | None = None
        self._armed = False
        self._rests_until = 0.0

    @property
    def rests(self) -> bool:
        """Whether it failed a moment ago."""
        return time.monotonic() < self._rests_until

    def fail(self) -> None:
        """Hang up, and rest."""
        self.close()
        self._rests_until = time.monotonic() + self._REST_SECONDS

    def arm(self) -> int:
        """The descriptor that becomes readable when there is something. Raises RedisError, OSError."""
        if self._connection is None:
            connection = self._address.connection(self._SECONDS + 5)
            connection.connect()
            self._connection = connection
        if not self._armed:
            self._connection.send_command("BLMOVE", self._queue, self._queue, "RIGHT", "RIGHT", self._SECONDS)
            self._armed = True
        # redis-py has no public way to select on a connection.
        return int(self._connection._sock.fileno())  # type: ignore[attr-defined]

    def read(self) -> None:
        """Take the answer off the line. Raises RedisError, OSError."""
        self._armed = False
        if self._connection is not None:
            self._connection.read_response()

    def close(self) -> None:
        """Stop waiting. Never raises."""
        connection, self._connection, self._armed = self._connection, None, False
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                connection.disconnect()


class Waiter:
    """Waits for any of several queues, or for a wake.

    A peek that fails is only a lost hint: who lost its server hears of it when it claims.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._peeks: dict[str, Peek] = {}
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)

    def wait(self, queues: Iterable[str], seconds: float) -> bool:
        """Whether a wake ended it. Returns early when one of `queues` has something."""
        with selectors.PollSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for queue in queues:
                peek = self._peeks.setdefault(queue, Peek(self._address, queue))
                if peek.rests:
                    continue
                with _hint(peek):
                    selector.register(peek.arm(), selectors.EVENT_READ, peek)
            ready = [key.data for key, _ in selector.select(seconds)]
        for peek in ready:
            if peek is not None:
                with _hint(peek):
                    peek.read()
        return None in ready and self._drain()

    def wake(self) -> None:
        """End a wait, from any thread or signal handler."""
        with contextlib.suppress(OSError):  # full of wakes already, or closed
            self._wake.send(b"w")

    def hang_up(self) -> None:
        """Close the connections; new ones are made when they are needed."""
        for peek in self._peeks.values():
            peek.close()

    def close(self) -> None:
        """Close everything."""
        self.hang_up()
        self._woken.close()
        self._wake.close()

    def _drain(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        return True


@contextlib.contextmanager
def _hint(peek: Peek) -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError):
        peek.fail()
