"""What the consuming channel holds: a consumer per queue, what it fetched ahead, what is not acknowledged.

RabbitMQ sends ahead as many messages as a consumer's prefetch count allows, and that count cannot be changed
later, only by consuming anew. So the window of a queue is what its user holds plus what he has credit for: it
stays the same while messages go from credit to held and back, and is changed only when it is off by more than
a factor of two, widened only once it has been full, and narrowed only when it has been too wide for a while:
a credit that swings, as that for a model which is down and probed, would return the same messages each time.
Whatever is returned counts as a delivery, also what RabbitMQ itself takes back when it was on its way to the
old consumer, so changes must stay rare: a message that was delivered often is taken for a suspect.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import count

from broker.amqp.connection import Channel
from broker.base import Message

_TOO_WIDE_SECONDS = 5.0


@dataclass(slots=True)
class _Lane:
    """One queue. `mine`: unacknowledged through the present consumer; `older`: through earlier ones.
    `parting`: those of both that are under commit."""

    queue: str
    consumer: str | None = None
    window: int = 0
    mine: int = 0
    older: int = 0
    parting: int = 0
    ready: deque[tuple[int, Message]] = field(default_factory=deque)
    was_full: bool = False  # the present window
    too_wide_since: float | None = None

    @property
    def held(self) -> int:
        return self.mine + self.older - len(self.ready) - self.parting

    @property
    def reach(self) -> int:
        """How many may be unacknowledged at once as things are."""
        return self.older + (self.window if self.consumer else 0)


class Intake:
    """Consumes on a channel of its own. Every method may raise what ends the channel or the connection.
    `clock` is monotonic."""

    def __init__(self, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel, self._clock = channel, clock
        self._lanes: dict[str, _Lane] = {}
        self._consumed: dict[str, _Lane] = {}  # by consumer
        self._unacked: dict[int, tuple[_Lane, str]] = {}  # in the order of delivery: ascending tags
        self._parting: set[int] = set()
        self._numbers = count(1)

    def want(self, credit: Mapping[str, int]) -> bool:
        """Consume from the queues named, each as far as its credit goes; whether a consumer is new."""
        for lane in self._lanes.values():
            if lane.queue not in credit and (lane.consumer or lane.ready):
                self._cancel(lane, keep=0)
        return sum(self._adapt(queue, most) for queue, most in credit.items()) > 0

    def take(self, credit: Mapping[str, int]) -> list[tuple[int, Message]]:
        """What has arrived, with its tags: at most so many from each queue, in the order given."""
        self._sort_in()
        found: list[tuple[int, Message]] = []
        for queue, most in credit.items():
            if queue in self._lanes:
                ready = self._lanes[queue].ready
                found += [ready.popleft() for _ in range(min(most, len(ready)))]
        return found

    def has(self, credit: Mapping[str, int]) -> bool:
        """Whether anything has arrived that there is credit for."""
        self._sort_in()
        return any(
            most > 0 and queue in self._lanes and self._lanes[queue].ready for queue, most in credit.items()
        )

    def is_full(self, credit: Mapping[str, int]) -> bool:
        """Whether as much has arrived as there is credit for."""
        self._sort_in()
        return all(
            queue in self._lanes and len(self._lanes[queue].ready) >= most for queue, most in credit.items()
        )

    def holds(self, tag: int) -> bool:
        """Whether the message is still ours to settle."""
        return tag in self._unacked and tag not in self._parting

    def parts_with(self, tag: int) -> bool:
        """Whether the message is under commit."""
        return tag in self._parting

    def part_with(self, tags: Collection[int]) -> None:
        """These are under commit. They still take up the window, but not for long: it stays as it is."""
        for tag in tags:
            if self.holds(tag):
                self._unacked[tag][0].parting += 1
                self._parting.add(tag)

    def acknowledge(self, tags: Collection[int]) -> None:
        """Settle these, with one frame for as many as possible."""
        up_to, others = self._forget(tags)
        if up_to or others:
            self._channel.acknowledge(up_to, others)

    def give_back(self, tags: Collection[int]) -> None:
        """Return these to their queues, with one frame for as many as possible."""
        up_to, others = self._forget(tags)
        if up_to or others:
            self._channel.give_back(up_to, others)

    def drop(self, queue: str) -> None:
        """Stop consuming from `queue` and return what was fetched ahead."""
        lane = self._lanes.get(queue)
        if lane is not None:
            self._cancel(lane, keep=0)

    def _forget(self, tags: Collection[int]) -> tuple[int, list[int]]:
        """Those of `tags` that are ours are so no longer: the highest one up to which they are all that is
        unacknowledged (0 where there is none), and the others."""
        mine = {tag for tag in tags if tag in self._unacked}
        up_to = 0
        for tag in self._unacked:
            if tag not in mine:
                break
            up_to = tag
        for tag in mine:
            lane, consumer = self._unacked.pop(tag)
            if tag in self._parting:
                self._parting.remove(tag)
                lane.parting -= 1
            if consumer == lane.consumer:
                lane.mine -= 1
            else:
                lane.older -= 1
        return up_to, sorted(tag for tag in mine if tag > up_to)

    def _sort_in(self) -> None:
        arrived, self._channel.deliveries = self._channel.deliveries, []
        for consumer, tag, message in arrived:
            lane = self._consumed[consumer]
            message.queue = lane.queue
            self._unacked[tag] = (lane, consumer)
            lane.ready.append((tag, message))
            if consumer == lane.consumer:
                lane.mine += 1
                lane.was_full = lane.was_full or lane.mine >= lane.window
            else:
                lane.older += 1

    def _adapt(self, queue: str, credit: int) -> bool:
        lane = self._lanes.setdefault(queue, _Lane(queue))
        self._sort_in()
        if credit <= 0:
            return False  # it keeps its consumer: returning what was fetched would count as a delivery
        # Widening gives nothing back; it looks at what is free, for a window full of held ones would starve.
        is_too_narrow = lane.was_full and 2 * (lane.reach - lane.held) < credit
        if is_too_narrow or self._stays_too_wide(lane, credit):
            self._cancel(lane, keep=credit)
        return lane.consumer is None and self._consume(lane, credit - len(lane.ready))

    def _stays_too_wide(self, lane: _Lane, credit: int) -> bool:
        if lane.reach <= 2 * (lane.held + credit):
            lane.too_wide_since = None
            return False
        now = self._clock()
        lane.too_wide_since = lane.too_wide_since or now
        return now - lane.too_wide_since >= _TOO_WIDE_SECONDS

    def _consume(self, lane: _Lane, window: int) -> bool:
        if window <= 0:
            return False
        lane.consumer, lane.window = f"{lane.queue}-{next(self._numbers)}", window
        lane.was_full, lane.too_wide_since = False, None
        self._consumed[lane.consumer] = lane
        self._channel.basic_qos(0, window, False)
        self._channel.basic_consume(lane.queue, lane.consumer)
        return True

    def _cancel(self, lane: _Lane, keep: int) -> None:
        """End the consumer, if there is one; the newest of what it fetched ahead goes back but for `keep`."""
        if lane.consumer:
            self._channel.basic_cancel(lane.consumer)
            self._sort_in()
            del self._consumed[lane.consumer]
        lane.older, lane.mine, lane.consumer, lane.window = lane.older + lane.mine, 0, None, 0
        surplus = [lane.ready.pop()[0] for _ in range(len(lane.ready) - keep)]
        self.give_back(surplus)
