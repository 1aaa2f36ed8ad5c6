"""One connection to the server: scripts and plain commands.

redis-py's connections and parser, without its client: the client tries again by itself, and a command that
was tried again may have run twice.
"""

import contextlib
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from hiredis import pack_command
from redis.connection import ConnectionInterface
from redis.exceptions import NoScriptError, RedisError

from broker.redis.address import Address

Argument = str | bytes | int | float


@cache
def _source(name: str) -> bytes:
    folder = files("broker.redis")
    return folder.joinpath("common.lua").read_bytes() + folder.joinpath(f"{name}.lua").read_bytes()


@cache
def _digest(name: str) -> str:
    return sha1(_source(name), usedforsecurity=False).hexdigest()


def pack(*commands: Sequence[Argument]) -> list[bytes]:
    """The commands as they travel, in one piece. redis-py's own way there takes three times as long."""
    return [b"".join([pack_command(tuple(command)) for command in commands])]  # type: ignore[arg-type]


def script_call(script: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Sequence[Argument]:
    """The command that runs one of our scripts, on a server that has run it before."""
    return ("EVALSHA", _digest(script), len(keys), *keys, *arguments)


class Link:
    """A connection that is made when it is first used, and not made again after an error: its owner decides.

    Raises what redis-py raises: RedisError, OSError.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self._address, self._timeout = address, timeout
        self._connection: ConnectionInterface | None = None
        self._loaded: set[str] = set()
        self._is_posted = False
        self._posted_answer: Any = None

    def open(self) -> None:
        """Connect now rather than with the first question."""
        self._open()

    def ask(self, *command: Argument) -> Any:
        """The server's answer to one command."""
        connection = self._open()
        connection.send_packed_command(pack(command))
        self._await_posted(connection)
        return connection.read_response()

    def post(self, script: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> None:
        """Have a script run while we do something else; one at a time, and only one that has run before."""
        connection = self._open()
        connection.send_packed_command(pack(script_call(script, keys, arguments)))
        self._is_posted = True

    def fetch(self) -> Any:
        """The answer to what was posted."""
        self._await_posted(self._open())
        answer, self._posted_answer = self._posted_answer, None
        if isinstance(answer, RedisError):
            raise answer
        return answer

    def _await_posted(self, connection: ConnectionInterface) -> None:
        if self._is_posted:
            self._is_posted = False
            self._posted_answer = read_one(connection)

    def ask_all(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """The answers to several commands in one round trip. An error is raised after all are read."""
        connection = self._open()
        connection.send_packed_command(pack(*commands))
        self._await_posted(connection)
        answers = [read_one(connection) for _ in commands]
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
        return answers

    def run(self, script: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Any:
        """The answer of one of our scripts, which the server may have forgotten."""
        call = script_call(script, keys, arguments)
        if script in self._loaded:
            with contextlib.suppress(NoScriptError):  # then it has not run
                return self.ask(*call)
        self.ask("SCRIPT", "LOAD", _source(script))
        self._loaded.add(script)
        return self.ask(*call)

    def close(self) -> None:
        """Hang up. Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                connection.disconnect()

    def _open(self) -> ConnectionInterface:
        if self._connection is None:
            connection = self._address.connection(self._timeout)
            connection.connect()
            self._connection = connection
        return self._connection


def read_one(connection: ConnectionInterface) -> Any:
    """The next answer; an error that the server sent is one, too. Raises RedisError, OSError."""
    try:
        return connection.read_response(disconnect_on_error=False)
    except RedisError as error:
        if not connection.is_connected:
            raise
        return error
