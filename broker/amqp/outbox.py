"""Commits on RabbitMQ: what is sent because of messages, and acknowledged when all of that is confirmed."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from broker.amqp.blame import Blames
from broker.amqp.publisher import Batch, Refusal
from broker.amqp.session import Session
from broker.base import Committed, Outgoing, Settlement
from broker.dead import undeliverable
from wire.names import Names


class _Commit(NamedTuple):
    """Settlements whose messages are sent, and not all confirmed."""

    settlements: Sequence[Settlement]
    batch: Batch


class Outbox:
    """The commit that is under way, and what came of earlier ones, until it is reported.

    Where not everything could be confirmed nothing is acknowledged: all of it comes again, and is counted
    then. `clock` gives Unix seconds, for dead letters.
    """

    def __init__(self, names: Names, blames: Blames, clock: Callable[[], float]) -> None:
        self._names, self._blames, self._clock = names, blames, clock
        self._under_way: _Commit | None = None
        self._ended: dict[Any, tuple[Settlement, bool]] = {}  # by token: whether it was ours to settle
        self._not_taken: list[Outgoing] = []

    @property
    def has_news(self) -> bool:
        """Whether there is something to report."""
        return bool(self._ended)

    def begin(self, session: Session, settlements: Sequence[Settlement]) -> None:
        """Send what is to be sent, as far as there is room for it; no other may be under way."""
        session.intake.part_with([_tag(settlement) for settlement in settlements])
        outgoing = [out for settlement in settlements for out in settlement.outgoing]
        self._under_way = _Commit(settlements, session.publisher.begin(outgoing))

    def advance(self, session: Session) -> None:
        """Go on as far as that needs no waiting: acknowledge what is confirmed."""
        session.publisher.advance()
        if self._under_way is not None and self._under_way.batch.is_answered:
            self.finish(session)

    def finish(self, session: Session) -> None:
        """Await the end of what is under way. What is not taken becomes a dead letter."""
        if self._under_way is None:
            return
        settlements, batch = self._under_way
        fates = session.publisher.finish(batch)
        not_taken = self._set_aside(session, batch.outgoing, fates)
        session.intake.acknowledge([_tag(settlement) for settlement in settlements])
        session.pump.turn(0.0)
        self._under_way = None
        self._not_taken += not_taken
        self._ended |= {settlement.message.token: (settlement, True) for settlement in settlements}
        # Settled all the same if this fails: the notes expire by themselves.
        with contextlib.suppress(Exception):
            self._blames.forget(session, [settlement.message for settlement in settlements])

    def linger(self, session: Session, seconds: float) -> None:
        """Before a goodbye: a moment for what is under way, and its acknowledgement if all goes well."""
        end = time.monotonic() + seconds
        while self._under_way is not None and (left := end - time.monotonic()) > 0:
            if self._under_way.batch.is_answered:
                if not any(self._under_way.batch.fates):
                    self.finish(session)
                return
            session.pump.turn(left)
            session.publisher.advance()

    def gone(self, settlements: Sequence[Settlement]) -> None:
        """These are not ours to settle; unless they were, and that was not reported."""
        for settlement in settlements:
            self._ended.setdefault(settlement.message.token, (settlement, False))

    def report(self) -> Committed:
        """What has become known, each once."""
        ended, self._ended = self._ended.values(), {}
        not_taken, self._not_taken = self._not_taken, []
        gone = [settlement for settlement, is_ours in ended if not is_ours]
        return Committed([settlement for settlement, is_ours in ended if is_ours], not_taken, gone)

    def forget(self) -> None:
        """The session is over: what was under way comes again."""
        self._under_way = None

    def _set_aside(
        self, session: Session, outgoing: Sequence[Outgoing], fates: Sequence[Refusal | None]
    ) -> list[Outgoing]:
        """Make dead letters of the replies that were not taken; returns them.

        Of anything else that is not: a request that could not be sent on must come again.
        """
        refused = [(out, fate) for out, fate in zip(outgoing, fates, strict=True) if fate is not None]
        if not refused:
            return []
        for out, fate in refused:
            if not self._names.is_reply_queue(out.queue):
                raise RuntimeError(f"{out.queue} takes nothing: {fate.reason}")
        letters = [
            Outgoing(self._names.dead, undeliverable(out, self._clock(), fate.reason))
            for out, fate in refused
        ]
        if any(session.publish(letters)):
            raise RuntimeError(f"{self._names.dead} takes no dead letters")
        return [out for out, _ in refused]


def _tag(settlement: Settlement) -> int:
    _, tag = settlement.message.token
    return int(tag)
