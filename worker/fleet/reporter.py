"""Writes what a worker counted, and that it is alive, to the cache's server every few seconds, on a thread
and a connection of its own: work goes on without it."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import redis

from wire.names import Names
from worker.fleet.buckets import HOUR, Buckets
from worker.fleet.figures import encode

_EVERY_SECONDS = 2.0
_CLOSE_SECONDS = 3.0
ALIVE_SECONDS = 10.0  # since a worker was heard of last
_CLEAN_EVERY, GONE_SECONDS = 60, 600.0  # after so many reports; who has been silent for so long is forgotten


class Reporter:
    """Begins with `start`. `clock` gives Unix seconds: the server's own are used once it has said them, so
    that all workers count in the same minutes. `connect` makes a client, and does not connect yet.
    `on_refusal` is told once what a server that answers does not take; `aside` is done before each report,
    whether or not it goes well."""

    def __init__(
        self,
        connect: Callable[[], "redis.Redis"],
        names: Names,
        worker: str,
        buckets: Buckets,
        portrait: Callable[[], dict[str, Any]],
        versions: Mapping[str, str],
        clock: Callable[[], float],
        on_refusal: Callable[[str], None],
        every_seconds: float = _EVERY_SECONDS,
        aside: Callable[["redis.Redis"], None] = lambda _: None,
    ) -> None:
        self._aside = aside
        self._connect, self._names, self._worker = connect, names, worker
        self._buckets, self._portrait, self._versions = buckets, portrait, versions
        self._clock, self._every_seconds = clock, every_seconds
        self._on_refusal, self._told = on_refusal, False
        self._ahead, self._reports = 0.0, 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Report from now on."""
        self._thread.start()

    def close(self) -> None:
        """Report what is left, and that the worker is gone; then no more. Waits for it a few seconds."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        with contextlib.closing(self._connect()) as client:
            while not self._is_over.is_set():
                self._try_to_report(client)
                self._is_over.wait(self._every_seconds)
            self._try_to_report(client, is_last=True)

    def _try_to_report(self, client: "redis.Redis", *, is_last: bool = False) -> None:
        """What is not written now is written later."""
        with contextlib.suppress(redis.RedisError, OSError):
            self._aside(client)
        try:
            refused = self._report(client, is_last=is_last)
        except (redis.RedisError, OSError):
            return  # the cache is down, which is said elsewhere
        if refused is not None and not self._told:
            self._on_refusal(str(refused))
        self._told = refused is not None

    def _report(self, client: "redis.Redis", *, is_last: bool) -> Exception | None:
        """What the server refuses of it, where it refuses anything."""
        now = self._clock() + self._ahead
        pending = self._buckets.count(now)  # whether or not it can be written: it belongs to this minute
        with client.pipeline(transaction=False) as pipe:
            pipe.time()
            for bucket, figures in pending.items():
                name = self._names.figures(bucket.unit.name, bucket.number)
                pipe.hset(name, field_of(self._worker, bucket.life), encode(figures))
                pipe.expire(name, bucket.unit.seconds + bucket.unit.kept_seconds)
            self._say_alive(pipe, now, is_last=is_last)
            time, *answers = pipe.execute(raise_on_error=False)
        if isinstance(time, Exception):
            raise time
        self._ahead = time[0] + time[1] / 1e6 - self._clock()
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        if all(map(is_of_another_type, refused)):  # that will not change; a full server may have room later
            self._buckets.written(now)
        if self._reports % _CLEAN_EVERY == 0 and not refused:
            self._forget_the_dead(client, now)
        self._reports += 1
        return refused[0] if refused else None

    def _say_alive(self, pipe: Any, now: float, *, is_last: bool) -> None:
        names = self._names
        if is_last:
            pipe.hdel(names.workers, self._worker)
        else:
            pipe.hset(names.workers, self._worker, orjson.dumps({**self._portrait(), "seen": now}))
        pipe.expire(names.workers, HOUR.kept_seconds)
        for model, version in self._versions.items():
            pipe.hsetnx(names.versions, orjson.dumps([model, version]), now)
        pipe.expire(names.versions, HOUR.kept_seconds)

    def _forget_the_dead(self, client: "redis.Redis", now: float) -> None:
        found: Any = client.hgetall(self._names.workers)
        seen = {worker: last_seen(said) for worker, said in found.items()}
        silent = [worker for worker, when in seen.items() if not is_heard(when, now, GONE_SECONDS)]
        if silent:
            client.hdel(self._names.workers, *silent)


def field_of(worker: str, life: int) -> str:
    """Under which name a worker's figures are kept."""
    return worker if life == 0 else f"{worker}~{life}"


def worker_of(field: str) -> str:
    """The worker that they are of."""
    return field.partition("~")[0]


def is_of_another_type(error: Exception) -> bool:
    """Whether somebody else has put something else under one of our names."""
    return str(error).startswith("WRONGTYPE")


def last_seen(said: bytes) -> float:
    """When a worker said this of itself, Unix seconds by the server's clock; 0 where it cannot be read."""
    try:
        seen = orjson.loads(said)["seen"]
        return float(seen) if isinstance(seen, int | float) else 0.0
    except (ValueError, LookupError, TypeError):
        return 0.0


def is_heard(seen: float, now: float, seconds: float) -> bool:
    """Whether who was seen then has been heard of within so many seconds; not where that is yet to come."""
    return -ALIVE_SECONDS <= now - seen <= seconds
