"""The broker on Redis (6.2 or newer) and Valkey. docs/why.md has the reasons; the scripts have the steps."""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from redis.exceptions import RedisError

from broker.base import (
    BrokerLost,
    BrokerOptions,
    BrokerUnreachable,
    Committed,
    Message,
    Settlement,
    Undeliverable,
)
from broker.redis.address import Address
from broker.redis.arrivals import Arrivals
from broker.redis.batches import batches, size_of
from broker.redis.caller import Caller
from broker.redis.claims import Claims
from broker.redis.durability import Durability
from broker.redis.holdings import Holdings
from broker.redis.inbox import Inbox
from broker.redis.lease import Lease
from broker.redis.link import Link
from broker.redis.outbox import NOT_MADE, Outbox
from broker.redis.queues import Queues
from broker.redis.waiter import Waiter
from wire.names import Names

_TIMEOUT_SECONDS = 5.0
_REAPED_AT_ONCE, _COUNTED_SECONDS = 1000, 7 * 86_400


class RedisBroker:
    """A broker.base.Broker on kombu's lists, with claim and commit as scripts.

    What it holds stays its own across a lost connection: `connect` takes it over under a new id. `shown`
    stands for the URL in messages; `before_connect` runs before each connection is made, `on_close` once at
    the end. Raises ValueError for a URL that names no server.
    """

    def __init__(
        self,
        url: str,
        names: Names,
        options: BrokerOptions,
        *,
        shown: str | None = None,
        before_connect: Callable[[], None] = lambda: None,
        on_close: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._names, self._options, self._shown = names, options, shown or url
        self._before_connect, self._on_close = before_connect, on_close
        self._address = Address(url)
        self._timeout = min(_TIMEOUT_SECONDS, options.lease_seconds / 2)
        self._lease = Lease(self._address, names.leases, options.lease_seconds, turning=options.reaps)
        self._durability = Durability(options.durability, self._timeout)
        self._waiter = Waiter()
        self._holdings = Holdings()
        self._caller = Caller(names, self._lease, self._shown)
        self._claims = Claims(names, self._holdings, self._caller, stand=options.reaps)
        self._inbox = Inbox(names, self._caller)
        self._queues = Queues(names, self._caller)
        self._outbox = Outbox(names, self._holdings, self._caller, self._durability, clock)
        self._arrivals = Arrivals(
            self._address,
            self._timeout,
            self._claims,
            self._inbox,
            self._caller,
            self._waiter,
            self._outbox.finish,
        )
        self._earlier: list[str] = []
        self._next_reap = 0.0

    def connect(self) -> None:
        """See Broker. What an earlier connection held is still held, unless its lease had run out."""
        self._disconnect()
        link = Link(self._address, self._timeout)
        try:
            self._before_connect()
            link.open()
            if self._options.holds:
                self._take_new_id()  # not before: an outage of days must not collect one for each try
                self._durability.check(link)
                self._join(link)
                self._durability.confirm(link)  # what `join` finds to have been settled is reported as such
        except BaseException as error:
            link.close()
            if isinstance(error, RedisError | OSError):
                said = self._address.explained(error)
                raise BrokerUnreachable(f"no broker at {self._shown}: {said}") from error
            raise
        self._begin(link)

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        """See Broker. A lost connection may leave the beginning of `messages` sent."""
        for batch in batches(messages, lambda message: len(message.body)):
            if self._outbox.send(queue, batch):
                raise Undeliverable(f"{queue}: {NOT_MADE}")

    def receive(self, credit: Mapping[str, int], timeout: float) -> list[Message]:
        """See Broker. Of a full queue half the credit is claimed ahead, while its user handles the other."""
        wanted = {queue: most for queue, most in credit.items() if most > 0}
        asks_too_much = self._arrivals.asks_more_than(wanted)
        messages, surplus = self._claims.take_ahead(wanted, again=not asks_too_much)
        if surplus or asks_too_much:
            with contextlib.suppress(BrokerLost):  # what was taken must not be lost with what is given back
                self._give_back(surplus, claims=asks_too_much)
        return self._arrivals.receive(wanted, timeout, messages)

    def commit(self, settlements: Sequence[Settlement], *, wait: bool = True) -> Committed:
        """See Broker. The server works on it while its user handles the messages that were claimed ahead."""
        self._still_there()
        popped = self._inbox.held(settlements)
        claimed = [s for s in settlements if not self._inbox.has(s.message)] if popped else settlements
        ours = self._outbox.to_do(claimed)
        if ours or self._outbox.is_answered:
            self._outbox.finish()
        for batch in batches(ours, size_of):
            self._outbox.begin(batch)
        if any(settlement.outgoing for settlement in popped):
            self._outbox.begin_sending([out for settlement in popped for out in settlement.outgoing])
        if wait or popped or self._durability.asks:
            self._outbox.finish()
        self._inbox.settle([settlement.message for settlement in popped])
        return self._outbox.report(popped)

    def release(self, messages: Sequence[Message]) -> None:
        """See Broker. What a lost connection leaves in flight, the next one gives back."""
        self._inbox.release([message for message in messages if self._inbox.has(message)])
        ours = [message for message in messages if self._holdings.has(message)]
        self._holdings.drop(ours)  # first: what nobody wants and the books still know would be held for ever
        for batch in batches(ours, lambda _: 1):
            self._caller.run("release", self._caller.own_keys, [message.token for message in batch])

    def blame(self, message: Message, position: int | None) -> None:
        """See Broker. One death is a verdict: a lease runs out only where its holder is dead or hangs."""
        self._caller.run(
            "blame", self._caller.own_keys, [message.token, "" if position is None else position]
        )

    def keep_alive(self) -> None:
        """See Broker. Looks after the dead, too, where that is this broker's business."""
        self._still_there()
        if self._options.reaps and time.monotonic() >= self._next_reap:
            self._next_reap = time.monotonic() + self._options.lease_seconds / 4
            unbroken = self._lease.unbroken_seconds
            if unbroken > self._options.lease_seconds:
                self.reap(unbroken)

    def reap(self, unbroken_seconds: float = 1e9) -> int:
        """Give back what the dead held, as far as one step goes; how many messages. Raises BrokerLost.

        Whose lease is longer than `unbroken_seconds` may only be coming back after an outage.
        """
        keys = [self._names.leases, self._names.deliveries, self._names.owners]
        stem = self._names.in_flight("")
        unbroken = round(unbroken_seconds * 1000)
        found = self._caller.run("reap", keys, [stem, _REAPED_AT_ONCE, _COUNTED_SECONDS, unbroken])
        if not found:
            return 0
        self._next_reap = 0.0  # there may be more
        return int(found[1])

    def own(self, queue: str) -> None:
        """See Broker."""
        self._inbox.own(queue)

    def declare(self, queue: str) -> None:
        """See Broker."""
        self._queues.declare(queue)

    def depth(self, replies: Sequence[str] = ()) -> dict[str, int]:
        """See Broker."""
        return self._queues.depth(replies)

    def oldest(self) -> dict[str, float]:
        """See Broker."""
        return self._queues.oldest()

    def purge(self, queue: str) -> int:
        """See Broker."""
        return self._queues.purge(queue)

    def wake(self) -> None:
        """See Broker."""
        self._waiter.wake()

    def close(self) -> None:
        """See Broker."""
        self._lease.end()
        if self._caller.is_connected and self._options.holds:
            with contextlib.suppress(BrokerLost):
                self._caller.run("leave", [*self._caller.own_keys, self._names.owners], [])
        self._disconnect()
        self._holdings.clear()
        self._inbox.clear()
        self._waiter.close()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()

    def _still_there(self) -> None:
        with self._caller.asking():
            pass

    def _give_back(self, surplus: Sequence[Message], *, claims: bool) -> None:
        """These, and, with `claims`, whatever a claim that waits would take from now on: its id ends."""
        self.release(surplus)
        if not claims:
            return
        self._arrivals.stop_claims()
        self._outbox.finish()
        with self._caller.asking() as link:
            self._take_new_id()
            self._join(link)
            self._begin(link)

    def _begin(self, link: Link) -> None:
        self._earlier.clear()
        self._caller.begin(link)

    def _take_new_id(self) -> None:
        if self._caller.holder:
            self._earlier.append(self._caller.holder)
        lease = round(self._options.lease_seconds * 1000)
        self._caller.holder = f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(6)}@{lease}"

    def _join(self, link: Link) -> None:
        """Begin under a new id, and find out what became of what was held under the old one."""
        milliseconds, stem = round(self._options.lease_seconds * 1000), self._names.in_flight("")
        keys, holder = [*self._caller.own_keys, self._names.owners], self._caller.holder
        was_alive, there = link.run("join", keys, [holder, milliseconds, stem, *self._earlier])
        unknown = self._holdings.adopt({token.decode() for token in there}, was_alive=bool(was_alive))
        if unknown:
            link.run("release", self._caller.own_keys, [holder, *unknown])

    def _disconnect(self) -> None:
        self._caller.end()
        self._claims.forget()
        self._outbox.forget()
        self._arrivals.forget()
