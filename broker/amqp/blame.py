"""Notes on messages that run alone: whom to blame for a death.

AMQP cannot mark a message that is in a queue, so what is noted about it lies in a small queue of its own. It
holds one message: for each delivery, the position that was noted last (null once it was taken back).
"""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from broker.amqp.connection import Channel
from broker.amqp.publisher import Refusal
from broker.amqp.queues import declare_notes, size
from broker.base import Message, Outgoing
from wire.names import Names

_SUSPECT_DELIVERIES = 3
_STRIKES = 2
_MOST_DELIVERIES = 32
_MOST_NOTES = 10_000


class Desk(Protocol):
    """Where notes are written and read: a connected session."""

    def channel(self) -> AbstractContextManager[Channel]:
        """A channel for a moment."""

    def publish(self, outgoing: Sequence[Outgoing]) -> list[Refusal | None]:
        """Send, confirmed."""


@dataclass(slots=True)
class _Notes:
    """As of one delivery of a message."""

    delivery: int
    positions: dict[int, int | None] = field(default_factory=dict)
    exists: bool = False


class Blames:
    """Keeps the notes of all messages of a broker.

    A position is blamed when it was the last note of two earlier deliveries. One is not enough: a worker that
    only lost its connection lives, and AMQP redelivers its messages as it does those of a dead one.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._notes: dict[str, _Notes] = {}

    def read(self, desk: Desk, messages: Iterable[Message]) -> None:
        """Set `blamed` of those that have been delivered often enough to be suspects."""
        for message in messages:
            if message.deliveries < _SUSPECT_DELIVERIES:
                continue
            digest = _digest(message)
            notes = self._load(desk, digest, message.deliveries)
            if notes.exists:
                self._notes[digest] = notes
                message.blamed = _verdict(notes)

    def note(self, desk: Desk, message: Message, position: int | None) -> None:
        """Blame `position` for whatever ends this delivery; None blames nobody."""
        digest = _digest(message)
        notes = self._notes.get(digest)
        if notes is None or notes.delivery != message.deliveries:
            notes = self._notes[digest] = self._load(desk, digest, message.deliveries)
        if not notes.exists:
            with desk.channel() as channel:
                declare_notes(channel, self._names.blame(digest))
            notes.exists = True
        notes.positions[message.deliveries] = position
        self._write(desk, digest, notes)
        if (
            len(self._notes) > _MOST_NOTES
        ):  # of messages that others have settled; theirs expire by themselves
            del self._notes[next(iter(self._notes))]

    def take_back(self, desk: Desk, messages: Iterable[Message]) -> None:
        """These go back to their queue: this delivery is nobody's death."""
        for message in messages if self._notes else ():
            notes = self._notes.get(_digest(message))
            if notes is not None and notes.positions.get(message.deliveries) is not None:
                self.note(desk, message, None)

    def forget(self, desk: Desk, messages: Iterable[Message]) -> None:
        """These are settled: remove what was noted."""
        if not self._notes:
            return
        known = [digest for digest in map(_digest, messages) if self._notes.pop(digest, None) is not None]
        if known:
            with desk.channel() as channel:
                for digest in known:
                    channel.queue_delete(self._names.blame(digest))

    def _load(self, desk: Desk, digest: str, delivery: int) -> _Notes:
        queue = self._names.blame(digest)
        with desk.channel() as channel:
            if size(channel, queue) is None:
                return _Notes(delivery)
            # Not acknowledged: closing the channel returns it.
            found = channel.basic_get(queue)
        return _Notes(delivery, {} if found is None else _positions(found.body), exists=True)

    def _write(self, desk: Desk, digest: str, notes: _Notes) -> None:
        latest = sorted(notes.positions.items())[-_MOST_DELIVERIES:]
        body = orjson.dumps({str(delivery): position for delivery, position in latest})
        (refusal,) = desk.publish([Outgoing(self._names.blame(digest), Message(body))])
        if refusal is not None:
            raise RuntimeError(f"a note was not taken: {refusal.reason}")


def _positions(body: bytes) -> dict[int, int | None]:
    """What a note says. Nothing where somebody else has written there."""
    try:
        return {int(delivery): position for delivery, position in orjson.loads(body).items()}
    except (ValueError, AttributeError):
        return {}


def _verdict(notes: _Notes) -> frozenset[int]:
    earlier = [position for delivery, position in notes.positions.items() if delivery < notes.delivery]
    return frozenset(p for p in earlier if isinstance(p, int) and earlier.count(p) >= _STRIKES)


def _digest(message: Message) -> str:
    """What tells a message from others through all its deliveries."""
    identity = [message.correlation_id, message.reply_to, message.headers.get("enqueued_at")]
    hashed = hashlib.blake2b(orjson.dumps(identity, default=str), digest_size=16)
    hashed.update(b"\n")
    hashed.update(message.body)
    return hashed.hexdigest()
