"""Acknowledging and sending, in one step of the server."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from broker.base import BrokerLost, Committed, Message, Outgoing, Settlement
from broker.dead import undeliverable
from broker.redis.batches import by_queue
from broker.redis.caller import Caller
from broker.redis.commands import Argument
from broker.redis.durability import Durability
from broker.redis.envelope import encode, tag_maker
from broker.redis.holdings import Holdings
from broker.redis.link import Posted
from wire.names import Names

NOT_MADE = "nobody has made this reply queue, or its owner is gone"


@dataclass(slots=True)
class _Step:
    """A commit that the server works on: what it settles, what it sends, and what no queue has taken."""

    settlements: Sequence[Settlement]
    messages: Sequence[Message]
    outgoing: Sequence[Outgoing]
    posted: Posted
    not_taken: Sequence[Outgoing] = ()


class Outbox:
    """Sends for one holder; `clock` gives Unix seconds, for dead letters.

    What came of a settlement is known by the answer, or, where that was lost, by what `Holdings.adopt` finds:
    whoever did not hear of it brings it again.
    """

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
        self._under_way: deque[_Step] = deque()
        self._answered: list[Settlement] = []
        self._not_taken: list[Outgoing] = []

    def send(self, queue: str, messages: Sequence[Message]) -> bool:
        """Send, confirmed; whether the queue takes nothing. Raises BrokerLost."""
        answer = self._caller.fetch(self._post([], {queue: messages}))
        if answer[0] == -1:
            return bool(self._closed([queue]))
        self._confirm()
        return False

    def to_do(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Those that are still to be settled. Of the others, unless they are under way, the end is known."""
        to_do = self._holdings.free(settlements)
        if len(to_do) < len(settlements):
            self._answered += [s for s in settlements if not self._holdings.knows(s.message)]
        return to_do

    def begin(self, settlements: Sequence[Settlement]) -> None:
        """Have the server settle one batch. Raises BrokerLost."""
        messages = [settlement.message for settlement in settlements]
        self._holdings.doubt(messages)
        outgoing = [out for settlement in settlements for out in settlement.outgoing]
        posted = self._post(messages, by_queue(outgoing))
        self._under_way.append(_Step(settlements, messages, outgoing, posted))

    def begin_sending(self, outgoing: Sequence[Outgoing]) -> None:
        """Have the server take these because of nothing. Raises BrokerLost."""
        self._under_way.append(_Step((), (), outgoing, self._post((), by_queue(outgoing))))

    @property
    def is_answered(self) -> bool:
        """Whether the end of what is under way can be known without waiting."""
        return bool(self._under_way) and self._under_way[-1].posted.is_answered

    def finish(self) -> bool:
        """Await the end of all that is under way; whether anything was. Raises BrokerLost.

        What no queue takes goes to the dead letters instead.
        """
        if not self._under_way:
            return False
        while self._under_way:
            self._finish(self._under_way[0])
        self._confirm()
        return True

    def report(self, others: Sequence[Settlement] = ()) -> Committed:
        """What has become known, each once; `others` are settled besides."""
        once = {settlement.message.token: settlement for settlement in self._answered}
        known = self._holdings.take_settled(once)
        settled = [settlement for token, settlement in once.items() if token in known]
        gone = [settlement for token, settlement in once.items() if token not in known]
        not_taken, self._answered, self._not_taken = self._not_taken, [], []
        return Committed([*others, *settled], not_taken, gone)

    def forget(self) -> None:
        """The connection is another: what the server made of the last commit shows in what is in flight."""
        self._under_way.clear()

    def _finish(self, step: _Step) -> None:
        answer = self._caller.fetch(step.posted)
        if answer[0] == -1:
            queues = list(by_queue(step.outgoing))
            self._redirect(step, self._closed([queues[n] for n in answer[1:]]))
            return
        (self._holdings.settle if answer[0] else self._holdings.drop)(step.messages)
        self._answered += step.settlements
        self._not_taken += step.not_taken
        self._under_way.popleft()

    def _redirect(self, step: _Step, closed: set[str]) -> None:
        """Nothing was done, for these queues take nothing: the same again, with dead letters."""
        step.not_taken = [*step.not_taken, *(out for out in step.outgoing if out.queue in closed)]
        step.outgoing = [self._redirected(out) if out.queue in closed else out for out in step.outgoing]
        step.posted = self._post(step.messages, by_queue(step.outgoing))

    def _post(self, messages: Sequence[Message], outgoing: Mapping[str, Sequence[Message]]) -> Posted:
        digests = self._holdings.digests(messages)
        arguments: list[Argument] = [len(messages), *[message.token for message in messages]]
        arguments += [len(digests), *digests]
        for queue, items in outgoing.items():
            arguments += [int(self._must_be_made(queue)), len(items)]
            arguments += [encode(item, queue, self._next_tag()) for item in items]
        names = self._names
        keys = [*self._caller.own_keys, names.deliveries, names.owners, names.declared, *outgoing]
        return self._caller.post("commit", keys, arguments)

    def _confirm(self) -> None:
        with self._caller.asking() as link:
            self._durability.confirm(link)

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
