"""Acknowledging and sending, in one step of the server."""

from collections.abc import Callable, Mapping, Sequence

from broker.base import BrokerLost, Message, Outgoing, Settlement
from broker.dead import undeliverable
from broker.redis.batches import by_queue
from broker.redis.caller import Caller
from broker.redis.durability import Durability
from broker.redis.envelope import encode, tag_maker
from broker.redis.holdings import Holdings
from broker.redis.link import Argument
from wire.names import Names

NOT_MADE = "nobody has made this reply queue, or its owner is gone"


class Outbox:
    """Sends for one holder; `clock` gives Unix seconds, for dead letters."""

    def __init__(
        self,
        names: Names,
        holdings: Holdings,
        caller: Caller,
        durability: Durability,
        clock: Callable[[], float],
    ) -> None:
        self._names, self._holdings, self._caller = names, holdings, caller
        self._durability, self._clock = durability, clock
        self._next_tag = tag_maker()

    def commit(self, settlements: Sequence[Settlement]) -> list[Outgoing]:
        """Settle one batch. What no queue took went to the dead letters instead. Raises BrokerLost."""
        messages = [settlement.message for settlement in settlements]
        self._holdings.doubt(messages)
        return self.deliver(messages, [out for settlement in settlements for out in settlement.outgoing])

    def deliver(self, messages: Sequence[Message], outgoing: Sequence[Outgoing]) -> list[Outgoing]:
        """Acknowledge, and send to wherever something can be sent. Raises BrokerLost."""
        not_taken: list[Outgoing] = []
        while closed := self.push(messages, by_queue(outgoing)):
            not_taken += [out for out in outgoing if out.queue in closed]
            outgoing = [self._redirected(out) if out.queue in closed else out for out in outgoing]
        return not_taken

    def push(self, messages: Sequence[Message], outgoing: Mapping[str, Sequence[Message]]) -> set[str]:
        """Acknowledge and send; the queues that take nothing, where it has not been done for that.

        Raises BrokerLost.
        """
        digests = self._holdings.digests(messages)
        arguments: list[Argument] = [len(messages), *[message.token for message in messages]]
        arguments += [len(digests), *digests]
        for queue, items in outgoing.items():
            arguments += [int(self._must_be_made(queue)), len(items)]
            arguments += [encode(item, queue, self._next_tag()) for item in items]
        names = self._names
        keys = [*self._caller.own_keys, names.deliveries, names.owners, names.declared, *outgoing]
        answer = self._caller.run("commit", keys, arguments)
        if answer[0] == -1:
            return self._closed([list(outgoing)[n] for n in answer[1:]])
        if messages:
            (self._holdings.settle if answer[0] else self._holdings.drop)(messages)
        with self._caller.asking() as link:
            self._durability.confirm(link)
        return set()

    def _redirected(self, out: Outgoing) -> Outgoing:
        return Outgoing(self._names.dead, undeliverable(out, self._clock(), NOT_MADE))

    def _closed(self, queues: Sequence[str]) -> set[str]:
        for queue in queues:
            if not self._must_be_made(queue):
                with self._caller.asking():
                    raise BrokerLost(f"{queue} takes nothing: it is not a list")
        return set(queues)

    def _must_be_made(self, queue: str) -> bool:
        return queue != self._names.replies and self._names.is_reply_queue(queue)
