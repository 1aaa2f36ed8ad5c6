"""A worker's figures by the minute and by the hour, until they are written.

A bucket holds the whole of what one worker counted in it, so that writing it again, after an answer that was
lost, changes nothing. Where the clock goes back into a bucket that is over, a new life of the worker begins:
what it counts from then on is kept beside what was written, and replaces nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

from worker.fleet.figures import Figures, add, difference


class Unit(NamedTuple):
    """A length of time that figures are kept by: its name, its seconds, and how long they are kept."""

    name: str
    seconds: int
    kept_seconds: int


MINUTE, HOUR = Unit("minute", 60, 2 * 3600), Unit("hour", 3600, 8 * 86_400)
UNITS = (MINUTE, HOUR)


class Bucket(NamedTuple):
    """A length of time: its unit, its number since 1970, and the life of the worker that counted in it."""

    unit: Unit
    number: int
    life: int


class Buckets:
    """`read` gives what was counted since the start. Nothing is lost while it cannot be written, unless it
    would be too old to keep by then."""

    def __init__(self, read: Callable[[], Figures]) -> None:
        self._read = read
        self._last: Figures = {}
        self._pending: dict[Bucket, Figures] = {}
        self._minute = self._life = 0

    def count(self, now: float) -> dict[Bucket, Figures]:
        """Put what has come since the last time into the buckets of `now` (Unix seconds); those to write."""
        figures = self._read()
        more, self._last = difference(figures, self._last), figures
        minute = int(now // MINUTE.seconds)
        self._life += minute < self._minute
        self._minute = minute
        for unit in UNITS:
            add(self._pending.setdefault(Bucket(unit, int(now // unit.seconds), self._life), {}), more)
        self._drop(lambda unit, number: (number + 1) * unit.seconds + unit.kept_seconds < now)
        return {bucket: figures for bucket, figures in self._pending.items() if figures}

    def written(self, now: float) -> None:
        """They have been written: those that are over need not be again."""
        self._drop(lambda unit, number: number != now // unit.seconds)

    def _drop(self, is_over: Callable[[Unit, int], bool]) -> None:
        self._pending = {
            bucket: kept for bucket, kept in self._pending.items() if not is_over(bucket.unit, bucket.number)
        }
