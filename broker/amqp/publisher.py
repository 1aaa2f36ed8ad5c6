"""Publishing with confirms, many at a time.

A channel in confirm mode numbers what is published on it, from 1; the broker answers with those numbers,
several at once if it likes (`multiple`), in any order. A return (no such queue) comes before the confirm of
the same message, and is told apart by its message id.
"""

import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from broker.amqp.connection import Channel, Connection
from broker.amqp.frames import publication
from broker.amqp.message import properties_of
from broker.base import Outgoing

_WINDOW = 1000
_FRAME_BYTES = 8  # of each frame, besides what it carries
_OUTBOX_BYTES = 4 * 1024 * 1024
_TURN_SECONDS = 1.0
# A queue without a leader refuses, too, until it has one (7 s where the old one stands still): only who goes
# on refusing for longer is full. Then it is known for a while, so that one full queue does not make every
# commit wait.
_AGAIN_SECONDS = (0.1, 3.0)
_FULL_SECONDS = 300.0


class Refusal(NamedTuple):
    """Why a message was not taken. `returned`: there is no such queue; else it refused each time."""

    returned: bool
    reason: str


class Batch:
    """Messages that are being published. `fates`: None for each that is confirmed, or not answered yet; else
    why it was not taken. `refused`: the positions of those that a queue refused."""

    def __init__(self, outgoing: Sequence[Outgoing]) -> None:
        self.outgoing = outgoing
        self.fates: list[Refusal | None] = [None] * len(outgoing)
        self.refused: list[int] = []
        self.todo = deque(range(len(outgoing)))
        self.open = 0  # published, not answered

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer to everything, be it a refusal."""
        return not self.open and not self.todo


class Publisher:
    """Publishes on a channel of its own, confirmed; `begin` and `finish` have it done meanwhile.

    Gives up with TimeoutError when nothing has moved for `confirm_seconds`, or for `blocked_seconds` where
    the broker has said that it takes nothing for now (memory or disk alarm): then it is not lost, only full.
    What a queue refuses is tried again for `refused_seconds`.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        confirm_seconds: float,
        blocked_seconds: float,
        refused_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._clock = connection, clock
        self._confirm_seconds, self._blocked_seconds = confirm_seconds, blocked_seconds
        self._refused_seconds = refused_seconds
        self._open_channel()
        self._open: dict[int, tuple[Batch, int]] = {}  # number to batch and position; ascending
        self._batches: deque[Batch] = deque()  # with something left to publish
        self._returned: dict[bytes, str] = {}
        self._full_until: dict[str, float] = {}
        self._moved: tuple[Any, ...] = ()
        self._moved_at = 0.0

    def publish(self, outgoing: Sequence[Outgoing]) -> list[Refusal | None]:
        """For each, None once it is confirmed, or why it was not taken. What a queue refuses is tried again.

        Raises whatever ends the channel or the connection, and TimeoutError; the publisher is then useless.
        """
        return self.finish(self.begin(outgoing))

    def begin(self, outgoing: Sequence[Outgoing]) -> Batch:
        """Publish as much as there is room for; the rest goes with `advance`."""
        batch = Batch(outgoing)
        self._add(batch)
        return batch

    def advance(self) -> None:
        """After a turn of the pump: go on where there is room again. Raises as `publish` does."""
        self._put()
        self._watch()

    def finish(self, batch: Batch) -> list[Refusal | None]:
        """Await all answers. Raises as `publish` does."""
        pause, longest = _AGAIN_SECONDS
        end = self._clock() + self._refused_seconds
        self._wait(batch)
        while again := [at for at in batch.refused if not self._is_full(batch.outgoing[at].queue)]:
            if self._clock() >= end:
                break
            self._pause(pause)
            pause = min(2 * pause, longest)
            self._change_channel()
            batch.refused = []
            batch.todo.extend(again)
            self._add(batch)
            self._wait(batch)
        self._note_full({batch.outgoing[at].queue for at in batch.refused})
        return batch.fates

    def _open_channel(self) -> None:
        # A new one for every new try: a channel that first met a queue while its leader was down goes on
        # asking the dead node, and refuses for ever (RabbitMQ 3.10, rabbit_fifo_client).
        self._channel = Channel(self._connection)
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        self._stem = uuid.uuid4().hex.encode()
        self._published = 0

    def _change_channel(self) -> None:
        while self._open:  # other batches': their answers would never come
            self._turn(_TURN_SECONDS)
        self._channel.close()
        self._open_channel()

    def _add(self, batch: Batch) -> None:
        if batch.todo:
            self._batches.append(batch)
            self._put()

    def _wait(self, batch: Batch) -> None:
        while not batch.is_answered:
            self._turn(_TURN_SECONDS)

    def _turn(self, seconds: float) -> None:
        self._connection.turn(seconds)
        self.advance()

    def _put(self) -> None:
        """As much as there is room for, in one write."""
        # Not basic_publish: it reads the socket first, and would hand out deliveries in the middle of this.
        if not self._batches:
            return
        pieces: list[bytes] = []
        channel, most = self._channel.channel_id, self._connection.frame_max - _FRAME_BYTES
        room = _OUTBOX_BYTES - self._connection.unsent_bytes
        while self._batches and len(self._open) < _WINDOW and room > 0:
            batch = self._batches[0]
            position = batch.todo.popleft()
            queue, message = batch.outgoing[position]
            self._published += 1
            properties = properties_of(message, self._id(self._published))
            pieces += publication(channel, queue, properties, message.body, most)
            self._open[self._published] = (batch, position)
            batch.fates[position] = None
            batch.open += 1
            room -= len(message.body) + len(properties)
            if not batch.todo:
                self._batches.popleft()
        self._channel.put(b"".join(pieces))

    def _watch(self) -> None:
        """Raises where nothing has moved for too long."""
        blocked, now = self._connection.blocked, self._clock()
        # In steps of 4 KiB: a large message that is under way is progress, a heartbeat is not.
        moved = (blocked, self._published, len(self._open), self._connection.flushed_bytes >> 12)
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        patience = self._blocked_seconds if blocked else self._confirm_seconds
        if self._open and now - self._moved_at > patience:
            state = "blocked by an alarm" if blocked else "silent"
            raise TimeoutError(
                f"{len(self._open)} messages unconfirmed, the broker {state} for {patience:g} s"
            )

    def _pause(self, seconds: float) -> None:
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0:
            self._connection.turn(left)

    def _is_full(self, queue: str) -> bool:
        return self._full_until.get(queue, 0.0) > self._clock()

    def _note_full(self, queues: set[str]) -> None:
        now = self._clock()
        self._full_until = {queue: end for queue, end in self._full_until.items() if end > now}
        self._full_until |= {queue: now + _FULL_SECONDS for queue in queues if not self._is_full(queue)}

    def _id(self, number: int) -> bytes:
        return b"%b-%d" % (self._stem, number)

    def _on_ack(self, number: int, multiple: bool) -> None:
        for each in self._answered(number, multiple):
            batch, position = self._open.pop(each)
            batch.open -= 1
            reason = self._returned.pop(self._id(each), None) if self._returned else None
            if reason is not None:
                batch.fates[position] = Refusal(returned=True, reason=reason)

    def _on_nack(self, number: int, multiple: bool) -> None:
        for each in self._answered(number, multiple):
            batch, position = self._open.pop(each)
            batch.open -= 1
            self._returned.pop(self._id(each), None)
            batch.fates[position] = Refusal(returned=False, reason="the queue refuses it: full, or no leader")
            batch.refused.append(position)

    def _answered(self, number: int, multiple: bool) -> list[int]:
        if not multiple:
            return [number] if number in self._open else []
        found = []
        for each in self._open:
            if each > number:
                break
            found.append(each)
        return found

    def _on_return(self, error: Any, _exchange: str, _queue: str, content: Any) -> None:
        self._returned[str(content.properties.get("message_id")).encode()] = str(error.reply_text or error)
