"""The result cache on Redis: one MGET and one pipelined write per batch, never later than its deadline.

It fails open. A server that refuses, hangs, trickles, is full or evicts costs model calls, never an answer.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import redis

from broker.redis.commands import Argument, Script
from worker.breaker import Breaker
from worker.cache_link import CacheLink
from worker.deadline import DeadlineRunner

T = TypeVar("T")
Call = tuple[Sequence[str], Sequence[Argument]]
_FAILED, _WRONG, _NOTHING = -1, -2, -3
_TAKE, _STORE, _KEEP = (Script("worker", name) for name in ("take", "store", "keep"))


class CacheDown(Exception):
    """The cache did not answer in time or at all, or is not asked while its breaker is open."""


class Write(NamedTuple):
    """A value to store under a name for so many seconds.

    `created` is when the call behind it began (Unix seconds): it replaces nothing that began later. `lease`
    is the name of the lease on that call, which ends if `token` holds it.
    """

    name: str
    value: bytes
    seconds: float
    created: float
    lease: str
    token: str


class Wanted(NamedTuple):
    """A lease to ask for: the names of the entry and of the lease on it, and when the call behind the entry
    began that is known already (Unix seconds; 0 for none). Only a later one is an answer."""

    entry: str
    lease: str
    seen: float


class Taken(NamedTuple):
    """What became of asking for a lease: the entry that is there by now, or whether the lease is ours, or
    whether there is nothing to wait for: who had it brought nothing that is kept, or `has_failed`."""

    entry: bytes | None
    is_ours: bool
    is_over: bool
    has_failed: bool = False


class Cache(Protocol):
    """What the handler needs of a store."""

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        """The stored value of each name, None where there is none. Raises CacheDown."""

    def write(self, writes: Sequence[Write]) -> int:
        """Store all; returns how many the server refused (full, read-only). Raises CacheDown."""

    def take(self, wanted: Sequence[Wanted], token: str, seconds: float) -> list[Taken]:
        """For each: look again, or take the lease.

        Raises CacheDown.
        """

    def renew(self, leases: Sequence[str], token: str, seconds: float) -> None:
        """Hold these for so long from now on, those that `token` holds; for 0 seconds: let them go.

        Raises CacheDown.
        """

    def give_up(self, leases: Sequence[str], token: str, seconds: float, *, failed: bool) -> None:
        """Say for so long that nothing will come of these, or that they have failed. Raises CacheDown."""

    @property
    def is_down(self) -> bool:
        """Whether it is known not to answer."""


class Observer(Protocol):
    """What a cache tells of itself."""

    def cache_operation(self, operation: str, seconds: float) -> None:
        """One operation (`lookup`, `write`, `lease`) went well."""

    def cache_error(self, operation: str) -> None:
        """One operation failed, or one value was refused."""

    def cache_stored(self, size: int) -> None:
        """A value of so many bytes was stored."""


class RedisCache:
    """A Cache on one Redis or Valkey server.

    `connect` makes a link that is given up at a moment of the monotonic clock. After any failure the link is
    thrown away, so that no late answer meets a later question.
    """

    def __init__(
        self,
        connect: Callable[[float], CacheLink],
        breaker: Breaker,
        observer: Observer,
        *,
        deadline_seconds: float = 0.2,
    ) -> None:
        self._connect, self._breaker, self._observer = connect, breaker, observer
        self._seconds = deadline_seconds
        self._runner = DeadlineRunner()
        self._link: CacheLink | None = None

    @property
    def is_down(self) -> bool:
        """See Cache."""
        return self._breaker.is_open

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        """See Cache."""
        return self._guarded("lookup", partial(_read, names)) if names else []

    def write(self, writes: Sequence[Write]) -> int:
        """See Cache."""
        if not writes:
            return 0
        answers = self._run("write", _STORE, [_stored(write) for write in writes])
        refused = 0
        for write, answer in zip(writes, answers, strict=True):
            if isinstance(answer, Exception):
                refused += 1
                self._observer.cache_error("write")
            elif answer == 1:  # else there was a newer one
                self._observer.cache_stored(len(write.value))
        return refused

    def take(self, wanted: Sequence[Wanted], token: str, seconds: float) -> list[Taken]:
        """See Cache."""
        keys = [name for one in wanted for name in (one.entry, one.lease)]
        arguments: list[Argument] = [token, _milliseconds(seconds), *[one.seen for one in wanted]]
        (answers,) = self._run("lease", _TAKE, [(keys, arguments)])
        if isinstance(answers, redis.RedisError):
            answers = [(None, _WRONG)] * len(wanted)
        if any(state == [_WRONG] for _, *state in answers):
            self._observer.cache_error("lease")
        return [
            Taken(entry, state == [1], state in ([_FAILED], [_NOTHING], [_WRONG]), state == [_FAILED])
            for entry, *state in answers
        ]

    def renew(self, leases: Sequence[str], token: str, seconds: float) -> None:
        """See Cache."""
        self._keep(leases, token, _milliseconds(seconds) if seconds > 0 else 0, "")

    def give_up(self, leases: Sequence[str], token: str, seconds: float, *, failed: bool) -> None:
        """See Cache."""
        self._keep(leases, token, _milliseconds(seconds), "!" if failed else "-")

    def close(self) -> None:
        """Give up the connection."""
        self._runner.close()
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _keep(self, leases: Sequence[str], token: str, milliseconds: int, last_word: str) -> None:
        (answer,) = self._run("lease", _KEEP, [(leases, (token, milliseconds, last_word))])
        if isinstance(answer, redis.RedisError):
            self._observer.cache_error("lease")

    def _run(self, operation: str, script: Script, calls: Sequence[Call]) -> list[Any]:
        return self._guarded(operation, partial(_run, script, calls))

    def _guarded(self, operation: str, ask: Callable[[CacheLink, float], T]) -> T:
        if not self._breaker.allows():
            raise CacheDown("not asked: it did not answer a moment ago")
        begun = time.monotonic()
        link, self._link = self._link, None
        try:
            link = link or self._connected(begun + self._seconds)
            answer = ask(link, begun + self._seconds)
        except (redis.RedisError, OSError) as error:
            if link is not None:
                link.close()
            self._breaker.failed()
            self._observer.cache_error(operation)
            raise CacheDown(str(error) or type(error).__name__) from error
        self._link = link
        self._breaker.succeeded()
        self._observer.cache_operation(operation, time.monotonic() - begun)
        return answer

    def _connected(self, ends_at: float) -> CacheLink:
        """On a thread: a name look-up cannot be given a deadline, so it is left behind."""
        return self._runner.run(lambda: self._connect(ends_at), self._seconds)


def _read(names: Sequence[str], link: CacheLink, ends_at: float) -> list[bytes | None]:
    (values,) = link.ask([("MGET", *names)], ends_at)
    if isinstance(values, redis.RedisError):
        raise values
    return cast("list[bytes | None]", values)


def _run(script: Script, calls: Sequence[Call], link: CacheLink, ends_at: float) -> list[Any]:
    commands = [script.call(*call) for call in calls]
    answers = link.ask(commands, ends_at)
    if not any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
        return answers
    return link.ask([("SCRIPT", "LOAD", script.source), *commands], ends_at)[1:]


def _stored(write: Write) -> Call:
    arguments = (write.value, _milliseconds(write.seconds), write.created, write.token)
    return (write.name, write.lease), arguments


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
