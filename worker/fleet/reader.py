"""Adds up what all workers wrote: figures by time, who is alive, and how their server is."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import redis

from wire.names import Names
from worker.fleet.buckets import HOUR, MINUTE, Unit
from worker.fleet.figures import Figures, add, decode
from worker.fleet.reporter import (
    ALIVE_SECONDS,
    GONE_SECONDS,
    is_heard,
    is_of_another_type,
    last_seen,
    worker_of,
)
from worker.versions import versions_in

_KEPT_SECONDS = 30.0  # how long what is over is taken as read: a worker that was cut off may still add to it
_OPEN = 2  # buckets at the end that are read each time


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the window: its begin (Unix seconds) and what was counted in it."""

    begin: float
    figures: Figures


@dataclass(frozen=True, slots=True)
class Fleet:
    """As of `now`, by the server's clock. The last step is not over yet; `rates` are per second, of the whole
    fleet and by worker, over about the last minute. `workers` are those heard of lately."""

    now: float
    steps: Sequence[Step]
    step_seconds: int
    rates: Figures
    worker_rates: Mapping[str, float]
    workers: Mapping[str, Mapping[str, Any]]
    versions: Mapping[tuple[str, str], float]
    server: Mapping[str, Any]

    def total(self) -> Figures:
        """What was counted in the whole window."""
        total: Figures = {}
        for step in self.steps:
            add(total, step.figures)
        return total


class FleetReader:
    """`connect` makes a client. Every method raises redis.RedisError or OSError. Belongs to one thread at a
    time."""

    def __init__(self, connect: Callable[[], "redis.Redis"], names: Names) -> None:
        self._client, self._names = connect(), names
        self._kept: dict[str, tuple[float, dict[str, Figures]]] = {}

    def read(self, window_seconds: int) -> Fleet:
        """The fleet over so many seconds until now: by the minute as far back as that is kept, by the hour
        beyond. The last step is the present one, so that what is over of it belongs to the window."""
        now = self._now()
        unit = MINUTE if window_seconds <= MINUTE.kept_seconds else HOUR
        last, count = int(now // unit.seconds), max(1, math.ceil(window_seconds / unit.seconds))
        by_worker = self._buckets(unit, range(last - count + 1, last + 1), now)
        minutes = by_worker if unit is MINUTE else self._buckets(MINUTE, _last_minutes(now), now)
        workers, versions, server = self._rest(now)
        rates, worker_rates = _rates(minutes, now, _begin_of(workers))
        steps = [Step(float(n * unit.seconds), _sum(found)) for n, found in by_worker.items()]
        return Fleet(now, steps, unit.seconds, rates, worker_rates, workers, versions, server)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _now(self) -> float:
        seconds, micros = self._client.time()
        return float(seconds) + micros / 1e6

    def _buckets(self, unit: Unit, numbers: range, now: float) -> dict[int, dict[str, Figures]]:
        """The figures of each worker by bucket."""
        self._kept = {name: kept for name, kept in self._kept.items() if kept[0] > now}
        names = {number: self._names.figures(unit.name, number) for number in numbers}
        wanted = [number for number, name in names.items() if name not in self._kept]
        with self._client.pipeline(transaction=False) as pipe:
            for number in wanted:
                pipe.hgetall(names[number])
            answers = [_hash(answer) for answer in pipe.execute(raise_on_error=False)]
        read = {
            n: {_text(worker): decode(said) for worker, said in a.items()}
            for n, a in zip(wanted, answers, strict=True)
        }
        for number in wanted:
            if number <= numbers.stop - 1 - _OPEN:
                self._kept[names[number]] = (now + _KEPT_SECONDS, read[number])
        return {n: read[n] if n in read else self._kept[name][1] for n, name in names.items()}

    def _rest(
        self, now: float
    ) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, str], float], dict[str, Any]]:
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._names.workers)
            pipe.hgetall(self._names.versions)
            for section in ("server", "memory", "stats"):
                pipe.info(section)
            workers, versions, *infos = pipe.execute(raise_on_error=False)
        server: dict[str, Any] = {}
        for info in infos:
            server |= {} if isinstance(info, Exception) else info  # INFO may be forbidden
        return _alive(_hash(workers), now), versions_in(_hash(versions)), server


def count_alive(client: "redis.Redis", names: Names) -> int:
    """How many workers have been heard of lately. Raises redis.RedisError or OSError."""
    seconds, _ = client.time()
    said: Any = client.hgetall(names.workers)
    return sum(is_heard(last_seen(text), seconds, ALIVE_SECONDS) for text in said.values())


def _hash(answer: Any) -> dict[bytes, bytes]:
    """What a HGETALL found; nothing under a name that somebody else uses. Raises what else went wrong."""
    if not isinstance(answer, Exception):
        return dict(answer)
    if is_of_another_type(answer):
        return {}
    raise answer


def _last_minutes(now: float) -> range:
    last = int(now // MINUTE.seconds)
    return range(last - 1, last + 1)


def _begin_of(workers: Mapping[str, Mapping[str, Any]]) -> float:
    starts = [said["started"] for said in workers.values() if isinstance(said.get("started"), int | float)]
    return min(starts, default=0.0)


def _rates(
    minutes: Mapping[int, Mapping[str, Figures]], now: float, begin: float
) -> tuple[Figures, dict[str, float]]:
    """Per second, over the last whole minute and what has passed of this one, or since the fleet began."""
    last = int(now // MINUTE.seconds)
    seconds = max(1.0, min(MINUTE.seconds + now % MINUTE.seconds, now - begin))
    total: Figures = {}
    by_worker: dict[str, float] = {}
    for number in (last - 1, last):
        for worker, figures in minutes.get(number, {}).items():
            add(total, figures)
            requests = sum(value for key, value in figures.items() if key[0] == "requests")
            name = worker_of(worker)
            by_worker[name] = by_worker.get(name, 0.0) + requests / seconds
    return {key: value / seconds for key, value in total.items()}, by_worker


def _sum(by_worker: Mapping[str, Figures]) -> Figures:
    total: Figures = {}
    for figures in by_worker.values():
        add(total, figures)
    return total


def _alive(said: Mapping[bytes, bytes], now: float) -> dict[str, dict[str, Any]]:
    return {
        _text(worker): orjson.loads(text)
        for worker, text in said.items()
        if is_heard(last_seen(text), now, GONE_SECONDS)
    }


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
