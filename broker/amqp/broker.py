"""RabbitMQ as broker.base describes a broker."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from broker.amqp import queues
from broker.amqp.blame import Blames
from broker.amqp.connection import Channel
from broker.amqp.dial import Dialler
from broker.amqp.outbox import Outbox
from broker.amqp.session import Session
from broker.amqp.wake import Waker
from broker.base import (
    BrokerLost,
    BrokerOptions,
    BrokerUnreachable,
    Committed,
    Message,
    Outgoing,
    Settlement,
    Undeliverable,
)
from wire.names import Names

_CONNECT_SECONDS = 5.0
# The first messages of a new consumer come in a burst, several queues' side by side: without a moment for it
# the first receive would take one message of many, and from whichever queue was quicker.
_BURST_SECONDS = 0.02
_LINGER_SECONDS = 2.0


class AmqpBroker:
    """A broker.base.Broker on RabbitMQ: quorum queues, confirms, acknowledgements only for what is confirmed.

    Everything that was received before a connection was lost belongs to the queue again: it comes once more,
    and a late commit of it sends nothing. `url` may name several nodes, joined by `;`; `shown` stands for it
    in messages.

    Of BrokerOptions only `on_wait` applies: silence is noticed by heartbeats (`heartbeat_seconds`), nobody
    has to reap, and a quorum queue confirms what a majority has on disk, which is `strict` and all there is.

    `confirm_seconds`: how long confirms may stand still before the connection counts as lost; over 10, since
    a frozen leader takes 7 to be replaced. `blocked_seconds`: the same while the broker says that it takes
    nothing for now. `refused_seconds`: how long a queue that refuses is tried.
    """

    def __init__(
        self,
        url: str,
        names: Names,
        options: BrokerOptions | None = None,
        *,
        shown: str,
        heartbeat_seconds: float = 30.0,
        confirm_seconds: float = 20.0,
        blocked_seconds: float = 300.0,
        refused_seconds: float = 15.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._names, self._shown = names, shown
        self._dialler = Dialler(url, heartbeat_seconds=heartbeat_seconds, connect_seconds=_CONNECT_SECONDS)
        self._patience = {
            "confirm_seconds": confirm_seconds,
            "blocked_seconds": blocked_seconds,
            "refused_seconds": refused_seconds,
        }
        self._on_beat = (options or BrokerOptions()).on_wait
        self._session: Session | None = None
        self._epoch = 0
        self._owned: set[str] = set()
        self._blames = Blames(names)
        self._outbox = Outbox(names, self._blames, clock)
        self._waker = Waker()

    def connect(self) -> None:
        """See Broker. What an earlier connection held goes back to its queue."""
        self._leave()
        self._waker.open()
        try:
            self._session = Session(self._dialler, self._names, on_beat=self._on_beat, **self._patience)
        except Exception as error:
            said = self._dialler.explained(error)
            raise BrokerUnreachable(f"no broker at {self._shown}: {said}") from error
        self._epoch += 1

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        """See Broker. A queue that refuses (full, without a leader) is tried for a while, then it is lost."""
        with self._using() as session:
            fates = session.publish([Outgoing(queue, message) for message in messages])
            reasons = [fate for fate in fates if fate is not None]
            if any(not fate.returned for fate in reasons):
                raise RuntimeError(f"{queue}: {reasons[0].reason}")
            if reasons:
                raise Undeliverable(f"{queue}: {reasons[0].reason}")

    def receive(self, credit: Mapping[str, int], timeout: float) -> list[Message]:
        """See Broker. What comes for the third time or later has its notes read."""
        with self._using() as session:
            is_new = session.intake.want(credit)
            self._wait(session, credit, timeout, _BURST_SECONDS if is_new else 0.0)
            messages = [self._marked(*taken) for taken in session.intake.take(credit)]
            self._blames.read(session, messages)
            return messages

    def commit(self, settlements: Sequence[Settlement], *, wait: bool = True) -> Committed:
        """See Broker. A reply that its queue refuses time and again becomes a dead letter, like one without a
        queue: one full reply queue must not stop the worker."""
        with self._using() as session:
            ours = [settlement for settlement in settlements if self._holds(session, settlement.message)]
            if len(ours) < len(settlements):
                self._outbox.gone([s for s in settlements if not self._knows(session, s.message)])
            if ours:
                self._outbox.finish(session)
                self._outbox.begin(session, ours)
                session.pump.turn(0.0)
            (self._outbox.finish if wait else self._outbox.advance)(session)
            return self._outbox.report()

    def release(self, messages: Sequence[Message]) -> None:
        """See Broker."""
        with self._using() as session:
            ours = [message for message in messages if self._holds(session, message)]
            self._blames.take_back(session, ours)
            session.intake.give_back([_tag(message) for message in ours])
            session.pump.turn(0.0)

    def blame(self, message: Message, position: int | None) -> None:
        """See Broker. One such death is no verdict yet, but the second is: what a living worker lost with its
        connection comes again just like what a dead one held."""
        with self._using() as session:
            if self._holds(session, message):
                self._blames.note(session, message, position)

    def keep_alive(self) -> None:
        """See Broker."""
        with self._using() as session:
            session.pump.beat()

    def own(self, queue: str) -> None:
        """See Broker."""
        with self._using() as session, session.channel() as channel:
            queues.declare_private(channel, queue)
        self._owned.add(queue)

    def declare(self, queue: str) -> None:
        """See Broker. One that is there is taken as it is: its consumer may have made it."""
        with self._using() as session:
            with session.channel() as channel:
                if queues.size(channel, queue) is not None:
                    return
            with session.channel() as channel:
                queues.declare(channel, queue)

    def depth(self, replies: Sequence[str] = ()) -> dict[str, int]:
        """See Broker."""
        with self._using() as session:
            with session.channel() as channel:
                found = {queue: self._size(channel, queue) for queue in self._names.queues}
            for queue in replies:
                with session.channel() as channel:  # its own: to ask for a queue that is not there ends it
                    found[queue] = queues.size(channel, queue) or 0
            return found

    def oldest(self) -> dict[str, float]:
        """See Broker. A look would be a delivery."""
        return {}

    def purge(self, queue: str) -> int:
        """See Broker. What this broker itself has fetched ahead is dropped, too."""
        with self._using() as session:
            session.intake.drop(queue)
            with session.channel() as channel:
                return int(channel.queue_purge(queue) or 0)

    def wake(self) -> None:
        """See Broker."""
        self._waker.wake()

    def close(self) -> None:
        """See Broker. Takes seconds at most, even where the server hangs."""
        with contextlib.suppress(BrokerLost), self._using() as session:
            self._outbox.linger(session, _LINGER_SECONDS)
        self._leave(self._owned)
        self._owned.clear()
        self._waker.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[Session]:
        """The session; whatever goes wrong with it ends it."""
        session = self._session
        if session is None:
            raise BrokerLost(f"not connected to {self._shown}")
        try:
            yield session
        except Undeliverable:
            raise
        except Exception as error:
            self._session = None
            session.drop()
            raise BrokerLost(f"lost {self._shown}: {_said(error)}") from error

    def _leave(self, private: Iterable[str] = ()) -> None:
        session, self._session = self._session, None
        self._outbox.forget()
        if session is not None:
            session.close(private)

    def _wait(self, session: Session, credit: Mapping[str, int], timeout: float, burst: float) -> None:
        """Until something has come that there is credit for, or of a commit, or `timeout` is over or somebody
        wakes us."""
        begun = time.monotonic()
        woken = session.pump.turn(0.0, self._waker)
        while not woken:
            self._outbox.advance(session)
            passed = time.monotonic() - begun
            left = timeout - passed
            if session.intake.has(credit) or self._outbox.has_news:
                left = 0.0 if session.intake.is_full(credit) else min(left, burst - passed)
            if left <= 0:
                return
            woken = session.pump.turn(left, self._waker)

    def _marked(self, tag: int, message: Message) -> Message:
        message.token = (self._epoch, tag)
        return message

    def _holds(self, session: Session, message: Message) -> bool:
        epoch, tag = message.token
        return bool(epoch == self._epoch and session.intake.holds(tag))

    def _knows(self, session: Session, message: Message) -> bool:
        """Whether it is held, or under commit."""
        epoch, tag = message.token
        return self._holds(session, message) or bool(epoch == self._epoch and session.intake.parts_with(tag))

    @staticmethod
    def _size(channel: Channel, queue: str) -> int:
        found = queues.size(channel, queue)
        if found is None:
            raise RuntimeError(f"queue {queue} is gone")
        return found


def _tag(message: Message) -> int:
    return int(message.token[1])


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
