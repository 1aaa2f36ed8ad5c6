"""What the consuming channel holds: a consumer per queue, what it fetched ahead, what is not acknowledged.

RabbitMQ sends ahead as many messages as a consumer's prefetch count allows, and that count cannot be changed
later, only by consuming anew. So the window of a queue is what its user holds plus what he has credit for: it
stays the same while messages go from credit to held and back, and is changed only when it is off by more than
a factor of two. Whatever is returned counts as a delivery, so returning must stay rare.
"""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import count

from broker.amqp.connection import Channel, Delivery


@dataclass(slots=True)
class _Lane:
    """One queue. `mine`: unacknowledged through the present consumer; `older`: through earlier ones."""

    queue: str
    consumer: str | None = None
    window: int = 0
    mine: int = 0
    older: int = 0
    ready: deque[Delivery] = field(default_factory=deque)

    @property
    def held(self) -> int:
        return self.mine + self.older - len(self.ready)

    @property
    def reach(self) -> int:
        """How many may be unacknowledged at once as things are."""
        return self.older + (self.window if self.consumer else 0)


class Intake:
    """Consumes on a channel of its own. Every method may raise what ends the channel or the connection."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lanes: dict[str, _Lane] = {}
        self._consumed: dict[str, _Lane] = {}  # by consumer
        self._unacked: dict[int, tuple[_Lane, str]] = {}  # in the order of delivery: ascending tags
        self._numbers = count(1)

    def want(self, credit: Mapping[str, int]) -> bool:
        """Consume from the queues named, each as far as its credit goes; whether a consumer is new."""
        for lane in self._lanes.values():
            if lane.queue not in credit and (lane.consumer or lane.ready):
                self._cancel(lane, keep=0)
        return sum(self._adapt(queue, most) for queue, most in credit.items()) > 0

    def take(self, credit: Mapping[str, int]) -> list[tuple[Delivery, str]]:
        """What has arrived: at most so many from each queue, in the order given."""
        self._sort_in()
        found: list[tuple[Delivery, str]] = []
        for queue, most in credit.items():
            lane = self._lanes.get(queue)
            while lane is not None and lane.ready and most > 0:
                found.append((lane.ready.popleft(), queue))
                most -= 1
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
        return tag in self._unacked

    def acknowledge(self, tags: Collection[int]) -> None:
        """Settle these, with one frame for as many as possible."""
        left = {tag for tag in tags if tag in self._unacked}
        up_to = self._prefix(left)
        if up_to:
            self._channel.basic_ack(up_to, multiple=True)
            left -= self._forget({tag for tag in left if tag <= up_to})
        for tag in sorted(left):
            self._channel.basic_ack(tag)
        self._forget(left)

    def give_back(self, tags: Collection[int]) -> None:
        """Return these to their queues."""
        left = {tag for tag in tags if tag in self._unacked}
        for tag in sorted(left):
            self._channel.basic_reject(tag, requeue=True)
        self._forget(left)

    def drop(self, queue: str) -> None:
        """Stop consuming from `queue` and return what was fetched ahead."""
        lane = self._lanes.get(queue)
        if lane is not None:
            self._cancel(lane, keep=0)

    def _prefix(self, tags: set[int]) -> int:
        """The highest tag up to which all unacknowledged ones are in `tags`; 0 where that spares no frame."""
        highest = covered = 0
        for tag in self._unacked:
            if tag not in tags:
                break
            highest, covered = tag, covered + 1
        return highest if covered > 1 else 0

    def _forget(self, tags: set[int]) -> set[int]:
        for tag in tags:
            lane, consumer = self._unacked.pop(tag)
            if consumer == lane.consumer:
                lane.mine -= 1
            else:
                lane.older -= 1
        return tags

    def _sort_in(self) -> None:
        arrived, self._channel.deliveries = self._channel.deliveries, []
        for delivery in arrived:
            lane = self._consumed[delivery.consumer]
            self._unacked[delivery.tag] = (lane, delivery.consumer)
            lane.ready.append(delivery)
            if delivery.consumer == lane.consumer:
                lane.mine += 1
            else:
                lane.older += 1

    def _adapt(self, queue: str, credit: int) -> bool:
        lane = self._lanes.setdefault(queue, _Lane(queue))
        self._sort_in()
        if credit <= 0:
            return False  # it keeps its consumer: returning what was fetched would count as a delivery
        # Widening gives nothing back; it looks at what is free, for a window full of held ones would starve.
        is_too_wide = lane.reach > 2 * (lane.held + credit)
        is_too_narrow = 2 * (lane.reach - lane.held) < credit
        if is_too_wide or is_too_narrow:
            self._cancel(lane, keep=credit)
        return lane.consumer is None and self._consume(lane, credit - len(lane.ready))

    def _consume(self, lane: _Lane, window: int) -> bool:
        if window <= 0:
            return False
        lane.consumer, lane.window = f"{lane.queue}-{next(self._numbers)}", window
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
        surplus = [lane.ready.pop().tag for _ in range(len(lane.ready) - keep)]
        self.give_back(surplus)
