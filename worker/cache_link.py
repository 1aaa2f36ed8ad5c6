"""A connection to the cache on which every wait ends at one moment, whatever the server does.

A socket timeout counts from one recv to the next: a server that trickles keeps a command alive for ever.
"""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.retry import Retry

from broker.redis.commands import Argument, pack, read_one

T = TypeVar("T")
_READ_BYTES = 1 << 18  # the entries of a batch in one recv, or nearly
_OPTIONS: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_read_size": _READ_BYTES}


class Deadline:
    """A moment on the monotonic clock, moved by whoever begins something new."""

    def __init__(self, at: float) -> None:
        self.at = at

    def left_milliseconds(self) -> float:
        """Raises TimeoutError where nothing is left."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("deadline passed")
        return left * 1000


class DeadlineSocket:
    """What redis-py needs of a socket. Its time-outs are the deadline's alone: TCP, TLS and unix alike."""

    def __init__(self, inner: socket.socket, deadline: Deadline) -> None:
        inner.setblocking(False)
        self._inner, self._deadline = inner, deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def settimeout(self, seconds: float | None) -> None:
        """Nothing: there is the deadline."""

    def recv(self, *arguments: Any) -> bytes:
        """See socket. Raises TimeoutError."""
        return self._in_time(select.POLLIN, self._inner.recv, *arguments)

    def recv_into(self, *arguments: Any) -> int:
        """See socket. Raises TimeoutError."""
        return self._in_time(select.POLLIN, self._inner.recv_into, *arguments)

    def sendall(self, data: bytes) -> None:
        """See socket. Raises TimeoutError."""
        left = memoryview(data)
        while left:
            left = left[self._in_time(select.POLLOUT, self._inner.send, left) :]

    def _in_time(self, event: int, attempt: Callable[..., T], *arguments: Any) -> T:
        while True:
            try:
                return attempt(*arguments)
            except ssl.SSLWantReadError:
                self._await(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._await(select.POLLOUT)
            except BlockingIOError:
                self._await(event)

    def _await(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._inner, event)
        if not poll.poll(self._deadline.left_milliseconds()):
            raise TimeoutError("deadline passed")


def _bound(kind: type[AbstractConnection], deadline: Deadline) -> type[AbstractConnection]:
    """A kind of connection on sockets that keep to the deadline, the handshake included."""

    class Bound(kind):  # type: ignore[misc, valid-type]
        def _connect(self) -> DeadlineSocket:
            return DeadlineSocket(super()._connect(), deadline)

    return Bound


class CacheLink:
    """One connection, and one question at a time. `ends_at` is on the monotonic clock.

    Raises redis.RedisError or OSError; what has failed once is of no more use, since a late answer would
    meet a later question.
    """

    def __init__(self, url: str, ends_at: float) -> None:
        """Connects. A name look-up knows no deadline."""
        self._deadline = Deadline(ends_at)
        connecting = self._deadline.left_milliseconds() / 1000
        pool = ConnectionPool.from_url(url, socket_connect_timeout=connecting, **_OPTIONS)
        pool.connection_class = _bound(pool.connection_class, self._deadline)
        self._connection = pool.make_connection()
        try:
            self._connection.connect()
        except BaseException:
            self.close()
            raise

    def ask(self, commands: Sequence[Sequence[Argument]], ends_at: float) -> list[Any]:
        """The answer to each command, in one round trip; what the server refuses is an error in its place."""
        self._deadline.at = ends_at
        self._connection.send_packed_command(pack(*commands), check_health=False)
        return [read_one(self._connection) for _ in commands]

    def close(self) -> None:
        """Hang up. Never raises."""
        with contextlib.suppress(redis.RedisError, OSError):
            self._connection.disconnect()


def redis_client(url: str, seconds: float) -> "redis.Redis":
    """A client for whatever is not in a hurry. It asks once, and waits so long for each part of an answer."""
    return redis.Redis.from_url(
        url, retry=None, socket_timeout=seconds, socket_connect_timeout=seconds, socket_read_size=_READ_BYTES
    )
