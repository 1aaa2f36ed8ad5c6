"""The interface that every broker offers; worker and producer know nothing else of it.

What each promises: at least once. A message leaves its queue for good only when everything that is sent
because of it has been confirmed.

One thread owns a broker object; only `wake` may be called from others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

JSON = "application/json"
NDJSON = "application/x-ndjson"
WHOLE = -1  # a position that means all of a message


@dataclass(slots=True)
class Message:
    """What the broker carries.

    A received one also says from which queue, how often it has been delivered (1 the first time), which
    positions are `blamed` (their requests ran alone when a worker died), and, where its envelope could not be
    read, the `problem`; `body` then holds what came, verbatim. `token` is the broker's own handle and belongs
    to it alone.
    """

    body: bytes
    content_type: str = JSON
    correlation_id: str | None = None
    reply_to: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    queue: str = ""
    deliveries: int = 1
    blamed: frozenset[int] = frozenset()
    problem: str | None = None
    token: Any = None


class Outgoing(NamedTuple):
    """A message to send and the queue to send it to."""

    queue: str
    message: Message


class Settlement(NamedTuple):
    """What becomes of a message: what is sent because of it, after which it is acknowledged."""

    message: Message
    outgoing: Sequence[Outgoing]


class Committed(NamedTuple):
    """What has become known of commits, each settlement once.

    `settled`: those whose outgoing is confirmed and whose message is acknowledged. `undeliverable`: what no
    queue took; each became a dead letter, so nothing is lost. `gone`: those whose message belonged to
    somebody else by then (redelivered after a lost connection): it is theirs to settle.
    """

    settled: Sequence[Settlement]
    undeliverable: Sequence[Outgoing]
    gone: Sequence[Settlement] = ()


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How a broker's user lives with it.

    `lease_seconds`: how long it may be silent before others take what it holds. `durability`: `normal`, or
    `strict` where a confirmation means that it is on disk. `reaps`: whether it looks after the dead, as
    workers do, who come back to `receive` whatever happens. `holds`: whether it is to receive, own or send
    anything, or only looks. `on_wait` is called every second or so while a verb waits for a broker that takes
    its time.
    """

    lease_seconds: float = 30.0
    durability: Literal["normal", "strict"] = "normal"
    reaps: bool = False
    holds: bool = True
    on_wait: Callable[[], None] = _nothing


class Broker(Protocol):
    """One connection to the queues of one prefix."""

    def connect(self) -> None:
        """Connect, or connect anew after BrokerLost; the broker's queues exist afterwards.

        Messages received before belong to this broker only as far as its own rules say.
        Raises BrokerUnreachable.
        """

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        """Send to `queue`; returns when all are confirmed.

        Raises BrokerLost (some may have been sent), or Undeliverable where no queue of that name takes them.
        """

    def receive(self, credit: Mapping[str, int], timeout: float) -> list[Message]:
        """At most so many messages from each queue, in the order given.

        Takes what is there and never waits to fill; waits up to `timeout` seconds for the first, less when
        `wake` is called or a commit that is under way ends, so that it can be asked about. A queue that is
        not named is not consumed from: what was fetched from it ahead of time goes back (one with a credit of
        0 keeps it). Raises BrokerLost.
        """

    def commit(self, settlements: Sequence[Settlement], *, wait: bool = True) -> Committed:
        """For each settlement: everything outgoing is confirmed, then the message is acknowledged.

        With `wait` it returns when that is done, also for all that is under way. Without, it only begins,
        and returns what has become known of earlier ones; the rest goes on in `receive`, and a later call
        says what came of it. No more than one is under way: the next one first awaits its end. Until it is
        reported a message is held, and is neither committed again nor released.

        Raises BrokerLost; all that was not reported may then be committed again after `connect`.
        """

    def release(self, messages: Sequence[Message]) -> None:
        """Give messages back to the front of their queues, for anybody; not those under commit.

        Raises BrokerLost.
        """

    def blame(self, message: Message, position: int | None) -> None:
        """Say, before the request at `position` (or WHOLE) runs with nothing else in this process, that a
        death from now on is its doing: it is then in `blamed` at the next delivery. None: nothing of it runs
        any more, and a death is nobody's doing.

        A later call for the same message replaces an earlier one; commit and release take it back.
        Raises BrokerLost.
        """

    def keep_alive(self) -> None:
        """Called on every turn of the loop: heartbeats, leases. Raises BrokerLost."""

    def own(self, queue: str) -> None:
        """Make a private reply queue that goes when this broker goes. Raises BrokerLost."""

    def declare(self, queue: str) -> None:
        """Make a reply queue that stays, where there is none. Raises BrokerLost."""

    def depth(self, replies: Sequence[str] = ()) -> dict[str, int]:
        """How many messages wait in each of the prefix's own queues and of these reply queues, of which one
        that is not there has none. Takes nothing. Raises BrokerLost.
        """

    def oldest(self) -> dict[str, float]:
        """When the oldest of the messages that are next in line was enqueued (Unix seconds, by its producer's
        clock), for each queue that workers take from. Left out where nothing waits or it does not say; a
        broker that cannot show a message without delivering it leaves out all. Raises BrokerLost.
        """

    def purge(self, queue: str) -> int:
        """Drop what waits in `queue`; returns how many. Raises BrokerLost."""

    def wake(self) -> None:
        """End a `receive` that is waiting, from any thread."""

    def close(self) -> None:
        """Leave: private queues are removed, what is still held goes back to its queue. Never raises."""


class BrokerError(Exception):
    """Anything a broker can raise; its text names the broker (no password) and what to do."""


class BrokerUnreachable(BrokerError):
    """No connection could be made."""


class BrokerLost(BrokerError):
    """The connection broke; what was under way is uncertain. `connect` makes a new one."""


class Undeliverable(BrokerError):
    """No queue takes the message."""
