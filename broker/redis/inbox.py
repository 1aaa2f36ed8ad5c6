"""Private reply queues: what is taken from them needs no record, and no acknowledgement.

Nobody else reads them, and they go with their owner; who loses its connection sends again whatever is
unanswered. So a message is popped where others are claimed, and settled without a word to the server.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from broker.base import Message, Settlement
from broker.redis.caller import Caller
from broker.redis.claims import lists_of
from broker.redis.envelope import decode
from broker.redis.waiter import SLICE_SECONDS, Question
from wire.names import Names


class Taken:
    """The token of what was popped: ours, until it is settled or given back."""

    __slots__ = ("is_held",)

    def __init__(self) -> None:
        self.is_held = True


class Inbox:
    """The private queues of one holder."""

    def __init__(self, names: Names, caller: Caller) -> None:
        self._names, self._caller = names, caller
        self._unread: dict[str, deque[Message]] = {}

    def own(self, queue: str) -> None:
        """Make a queue that goes with the holder. Raises BrokerLost."""
        self._caller.run("own", [self._names.leases, self._names.owners], [queue])
        self._unread.setdefault(queue, deque())

    def __contains__(self, queue: str) -> bool:
        return queue in self._unread

    def take(self, queue: str, most: int) -> list[Message]:
        """What is there. Raises BrokerLost."""
        with self._caller.asking() as link:
            return _messages(link.ask("RPOP", queue, most), queue)

    def question(self, queue: str, most: int) -> Question:
        """Wait for the first, and take what has come with it."""
        commands: list[Sequence[Any]] = [("BRPOP", *lists_of(queue), SLICE_SECONDS)]
        if most > 1:
            commands.append(("RPOP", queue, most - 1))

        def read(answers: Sequence[Any]) -> list[Message]:
            first, rest = answers[0], answers[1] if most > 1 else None
            if isinstance(rest, RedisError):
                raise rest
            came = [] if first is None or isinstance(first, RedisError) else [first[1]]
            return _messages([*came, *(rest or ())], queue)

        return Question(most, commands, read)

    def keep(self, queue: str, messages: Sequence[Message]) -> None:
        """Nobody else will read them: they are delivered when they are asked for."""
        self._unread[queue].extend(messages)

    def kept(self, queue: str, most: int) -> list[Message]:
        """What is kept, the oldest first."""
        unread = self._unread[queue]
        messages = [unread.popleft() for _ in range(min(most, len(unread)))]
        for message in messages:
            message.token.is_held = True
        return messages

    def has(self, message: Message) -> bool:
        """Whether it was taken from here, and neither settled nor given back."""
        return isinstance(message.token, Taken) and message.token.is_held

    def held(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Those of such messages."""
        return [s for s in settlements if self.has(s.message)] if self._unread else []

    def settle(self, messages: Sequence[Message]) -> None:
        """They are done with."""
        for message in messages:
            message.token.is_held = False

    def release(self, messages: Sequence[Message]) -> None:
        """To the front of what is kept: there is nobody else to give them to."""
        for message in reversed(messages):
            message.token.is_held = False
            self._unread[message.queue].appendleft(message)

    def clear(self) -> None:
        """They are gone."""
        self._unread.clear()


def _messages(items: Sequence[bytes] | None, queue: str) -> list[Message]:
    messages = []
    for item in items or ():
        message = decode(item, queue)
        message.token = Taken()
        messages.append(message)
    return messages
