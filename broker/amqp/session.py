"""One epoch of the AMQP broker: two connections, and what lives and dies with them."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from broker.amqp.connection import Channel, Connection
from broker.amqp.dial import Dialler
from broker.amqp.intake import Intake
from broker.amqp.publisher import Publisher, Refusal
from broker.amqp.pump import Pump
from broker.amqp.queues import declare_all
from broker.base import Outgoing
from wire.names import Names

_CLOSE_SECONDS = 2.0


class Session:
    """Connects at once, and has the prefix's queues made.

    Two connections, because a broker that is short of memory stops reading from a connection that publishes,
    with all acknowledgements on it. What is asked for besides (declare, count, purge) goes over the consuming
    one for the same reason. Raises whatever went wrong.
    """

    def __init__(
        self,
        dialler: Dialler,
        names: Names,
        *,
        confirm_seconds: float,
        blocked_seconds: float,
        refused_seconds: float,
        on_beat: Callable[[], None],
    ) -> None:
        self.pump = Pump(on_beat)
        self._connections: list[Connection] = []
        try:
            self._consuming = self._dial(dialler)
            publishing = self._dial(dialler)
            with self.channel() as channel:
                declare_all(channel, names)
            self.intake = Intake(Channel(self._consuming))
            self.publisher = Publisher(
                publishing,
                confirm_seconds=confirm_seconds,
                blocked_seconds=blocked_seconds,
                refused_seconds=refused_seconds,
            )
        except BaseException:
            self.drop()
            raise

    @contextlib.contextmanager
    def channel(self) -> Iterator[Channel]:
        """A channel for a moment: an error there ends nothing else."""
        channel = Channel(self._consuming)
        yield channel
        channel.close()

    def publish(self, outgoing: Sequence[Outgoing]) -> list[Refusal | None]:
        """See Publisher."""
        return self.publisher.publish(outgoing)

    def close(self, private: Iterable[str] = ()) -> None:
        """Leave politely, in bounded time: `private` queues go, what is held goes back. Never raises."""
        for connection in self._connections:
            connection.answer_seconds = _CLOSE_SECONDS
        with contextlib.suppress(Exception), self.channel() as channel:
            for queue in private:
                channel.queue_delete(queue)
        for connection in self._connections.copy():
            connection.shut(_CLOSE_SECONDS)
            self._forget(connection)

    def drop(self) -> None:
        """Leave at once. Never raises."""
        for connection in self._connections.copy():
            connection.drop()
            self._forget(connection)

    def _dial(self, dialler: Dialler) -> Connection:
        connection = dialler.dial()
        self._connections.append(connection)
        self.pump.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._connections.remove(connection)
        self.pump.remove(connection)
