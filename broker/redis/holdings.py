"""What a process holds, across connections that break in the middle of a question. Pure bookkeeping."""

from collections.abc import Collection, Iterable
from hashlib import sha1

from broker.base import Message, Settlement


def token_of(number: int, place: str) -> str:
    """The token of the message that was claimed as `number` from the list `place`: its in-flight field."""
    return f"{number}:{place}"


class Holdings:
    """Messages held; those in a commit that has no answer yet; those settled and not yet reported."""

    def __init__(self) -> None:
        self._held: dict[str, Message] = {}
        self._in_doubt: set[str] = set()
        self._settled: set[str] = set()
        self._digests: dict[str, str] = {}

    def add(self, message: Message) -> None:
        """It was claimed."""
        self._held[message.token] = message

    def count(self, message: Message, found: bytes, item: bytes) -> None:
        """It was in flight at a death before: what is counted of it is `<count>;<position>,…`."""
        count, _, blamed = found.decode().partition(";")
        message.deliveries = 1 + int(count)
        message.blamed = frozenset(int(position) for position in blamed.split(",") if position)
        self._digests[message.token] = sha1(item, usedforsecurity=False).hexdigest()

    def digests(self, messages: Iterable[Message]) -> list[str]:
        """What deliveries are counted by, of those that were counted."""
        if not self._digests:
            return []
        return [self._digests[m.token] for m in messages if m.token in self._digests]

    def has(self, message: Message) -> bool:
        """Whether it may be committed or released."""
        return message.token in self._held and message.token not in self._in_doubt

    def free(self, settlements: Iterable[Settlement]) -> list[Settlement]:
        """Those whose message may be."""
        held, in_doubt = self._held, self._in_doubt
        return [s for s in settlements if s.message.token in held and s.message.token not in in_doubt]

    def knows(self, message: Message) -> bool:
        """Whether it may be, or is being committed."""
        return message.token in self._held

    def doubt(self, messages: Iterable[Message]) -> None:
        """They are being committed."""
        self._in_doubt.update(message.token for message in messages)

    def settle(self, messages: Iterable[Message]) -> None:
        """They were committed."""
        tokens = [message.token for message in messages]
        self._settled.update(tokens)
        self._let_go(tokens)

    def drop(self, messages: Iterable[Message]) -> None:
        """They are no longer ours."""
        self._let_go([message.token for message in messages])

    def take_settled(self, tokens: Iterable[str]) -> set[str]:
        """Those that were committed; said once of each."""
        found = self._settled.intersection(tokens)
        self._settled -= found
        return found

    def adopt(self, there: Collection[str], *, was_alive: bool) -> list[str]:
        """After a reconnect the server says what is in flight: the tokens of it that we know nothing of.

        What was in doubt and is gone was committed, where our lease was alive all the time; otherwise it was
        reaped, and is somebody else's. A claim whose answer was lost shows as a token that nobody knows.
        """
        if was_alive:
            self._settled |= self._in_doubt.difference(there)
        self._in_doubt.clear()
        self._let_go([token for token in self._held if token not in there])
        return [token for token in there if token not in self._held]

    def clear(self) -> None:
        """Nothing is held any more."""
        self._held.clear()
        self._in_doubt.clear()
        self._settled.clear()
        self._digests.clear()

    def _let_go(self, tokens: Collection[str]) -> None:
        for token in tokens:
            self._held.pop(token, None)
        self._in_doubt.difference_update(tokens)
        for token in tokens if self._digests else ():
            self._digests.pop(token, None)
