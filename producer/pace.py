"""How fast payloads are read: so many a second, and none while too much waits already."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_BURST_SECONDS = 0.1
_LOOK_SECONDS = 0.1
_LONGEST_SECONDS = 0.5
NOT_YET = object()  # what an iterator of payloads gives where the next is not there yet
_NONE = object()


class Pace:
    """Iterates over `payloads`, and gives NOT_YET where it is too early for the next.

    At most `rate` are given a second, and what a tenth of a second allows at once (a token bucket). With
    `most_waiting`, no more than fit into so many messages of `pack` payloads, less those that are `waiting`
    already: that is asked ten times a second at most. It is for whoever sends what they were given when they
    get NOT_YET. One payload is read before its time, so that the end is seen when it comes.

    `clock` is monotonic; `patience`: after so many seconds it is worth asking again. Raises ValueError for
    what is no bound.
    """

    def __init__(
        self,
        payloads: Iterable[Any],
        rate: float | None,
        most_waiting: int | None,
        waiting: Callable[[], int],
        clock: Callable[[], float],
        *,
        pack: int,
    ) -> None:
        _check(rate, most_waiting)
        self._payloads, self._rate, self._clock, self._pack = iter(payloads), rate, clock, pack
        self._most_waiting, self._waiting = most_waiting, waiting
        self._burst = 1.0 if rate is None else max(1.0, rate * _BURST_SECONDS)
        self._tokens, self._filled = self._burst, clock()
        self._room, self._given, self._next_look = 0, 0, clock()
        self._next: Any = _NONE
        # Until the tokens are those of one burst again.
        self.patience = _LOOK_SECONDS if rate is None else min(_LONGEST_SECONDS, self._burst / rate)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._next is _NONE:
            self._next = next(self._payloads)
        if self._next is NOT_YET or not (self._has_token() and self._has_room()):
            return self._not_yet()
        payload, self._next = self._next, _NONE
        self._tokens -= 1
        self._given += 1
        return payload

    def messages(self, most: int) -> int:
        """How many messages, of `most`, may be sent beside the payloads; they are counted as given."""
        if self._most_waiting is None:
            return most
        self._look()
        found = max(0, min(most, (self._room - self._used()) // self._pack))
        self._room -= found * self._pack
        return found

    def _not_yet(self) -> Any:
        if self._next is NOT_YET:
            self._next = _NONE
        # What was given goes now, in messages that may not be full.
        self._room -= self._used()
        self._given = 0
        return NOT_YET

    def _used(self) -> int:
        """By what was given and may not have been sent: whole messages."""
        return -(-self._given // self._pack) * self._pack

    def _has_token(self) -> bool:
        if self._rate is None:
            return True
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        return self._tokens >= 1

    def _has_room(self) -> bool:
        if self._most_waiting is None:
            return True
        self._look()
        return self._given < self._room

    def _look(self) -> None:
        if self._most_waiting is not None and (now := self._clock()) >= self._next_look:
            self._room = (self._most_waiting - self._waiting()) * self._pack
            self._next_look = now + _LOOK_SECONDS


def _check(rate: object, most_waiting: object) -> None:
    is_rate = isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < math.inf
    if rate is not None and not is_rate:
        raise ValueError(f"rate must be above 0 a second, a finite number; got {rate!r}")
    is_count = isinstance(most_waiting, int) and not isinstance(most_waiting, bool) and most_waiting >= 1
    if most_waiting is not None and not is_count:
        raise ValueError(f"queue_max must be at least 1 message, a whole number; got {most_waiting!r}")
