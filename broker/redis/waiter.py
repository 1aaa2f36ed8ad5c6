"""The wait for queues that are empty."""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from redis.connection import ConnectionInterface
from redis.exceptions import RedisError

from broker.base import Message
from broker.redis.address import Address
from broker.redis.commands import Argument, pack, read_one

SLICE_SECONDS = 0.5  # how long a question blocks: lists that it does not watch are looked at when it ends


class Question(NamedTuple):
    """What is asked of a queue that may be empty: a command that blocks, and one that takes.

    Both are sent at once. The server runs the second in the moment in which the first ends, so that what
    comes is taken, and on its way, without another round trip. `read` makes messages of their answers;
    `most` is how many they can be, 0 where nothing takes.
    """

    most: int
    commands: Sequence[Sequence[Argument]]
    read: Callable[[Sequence[Any]], list[Message]]


class Wait:
    """A connection that questions of one queue block on, one at a time.

    Where blocking is refused (by a full server, or for want of rights) it is refused every time: it rests.
    """

    _REST_SECONDS = 2.0

    def __init__(self, address: Address, timeout: float) -> None:
        self._address, self._timeout = address, SLICE_SECONDS + timeout
        self._connection: ConnectionInterface | None = None
        self._rests_until = self._asked_at = 0.0
        self.question: Question | None = None

    def opened(self) -> bool:
        """Whether it can be asked: it is or could be connected, and does not rest."""
        if time.monotonic() < self._rests_until:
            return False
        if self._connection is None:
            connection = self._address.connection(self._timeout)
            try:
                connection.connect()
            except (RedisError, OSError):
                self._rest()
                return False
            self._connection = connection
        return True

    def ask(self, question: Question) -> None:
        """Ask, on an open connection. Raises RedisError, OSError: it may have been asked or not."""
        assert self._connection is not None
        self.question, self._asked_at = question, time.monotonic()
        self._connection.send_packed_command(pack(*question.commands))

    @property
    def is_overdue(self) -> bool:
        """Whether an answer should long have come: the line may be dead without a sign of it."""
        return time.monotonic() - self._asked_at > self._timeout

    def answers(self) -> list[Any]:
        """The answer to each command, errors among them. Raises RedisError, OSError: taken or not."""
        assert self._connection is not None
        assert self.question is not None
        answers = [read_one(self._connection) for _ in self.question.commands]
        self.question = None
        if isinstance(answers[0], RedisError):
            self._rest()
        return answers

    def has_answer(self) -> bool:
        """Whether there is one by now."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return bool(poll.poll(0))

    def fileno(self) -> int:
        """What becomes readable when there is an answer."""
        # redis-py has no public way to select on a connection.
        return int(self._connection._sock.fileno())  # type: ignore[union-attr]

    def close(self) -> None:
        """Stop waiting. Never raises."""
        connection, self._connection, self.question = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                connection.disconnect()

    def _rest(self) -> None:
        self._rests_until = time.monotonic() + self._REST_SECONDS


class Waiter:
    """Waits for an answer to any of several questions, or for a wake."""

    def __init__(self) -> None:
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)

    def wait(self, waits: Mapping[str, Wait], seconds: float) -> tuple[list[str], bool]:
        """The queues with an answer, and whether a wake came."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        for wait in waits.values():
            poll.register(wait, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(max(0, seconds) * 1000)}
        woken = self._woken.fileno() in ready and self._drain()
        return [queue for queue, wait in waits.items() if wait.fileno() in ready], woken

    def wake(self) -> None:
        """End a wait, from any thread or signal handler."""
        with contextlib.suppress(OSError):  # full of wakes already, or closed
            self._wake.send(b"w")

    def close(self) -> None:
        """Close everything."""
        self._woken.close()
        self._wake.close()

    def _drain(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        return True
