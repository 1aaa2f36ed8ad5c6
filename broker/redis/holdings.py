"""What a process holds, across connections that break in the middle of a question. Pure bookkeeping."""

from collections.abc import Collection, Iterable
from hashlib import sha1
from typing import NamedTuple

from broker.base import Message


class Token(NamedTuple):
    """A message's place in the in-flight hash, and the digest that its deliveries are counted by, if any."""

    field: str
    digest: str | None = None


def token_of(number: int, place: str) -> Token:
    """The token of the message that was claimed as `number` from the list `place`."""
    return Token(f"{number}:{place}")


def count_deliveries(message: Message, found: bytes, item: bytes) -> None:
    """Put in what is counted of a message that was in flight at a death: `<count>;<position>,…`."""
    count, _, blamed = found.decode().partition(";")
    message.deliveries = 1 + int(count)
    message.blamed = frozenset(int(position) for position in blamed.split(",") if position)
    message.token = Token(message.token.field, sha1(item, usedforsecurity=False).hexdigest())


class Holdings:
    """Messages held; those in a commit that has no answer yet; those settled and not yet reported."""

    def __init__(self) -> None:
        self._held: dict[str, Message] = {}
        self._in_doubt: set[str] = set()
        self._settled: set[str] = set()

    def add(self, message: Message) -> None:
        """It was claimed."""
        self._held[message.token.field] = message

    def has(self, message: Message) -> bool:
        """Whether it may be committed or released."""
        return message.token.field in self._held

    def doubt(self, messages: Iterable[Message]) -> None:
        """They are being committed."""
        self._in_doubt.update(message.token.field for message in messages)

    def settle(self, messages: Iterable[Message]) -> None:
        """They were committed."""
        for message in messages:
            self._held.pop(message.token.field, None)
            self._settled.add(message.token.field)
        self._in_doubt.clear()

    def drop(self, messages: Iterable[Message]) -> None:
        """They are no longer ours."""
        for message in messages:
            self._held.pop(message.token.field, None)
        self._in_doubt.clear()

    def take_settled(self, message: Message) -> bool:
        """Whether it was committed; asked once."""
        if message.token.field not in self._settled:
            return False
        self._settled.discard(message.token.field)
        return True

    def adopt(self, there: Collection[str], *, was_alive: bool) -> list[str]:
        """After a reconnect the server says what is in flight: the fields of it that we know nothing of.

        What was in doubt and is gone was committed, where our lease was alive all the time; otherwise it was
        reaped, and is somebody else's. A claim whose answer was lost shows as a field that nobody knows.
        """
        if was_alive:
            self._settled |= self._in_doubt.difference(there)
        self._in_doubt.clear()
        self._held = {field: message for field, message in self._held.items() if field in there}
        return [field for field in there if field not in self._held]

    def clear(self) -> None:
        """Nothing is held any more."""
        self._held.clear()
        self._in_doubt.clear()
        self._settled.clear()
