"""The broker on Redis (6.2 or newer) and Valkey. docs/why.md has the reasons; the scripts have the steps."""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from broker.base import (
    BrokerLost,
    BrokerOptions,
    BrokerUnreachable,
    Committed,
    Message,
    Outgoing,
    Settlement,
    Undeliverable,
)
from broker.dead import undeliverable
from broker.redis.address import Address
from broker.redis.batches import batches, by_queue, size_of
from broker.redis.durability import Durability
from broker.redis.envelope import decode, encode, tag_maker
from broker.redis.holdings import Holdings, count_deliveries, token_of
from broker.redis.lease import Lease
from broker.redis.link import Argument, Link
from broker.redis.waiter import Waiter
from wire.names import Names

PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
_TIMEOUT_SECONDS = 5.0
_SLICE_SECONDS = 0.5  # between looks at what no peek watches: the lists of kombu's lower priorities
_REAPED_AT_ONCE = 1000
_COUNTED_SECONDS = 7 * 86_400
_LEASE_GONE = "the lease ran out: what was held has been given to others"
_NOT_MADE = "nobody has made this reply queue, or its owner is gone"


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
        self._names, self._options, self._shown, self._clock = names, options, shown or url, clock
        self._before_connect, self._on_close = before_connect, on_close
        self._address = Address(url)
        self._timeout = min(_TIMEOUT_SECONDS, options.lease_seconds / 2)
        self._lease = Lease(self._address, names.leases, options.lease_seconds, turning=options.reaps)
        self._durability = Durability(options.durability, self._timeout)
        self._waiter = Waiter(self._address)
        self._holdings = Holdings()
        self._link: Link | None = None
        self._id = ""
        self._earlier: list[str] = []
        self._number = 0
        self._next_tag = tag_maker()
        self._next_reap = 0.0

    def connect(self) -> None:
        """See Broker. What an earlier connection held is still held, unless its lease had run out."""
        self._disconnect()
        link = Link(self._address, self._timeout)
        try:
            self._before_connect()
            link.open()
            self._take_new_id()  # not before: an outage of days must not collect one for each try
            self._durability.check(link)
            self._join(link)
        except (RedisError, OSError) as error:
            raise BrokerUnreachable(f"no broker at {self._shown}: {_said(error)}") from error
        except BrokerUnreachable:
            raise
        self._link = link
        self._earlier.clear()
        self._lease.begin(self._id)

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        """See Broker. A lost connection may leave the beginning of `messages` sent."""
        for batch in batches(messages, lambda message: len(message.body)):
            if self._push([], {queue: batch}):
                raise Undeliverable(f"{queue}: {_NOT_MADE}")

    def receive(self, credit: Mapping[str, int], timeout: float) -> list[Message]:
        """See Broker."""
        wanted = {queue: most for queue, most in credit.items() if most > 0}
        end = time.monotonic() + timeout
        while not (messages := self._claim(wanted)):
            left = end - time.monotonic()
            if left <= 0 or self._waiter.wait(wanted, min(left, _SLICE_SECONDS)):
                break
        return messages

    def commit(self, settlements: Sequence[Settlement]) -> Committed:
        """See Broker."""
        not_taken: list[Outgoing] = []
        for batch in batches([s for s in settlements if self._holdings.has(s.message)], size_of):
            not_taken += self._commit(batch)
        settled = [s for s in settlements if self._holdings.take_settled(s.message)]
        return Committed(settled, not_taken)

    def release(self, messages: Sequence[Message]) -> None:
        """See Broker."""
        for batch in batches([message for message in messages if self._holdings.has(message)], lambda _: 1):
            self._run("release", self._own_keys(), [self._id, *(message.token.field for message in batch)])
            self._holdings.drop(batch)

    def blame(self, message: Message, position: int) -> None:
        """See Broker. One death is a verdict: a lease runs out only where its holder is dead or hangs."""
        self._run("blame", self._own_keys(), [self._id, message.token.field, position])

    def keep_alive(self) -> None:
        """See Broker. Looks after the dead, too, where that is this broker's business."""
        with self._lost():
            if self._lease.is_lost:
                raise BrokerLost(_LEASE_GONE)
        if self._options.reaps and time.monotonic() >= self._next_reap:
            self._next_reap = time.monotonic() + self._options.lease_seconds / 4
            if self._lease.unbroken_seconds > self._options.lease_seconds:
                self.reap()

    def reap(self) -> int:
        """Give back what the dead held, as far as one step goes; how many messages. Raises BrokerLost."""
        keys = [self._names.leases, self._names.deliveries, self._names.owners]
        stem = self._names.in_flight("")
        found = self._run("reap", keys, [self._id, stem, _REAPED_AT_ONCE, _COUNTED_SECONDS])
        if not found:
            return 0
        self._next_reap = 0.0  # there may be more
        return int(found[1])

    def own(self, queue: str) -> None:
        """See Broker."""
        self._run("own", [self._names.leases, self._names.owners], [self._id, queue])

    def declare(self, queue: str) -> None:
        """See Broker."""
        with self._lost() as link:
            link.ask("SADD", self._names.declared, queue)

    def depth(self) -> dict[str, int]:
        """See Broker."""
        names = self._names
        queues = (names.requests, names.misses, names.replies, names.dead)
        with self._lost() as link:
            sizes = link.ask_all([("LLEN", name) for queue in queues for name in _lists(queue)])
        width = len(PRIORITIES)
        return {queue: sum(sizes[n * width : (n + 1) * width]) for n, queue in enumerate(queues)}

    def purge(self, queue: str) -> int:
        """See Broker."""
        with self._lost() as link:
            return int(link.run("purge", _lists(queue), []))

    def wake(self) -> None:
        """See Broker."""
        self._waiter.wake()

    def close(self) -> None:
        """See Broker."""
        self._lease.end()
        if self._link is not None:
            with contextlib.suppress(RedisError, OSError):
                self._link.run("leave", [*self._own_keys(), self._names.owners], [self._id])
        self._disconnect()
        self._holdings.clear()
        self._waiter.close()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()

    def _own_keys(self) -> list[Argument]:
        return [self._names.leases, self._names.in_flight(self._id)]

    def _take_new_id(self) -> None:
        if self._id:
            self._earlier.append(self._id)
        self._id = f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(6)}"

    def _join(self, link: Link) -> None:
        """Begin under a new id, and find out what became of what was held under the old one."""
        milliseconds, stem = round(self._options.lease_seconds * 1000), self._names.in_flight("")
        keys = [*self._own_keys(), self._names.owners]
        was_alive, there = link.run("join", keys, [self._id, milliseconds, stem, *self._earlier])
        fields = {field.decode() for field in there}
        unknown = self._holdings.adopt(fields, was_alive=bool(was_alive))
        if unknown:
            link.run("release", self._own_keys(), [self._id, *unknown])

    def _claim(self, credit: Mapping[str, int]) -> list[Message]:
        if not credit:
            with self._lost():
                return []
        number, self._number = self._number, self._number + sum(credit.values())
        lists = [(name, queue) for queue in credit for name in _lists(queue)]
        keys = [*self._own_keys(), self._names.deliveries, *(name for name, _ in lists)]
        known, *found = self._run("claim", keys, [self._id, number, len(PRIORITIES), *credit.values()])
        counts = dict(zip(known[::2], known[1::2], strict=True))
        messages = []
        for (name, queue), items in zip(lists, found, strict=True):
            for item in items:
                message = decode(item, queue)
                message.token = token_of(number, name)
                if number in counts:
                    count_deliveries(message, counts[number], item)
                self._holdings.add(message)
                messages.append(message)
                number += 1
        return messages

    def _commit(self, settlements: Sequence[Settlement]) -> list[Outgoing]:
        """Commit one batch; what no queue took went to the dead letters instead."""
        messages = [settlement.message for settlement in settlements]
        outgoing = [out for settlement in settlements for out in settlement.outgoing]
        not_taken: list[Outgoing] = []
        self._holdings.doubt(messages)
        while closed := self._push(messages, by_queue(outgoing)):
            not_taken += [out for out in outgoing if out.queue in closed]
            outgoing = [self._redirected(out) if out.queue in closed else out for out in outgoing]
        return not_taken

    def _redirected(self, out: Outgoing) -> Outgoing:
        return Outgoing(self._names.dead, undeliverable(out, self._clock(), _NOT_MADE))

    def _push(self, messages: Sequence[Message], outgoing: Mapping[str, Sequence[Message]]) -> set[str]:
        """One step of acknowledging and sending; the queues that take nothing, where it has not been done."""
        digests = [message.token.digest for message in messages if message.token.digest is not None]
        arguments: list[Argument] = [self._id, len(messages)]
        arguments += [message.token.field for message in messages]
        arguments += [len(digests), *digests]
        for queue, items in outgoing.items():
            arguments += [int(self._must_be_made(queue)), len(items)]
            arguments += [encode(item, queue, self._next_tag()) for item in items]
        names = self._names
        keys = [*self._own_keys(), names.deliveries, names.owners, names.declared, *outgoing]
        answer = self._run("commit", keys, arguments)
        if answer[0] == -1:
            return self._closed([list(outgoing)[n] for n in answer[1:]])
        if messages:
            (self._holdings.settle if answer[0] else self._holdings.drop)(messages)
        with self._lost() as link:
            self._durability.confirm(link)
        return set()

    def _closed(self, queues: Sequence[str]) -> set[str]:
        for queue in queues:
            if not self._must_be_made(queue):
                with self._lost():
                    raise BrokerLost(f"{queue} at {self._shown} takes nothing: it is not a list")
        return set(queues)

    def _must_be_made(self, queue: str) -> bool:
        return queue != self._names.replies and self._names.is_reply_queue(queue)

    def _run(self, script: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Any:
        with self._lost() as link:
            answer = link.run(script, keys, arguments)
            if answer is None:
                raise BrokerLost(_LEASE_GONE)
            return answer

    @contextlib.contextmanager
    def _lost(self) -> Iterator[Link]:
        if self._link is None:
            raise BrokerLost(f"not connected to {self._shown}")
        try:
            with self._lease.at_work():
                yield self._link
        except (RedisError, OSError) as error:
            self._disconnect()
            raise BrokerLost(f"lost {self._shown}: {_said(error)}") from error
        except BrokerLost:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        self._lease.suspend()
        self._waiter.hang_up()
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _lists(queue: str) -> list[str]:
    return [f"{queue}{suffix}" for suffix in PRIORITIES]


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
