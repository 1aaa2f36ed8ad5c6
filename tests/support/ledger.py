"""A producer that cannot hide a loss: it numbers its requests, and asks for nothing twice."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

import orjson

from broker.base import (
    JSON,
    NDJSON,
    Broker,
    BrokerLost,
    BrokerOptions,
    BrokerUnreachable,
    Message,
    Settlement,
)
from broker.urls import open_broker
from tests.support.waiting import until
from wire.names import Names

_AT_ONCE = 64
_BACK_SECONDS = 60


class Ledger:
    """Requests from 0 on, each with the payload {"n": number}, and every reply that came.

    Only where a send was cut short is it repeated, whole: those requests are in `resent`, and may have two
    replies. What a reply cannot be is in `unexpected` and `wrong`. `kinds` counts the errors.
    """

    def __init__(self, broker_url: str, names: Names, *, lease_seconds: float = 30.0) -> None:
        self._broker: Broker = open_broker(broker_url, names, BrokerOptions(lease_seconds=lease_seconds))
        self._names, self.queue = names, names.replies_for("ledger")
        self.sent = 0
        self.resent: set[int] = set()
        self.replies: Counter[int] = Counter()
        self.unexpected: list[bytes] = []
        self.wrong: list[bytes] = []
        self.kinds: Counter[str] = Counter()
        self.reconnects = -1
        self._numbers: dict[str, range] = {}
        self._unsettled: list[Settlement] = []
        self._connect()

    @property
    def lost(self) -> int:
        """How many requests have no reply, so far."""
        return self.sent - len(self.replies)

    @property
    def duplicates(self) -> int:
        """How many replies were one too many."""
        return sum(self.replies.values()) - len(self.replies)

    @property
    def doubly_answered(self) -> set[int]:
        """The requests with more than one reply, though they were sent but once."""
        return {number for number, count in self.replies.items() if count > 1} - self.resent

    def send(self, sizes: Sequence[int]) -> None:
        """Messages of so many requests each, all confirmed."""
        messages, first = [], self.sent
        for size in sizes:
            messages.append(self._message(range(self.sent, self.sent + size)))
            self.sent += size
        while not self._survives(lambda: self._broker.send(self._names.requests, messages)):
            self.resent.update(range(first, self.sent))

    def listen(self, timeout: float) -> int:
        """Take what has come; how many replies that were."""
        heard: list[Message] = []

        def take() -> None:
            self._broker.keep_alive()
            heard.extend(self._broker.receive({self.queue: _AT_ONCE}, timeout))
            self._unsettled.extend(Settlement(message, ()) for message in heard)
            # Also what an earlier connection left: one that still holds it would hold it for ever.
            self._broker.commit(self._unsettled)
            self._unsettled.clear()

        self._survives(take)
        return sum(self._enter(message) for message in heard)

    def settle(self, quiet_seconds: float, meanwhile: Callable[[], None] = lambda: None) -> int:
        """Listen until everything is answered, or nothing has come for so long; how many are lost."""
        end = time.monotonic() + quiet_seconds
        while self.lost and time.monotonic() < end:
            meanwhile()
            if self.listen(0.1):
                end = time.monotonic() + quiet_seconds
        self.listen(0.2)  # a duplicate comes last
        return self.lost

    def depth(self) -> dict[str, int]:
        """How much waits in each queue, the ledger's own replies apart."""
        found: dict[str, int] = {}
        self._survives(lambda: found.update(self._broker.depth()))
        return found

    def letters(self) -> list[Message]:
        """Every dead letter; they are gone afterwards."""
        found: list[Message] = []
        while letters := self._broker.receive({self._names.dead: _AT_ONCE}, 0.5):
            self._broker.commit([Settlement(letter, ()) for letter in letters])
            found += letters
        return found

    def close(self) -> None:
        """Leave."""
        self._broker.close()

    def _message(self, numbers: range) -> Message:
        key = f"ledger-{numbers.start}"
        self._numbers[key] = numbers
        lines = [b'{"id":"%d","payload":{"n":%d}}' % (number, number) for number in numbers]
        body, kind = (lines[0], JSON) if len(lines) == 1 else (b"\n".join(lines) + b"\n", NDJSON)
        return Message(body, kind, key, self.queue, {"enqueued_at": time.time()})

    def _enter(self, message: Message) -> int:
        asked = self._numbers.get(message.correlation_id or "", range(0))
        replies = message.body.splitlines()
        # The same message once more, because the acknowledgement was lost, is no second reply.
        is_copy = message.deliveries > 1
        for number, line in self._numbered(message, replies):
            reply = orjson.loads(line)
            if number not in asked:
                self.unexpected.append(line)
            elif not is_copy or number not in self.replies:
                self.replies[number] += 1
                self._judge(number, reply, line)
        return len(replies)

    def _numbered(self, message: Message, replies: list[bytes]) -> list[tuple[int, bytes]]:
        """Each reply with the number it names; one that is for the whole message is every request's."""
        if len(replies) == 1 and orjson.loads(replies[0])["id"] == message.correlation_id:
            return [(number, replies[0]) for number in self._numbers.get(message.correlation_id or "", ())]
        return [(int(orjson.loads(line)["id"]), line) for line in replies]

    def _judge(self, number: int, reply: dict[str, object], line: bytes) -> None:
        error = reply["error"]
        if isinstance(error, dict):
            self.kinds[error["kind"]] += 1
        elif reply["result"] != {"n": number}:
            self.wrong.append(line)

    def _survives(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except BrokerLost:
            self._connect()
            return False
        return True

    def _connect(self) -> None:
        until(self._connects, _BACK_SECONDS, "the broker's return")

    def _connects(self) -> bool:
        try:
            self._broker.connect()
            self._broker.declare(self.queue)
        except (BrokerUnreachable, BrokerLost):
            return False
        self.reconnects += 1
        return True
