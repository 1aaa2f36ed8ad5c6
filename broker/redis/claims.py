"""Taking messages from their queues, some of them ahead of time."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from broker.base import BrokerLost, Message
from broker.redis.caller import Caller, under_lease
from broker.redis.envelope import decode
from broker.redis.holdings import Holdings, token_of
from broker.redis.link import Posted, script_call
from broker.redis.waiter import SLICE_SECONDS, Question
from wire.names import Names

PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
_WORTH_SHARING = 16


def lists_of(queue: str) -> list[str]:
    """The Redis lists of a queue: one for each of kombu's priorities, the most urgent first."""
    return [f"{queue}{suffix}" for suffix in PRIORITIES]


def share_of(credit: int) -> int:
    """How much of a credit is claimed at once: half, where the other half can be claimed meanwhile."""
    return credit if credit < _WORTH_SHARING else (credit + 1) // 2


class Claims:
    """Claims for one holder. What was claimed ahead is held like everything else, and bounded by the credit.

    The server is busy with the next batch while its user handles this one. An idle queue is not claimed from
    ahead: what comes then is answered by whoever is free. Nor does a worker claim ahead, or while it waits,
    from any but the requests: the credit of the misses comes and goes with the room that models have, and of
    what is interactive nothing is to lie with a worker that is busy while another is free.
    """

    def __init__(self, names: Names, holdings: Holdings, caller: Caller, *, stand: bool) -> None:
        """`stand`: whether a claim may outlast the wait that asked for it, since its user will be back."""
        self._names, self._holdings, self._caller = names, holdings, caller
        self._steady = names.requests if stand else None
        self._number = 0
        self._ahead: tuple[int, list[tuple[str, str]], Posted] | None = None

    def forget(self) -> None:
        """The connection is another: what was claimed ahead and not fetched is unknown to the next."""
        self._ahead = None

    def take(self, credit: Mapping[str, int]) -> list[Message]:
        """What is there, within the credit. Raises BrokerLost."""
        shares = {queue: share_of(most) for queue, most in credit.items()}
        number, lists, arguments = self._asked(shares)
        found = self._messages(number, lists, self._caller.run("claim", self._keys(lists), arguments))
        self._claim_ahead(credit, found)
        return found

    def question(self, queue: str, most: int) -> Question:
        """Wait for something to be there, and claim it.

        BLMOVE of a list onto itself blocks while it is empty, takes nothing, and wakes everybody who waits.
        Rejected: BRPOP, which takes the message before anybody has a record of it; polling.
        """
        blocks = ("BLMOVE", queue, queue, "RIGHT", "RIGHT", SLICE_SECONDS)
        if queue != self._steady:
            return Question(0, [blocks], lambda _: [])
        share = share_of(most)
        number, lists, arguments = self._asked({queue: share})
        claim = script_call("claim", self._keys(lists), [self._caller.holder, *arguments])

        def read(answers: Sequence[Any]) -> list[Message]:
            if isinstance(answers[1], RedisError):
                raise answers[1]
            return self._messages(number, lists, under_lease(answers[1]))

        return Question(share, [blocks, claim], read)

    def take_ahead(
        self, credit: Mapping[str, int], *, again: bool = True
    ) -> tuple[list[Message], list[Message]]:
        """What was claimed ahead: as far as the credit still goes, and the rest. Raises BrokerLost."""
        if self._ahead is None:
            return [], []
        (number, lists, posted), self._ahead = self._ahead, None
        found = self._messages(number, lists, self._caller.fetch(posted))
        left = dict(credit)
        wanted: list[Message] = []
        surplus: list[Message] = []
        for message in found:
            left[message.queue] = left.get(message.queue, 0) - 1
            (wanted if left[message.queue] >= 0 else surplus).append(message)
        if again and not surplus:
            self._claim_ahead(credit, wanted)
        return wanted, surplus

    def _claim_ahead(self, credit: Mapping[str, int], found: list[Message]) -> None:
        queue = self._steady or next(iter(credit), "")
        if self._ahead is not None:
            return
        credited, taken = credit.get(queue, 0), sum([message.queue == queue for message in found])
        if share_of(credited) <= taken < credited:
            number, lists, arguments = self._asked({queue: credited - taken})
            with contextlib.suppress(
                BrokerLost
            ):  # `found` is in the books, and must reach its user all the same
                self._ahead = (number, lists, self._caller.post("claim", self._keys(lists), arguments))

    def _asked(self, credit: Mapping[str, int]) -> tuple[int, list[tuple[str, str]], list[Any]]:
        # Numbers are used once, whatever becomes of the answer: an earlier claim may run late.
        number, self._number = self._number, self._number + sum(credit.values())
        lists = [(name, queue) for queue in credit for name in lists_of(queue)]
        return number, lists, [number, len(PRIORITIES), *credit.values()]

    def _keys(self, lists: list[tuple[str, str]]) -> list[Any]:
        return [*self._caller.own_keys, self._names.deliveries, *(name for name, _ in lists)]

    def _messages(self, number: int, lists: list[tuple[str, str]], answer: Any) -> list[Message]:
        known, *found = answer
        counts = dict(zip(known[::2], known[1::2], strict=True))
        messages = []
        for (name, queue), items in zip(lists, found, strict=True):
            for item in items:
                message = decode(item, queue)
                message.token = token_of(number, name)
                self._holdings.add(message)
                if number in counts:
                    self._holdings.count(message, counts[number], item)
                messages.append(message)
                number += 1
        return messages
