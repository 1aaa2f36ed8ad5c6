"""How fast payloads are read: so many a second, and none while too much waits already."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

_BURST_SECONDS = 0.1
_LOOK_SECONDS = 0.1
_LONGEST_SECONDS = 0.5
NOT_YET = object()  # what an iterator of payloads gives where the next is not there yet


class Pace:
    """Iterates over `payloads`, and gives NOT_YET where it is too early for the next.

    At most `rate` are given a second, and what a tenth of a second allows at once (a token bucket). With
    `most_waiting`, no more than fit into so many messages of `pack` payloads, less those that are `waiting`
    already: that is asked when what it left room for was given, ten times a second at most. `clock` is
    monotonic; `patience`: after so many seconds it is worth asking again. Raises ValueError for numbers that
    bound nothing.
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
        if rate is not None and not rate > 0:
            raise ValueError(f"rate must be above 0 a second; got {rate}")
        if most_waiting is not None and most_waiting < 1:
            raise ValueError(f"queue_max must be at least 1 message; got {most_waiting}")
        self._payloads, self._rate, self._clock, self._pack = iter(payloads), rate, clock, pack
        self._most_waiting, self._waiting = most_waiting, waiting
        self._burst = 1.0 if rate is None else max(1.0, rate * _BURST_SECONDS)
        self._tokens, self._filled = self._burst, clock()
        self._room, self._next_look = 0, clock()
        # Until the tokens are those of one burst again.
        self.patience = _LOOK_SECONDS if rate is None else min(_LONGEST_SECONDS, self._burst / rate)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not (self._has_token() and self._has_room()):
            return NOT_YET
        payload = next(self._payloads)
        if payload is not NOT_YET:
            self._tokens -= 1
            self._room -= 1
        return payload

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
        if self._room <= 0 and (now := self._clock()) >= self._next_look:
            self._room = (self._most_waiting - self._waiting()) * self._pack
            self._next_look = now + _LOOK_SECONDS
        return self._room > 0
