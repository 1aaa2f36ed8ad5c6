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
_CLEAN_EVERY, GONE_SECONDS = 60, 600.0  # after so many reports; who has been silent for so long is forgotten


class Reporter:
    """Begins with `start`. `clock` gives Unix seconds: the server's own are used once it has said them, so
    that all workers count in the same minutes. `connect` makes a client, and does not connect yet."""

    def __init__(
        self,
        connect: Callable[[], "redis.Redis"],
        names: Names,
        worker: str,
        buckets: Buckets,
        portrait: Callable[[], dict[str, Any]],
        versions: Mapping[str, str],
        clock: Callable[[], float],
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._connect, self._names, self._worker = connect, names, worker
        self._buckets, self._portrait, self._versions = buckets, portrait, versions
        self._clock, self._every_seconds = clock, every_seconds
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
                with contextlib.suppress(
                    redis.RedisError, OSError
                ):  # what is not written now is written later
                    self._report(client)
                self._is_over.wait(self._every_seconds)
            with contextlib.suppress(redis.RedisError, OSError):
                self._report(client, is_last=True)

    def _report(self, client: "redis.Redis", *, is_last: bool = False) -> None:
        now = self._clock() + self._ahead
        pending = self._buckets.count(now)  # whether or not it can be written: it belongs to this minute
        with client.pipeline(transaction=False) as pipe:
            pipe.time()
            for (unit, number), figures in pending.items():
                name = self._names.figures(unit.name, number)
                pipe.hset(name, self._worker, encode(figures))
                pipe.expire(name, unit.seconds + unit.kept_seconds)
            self._say_alive(pipe, now, is_last=is_last)
            (seconds, micros), *_ = pipe.execute()
        self._ahead = seconds + micros / 1e6 - self._clock()
        self._buckets.written(now)
        if self._reports % _CLEAN_EVERY == 0:
            self._forget_the_dead(client, now)
        self._reports += 1

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
        silent = [worker for worker, said in found.items() if now - last_seen(said) > GONE_SECONDS]
        if silent:
            client.hdel(self._names.workers, *silent)


def last_seen(said: bytes) -> float:
    """When a worker said this of itself, Unix seconds by the server's clock; 0 where it cannot be read."""
    try:
        seen = orjson.loads(said)["seen"]
        return float(seen) if isinstance(seen, int | float) else 0.0
    except (ValueError, LookupError, TypeError):
        return 0.0
