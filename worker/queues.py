"""What is known of the queues: how much waits, how old the oldest is, whether work is paused.

Written by the lookout, and, of what is taken from them, by the loop; read by whoever asks.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker.base import Broker, Message
from wire.names import Names

_NEVER = -math.inf
_LOOKS = 30  # that growth is measured over


@dataclass(frozen=True, slots=True)
class Waiting:
    """Of one queue: so many messages, the oldest at least or at most so old (see `Queues`)."""

    messages: int
    since: float | None


class Queues:
    """`clock` gives Unix seconds.

    A broker that can be looked at says when the oldest message was enqueued. Of the others it is known
    within bounds: a queue is first in, first out, so what waits was enqueued after what was taken last, and
    after the moment when nothing waited. The later of the two is taken, which makes the oldest too old, if
    anything; before either is known, it is as old as the first look.
    """

    def __init__(self, names: Names, clock: Callable[[], float]) -> None:
        self._names, self._clock = names, clock
        self._worked = names.worked
        self._taken = dict.fromkeys(self._worked, _NEVER)
        self._empty = dict.fromkeys(self._worked, _NEVER)
        self._first_seen: float | None = None
        self._waiting: dict[str, Waiting] = {}
        self._backlogs: deque[tuple[float, int]] = deque(maxlen=_LOOKS)
        self.error: str | None = "not looked at yet"
        """Why they cannot be looked at; what is known is then what was seen last."""

    @property
    def worked(self) -> tuple[str, ...]:
        """The queues that workers take from."""
        return self._worked

    @property
    def waiting(self) -> Mapping[str, Waiting]:
        """What waited in each queue at the last look."""
        return self._waiting

    @property
    def is_paused(self) -> bool:
        """Whether nothing is to be taken from the queues."""
        paused = self._waiting.get(self._names.paused)
        return paused is not None and paused.messages > 0

    def oldest_seconds(self, queue: str) -> float:
        """The age of the oldest message that waits; 0 where none does. It grows while nobody can look."""
        waiting = self._waiting.get(queue)
        if waiting is None or waiting.since is None:
            return 0.0
        return max(0.0, self._clock() - waiting.since)

    @property
    def growth_per_second(self) -> float:
        """How many more messages wait from second to second, over the last looks; negative while they grow
        fewer."""
        looks = list(self._backlogs)
        if len(looks) < 2 or looks[-1][0] <= looks[0][0]:
            return 0.0
        (begun, first), (ended, last) = looks[0], looks[-1]
        return (last - first) / (ended - begun)

    def seen(self, depth: Mapping[str, int], told: Mapping[str, float]) -> None:
        """So many messages wait in each queue, by its full name; `told` is what Broker.oldest said."""
        now = self._clock()
        if self._first_seen is None:
            self._first_seen = now
        self._waiting = {
            name: Waiting(count, self._since(name, count, told, now)) for name, count in depth.items()
        }
        self._backlogs.append((now, sum(depth.get(name, 0) for name in self._worked)))
        self.error = None

    def lost(self, error: str) -> None:
        """The broker could not be asked."""
        self.error = error

    def taken(self, queue: str, enqueued_at: float) -> None:
        """A message that was enqueued then has been taken, and all before it."""
        if queue in self._taken:
            self._taken[queue] = max(self._taken[queue], min(enqueued_at, self._clock()))

    def _since(self, name: str, count: int, told: Mapping[str, float], now: float) -> float | None:
        if name not in self._empty:
            return None
        if count == 0:
            self._empty[name] = now
            return None
        if name in told:
            return told[name]
        later = max(self._taken[name], self._empty[name])
        return self._first_seen if later == _NEVER else later


def set_paused(broker: Broker, names: Names, *, is_paused: bool) -> None:
    """Have all workers pause, or go on. They look every second, and finish what they hold. Raises
    BrokerError."""
    if not is_paused:
        broker.purge(names.paused)
    elif broker.depth()[names.paused] == 0:
        broker.send(names.paused, [Message(b"{}")])
