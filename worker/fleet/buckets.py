"""A worker's figures by the minute and by the hour, until they are written.

A bucket holds the whole of what one worker counted in it, so that writing it again, after an answer that was
lost, changes nothing.
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
Bucket = tuple[Unit, int]


class Buckets:
    """`read` gives what was counted since the start. Nothing is lost while it cannot be written, unless it
    would be too old to keep by then."""

    def __init__(self, read: Callable[[], Figures]) -> None:
        self._read = read
        self._last: Figures = {}
        self._pending: dict[Bucket, Figures] = {}

    def count(self, now: float) -> dict[Bucket, Figures]:
        """Put what has come since the last time into the buckets of `now` (Unix seconds); those to write."""
        figures = self._read()
        more, self._last = difference(figures, self._last), figures
        for unit in UNITS:
            add(self._pending.setdefault((unit, int(now // unit.seconds)), {}), more)
        self._drop(lambda unit, number: (number + 1) * unit.seconds + unit.kept_seconds < now)
        return {bucket: figures for bucket, figures in self._pending.items() if figures}

    def written(self, now: float) -> None:
        """They have been written: those that are over need not be again."""
        self._drop(lambda unit, number: number < now // unit.seconds)

    def _drop(self, is_over: Callable[[Unit, int], bool]) -> None:
        self._pending = {bucket: kept for bucket, kept in self._pending.items() if not is_over(*bucket)}
