"""One connection to the server: scripts and plain commands.

redis-py's connections and parser, without its client: the client tries again by itself, and a command that
was tried again may have run twice.
"""

import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from redis.connection import ConnectionInterface
from redis.exceptions import NoScriptError, RedisError, ResponseError

from broker.redis.address import Address
from broker.redis.commands import Argument, Script, pack, read_one


@cache
def _script(name: str) -> Script:
    return Script("broker.redis", "common", name)


@dataclass(slots=True, eq=False)
class Posted:
    """A script that has been sent, and, once it has been read, its answer."""

    script: str
    keys: Sequence[Argument]
    arguments: Sequence[Argument]
    is_answered: bool = False
    answer: Any = None


def script_call(script: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Sequence[Argument]:
    """The command that runs one of our scripts, on a server that has run it before."""
    return _script(script).call(keys, arguments)


class Link:
    """A connection that is made when it is first used, and not made again after an error: its owner decides.

    Raises what redis-py raises: RedisError, OSError.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self._address, self._timeout = address, timeout
        self._connection: ConnectionInterface | None = None
        self._loaded: set[str] = set()
        self._posted: deque[Posted] = deque()  # whose answers are not read yet; they come in this order

    def open(self) -> None:
        """Connect now rather than with the first question."""
        self._open()

    def ask(self, *command: Argument) -> Any:
        """The server's answer to one command."""
        connection = self._open()
        connection.send_packed_command(pack(command))
        while self._posted:
            self._read_posted(connection)
        return connection.read_response()

    def post(self, script: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Posted:
        """Have one of our scripts run while we do something else."""
        if script not in self._loaded:
            self._load(script)
        self._open().send_packed_command(pack(script_call(script, keys, arguments)))
        self._posted.append(posted := Posted(script, keys, arguments))
        return posted

    def fetch(self, posted: Posted) -> Any:
        """The answer to what was posted. What the server had forgotten runs now instead."""
        connection = self._open()
        while not posted.is_answered:
            self._read_posted(connection)
        if isinstance(posted.answer, NoScriptError):
            return self.run(posted.script, posted.keys, posted.arguments)
        if isinstance(posted.answer, ResponseError):
            raise posted.answer
        return posted.answer

    def _read_posted(self, connection: ConnectionInterface) -> None:
        answer = read_one(connection)
        posted = self._posted.popleft()
        posted.answer, posted.is_answered = answer, True

    def ask_all(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """The answers to several commands in one round trip. An error is raised after all are read."""
        connection = self._open()
        connection.send_packed_command(pack(*commands))
        while self._posted:
            self._read_posted(connection)
        answers = [read_one(connection) for _ in commands]
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    def run(self, script: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Any:
        """The answer of one of our scripts, which the server may have forgotten."""
        call = script_call(script, keys, arguments)
        if script in self._loaded:
            with contextlib.suppress(NoScriptError):  # then it has not run
                return self.ask(*call)
        self._load(script)
        return self.ask(*call)

    def close(self) -> None:
        """Hang up. Never raises."""
        self._posted.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                connection.disconnect()

    def _load(self, script: str) -> None:
        self.ask("SCRIPT", "LOAD", _script(script).source)
        self._loaded.add(script)

    def _open(self) -> ConnectionInterface:
        if self._connection is None:
            connection = self._address.connection(self._timeout)
            connection.connect()
            self._connection = connection
        return self._connection
