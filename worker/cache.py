"""The result cache on Redis: one MGET and one pipelined write per batch, never later than its deadline.

It fails open. A server that refuses, hangs, trickles, is full or evicts costs model calls, never an answer.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar, cast

import redis

from worker.breaker import Breaker
from worker.deadline import DeadlineRunner

T = TypeVar("T")
_READ_BYTES = 1 << 18  # the entries of a batch in one recv, or nearly


class CacheDown(Exception):
    """The cache did not answer in time or at all, or is not asked while its breaker is open."""


class Write(NamedTuple):
    """A value to store under a name for so many seconds."""

    name: str
    value: bytes
    seconds: float


class Cache(Protocol):
    """What the handler needs of a store."""

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        """The stored value of each name, None where there is none. Raises CacheDown."""

    def write(self, writes: Sequence[Write]) -> int:
        """Store all; returns how many the server refused (full, read-only). Raises CacheDown."""

    @property
    def is_down(self) -> bool:
        """Whether it is known not to answer."""


class Observer(Protocol):
    """What a cache tells of itself."""

    def cache_operation(self, operation: str, seconds: float) -> None:
        """One operation (`lookup`, `write`) went well."""

    def cache_error(self, operation: str) -> None:
        """One operation failed, or one value was refused."""

    def cache_stored(self, size: int) -> None:
        """A value of so many bytes was stored."""


class RedisCache:
    """A Cache on one Redis or Valkey server.

    `connect` makes a client with retries off: redis-py's own run a command again that may have been run.
    After any failure the client is thrown away, so that no late answer meets a later question.
    """

    def __init__(
        self,
        connect: Callable[[], "redis.Redis"],
        breaker: Breaker,
        observer: Observer,
        *,
        deadline_seconds: float = 0.2,
    ) -> None:
        self._connect, self._breaker, self._observer = connect, breaker, observer
        self._seconds = deadline_seconds
        self._runner = DeadlineRunner()
        self._client: redis.Redis | None = None

    @property
    def is_down(self) -> bool:
        """See Cache."""
        return self._breaker.is_open

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        """See Cache."""
        return self._guarded("lookup", lambda client: _read(client, names)) if names else []

    def write(self, writes: Sequence[Write]) -> int:
        """See Cache."""
        if not writes:
            return 0
        answers = self._guarded("write", lambda client: _write(client, writes))
        refused = 0
        for write, answer in zip(writes, answers, strict=True):
            if isinstance(answer, Exception):
                refused += 1
                self._observer.cache_error("write")
            else:
                self._observer.cache_stored(len(write.value))
        return refused

    def close(self) -> None:
        """Give up the connection."""
        self._runner.close()
        self._forget()

    def _guarded(self, operation: str, command: Callable[["redis.Redis"], T]) -> T:
        if not self._breaker.allows():
            raise CacheDown("not asked: it did not answer a moment ago")
        begun = time.monotonic()
        client, self._client = self._client, None
        try:
            client, answer = self._runner.run(lambda: self._ask(client, command), self._seconds)
        except (redis.RedisError, OSError) as error:
            self._breaker.failed()
            self._observer.cache_error(operation)
            raise CacheDown(str(error) or type(error).__name__) from error
        self._client = client
        self._breaker.succeeded()
        self._observer.cache_operation(operation, time.monotonic() - begun)
        return answer

    def _ask(
        self, client: "redis.Redis | None", command: Callable[["redis.Redis"], T]
    ) -> tuple["redis.Redis", T]:
        client = client or self._connect()
        try:
            return client, command(client)
        except BaseException:
            client.close()
            raise

    def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _read(client: "redis.Redis", names: Sequence[str]) -> list[bytes | None]:
    return cast("list[bytes | None]", client.mget(names))


def _write(client: "redis.Redis", writes: Sequence[Write]) -> list[object]:
    pipeline = client.pipeline(transaction=False)
    for write in writes:
        pipeline.set(write.name, write.value, px=max(1, round(write.seconds * 1000)))
    return list(pipeline.execute(raise_on_error=False))


def redis_client(url: str, deadline_seconds: float) -> "redis.Redis":
    """A client that asks once and waits no longer than `deadline_seconds` for any part of the answer."""
    return redis.Redis.from_url(
        url,
        retry=None,
        socket_timeout=deadline_seconds,
        socket_connect_timeout=deadline_seconds,
        socket_read_size=_READ_BYTES,
    )
