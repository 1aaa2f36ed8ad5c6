"""What differs between the transports that kombu emulates queues on: Redis, memory, and all others."""

from queue import Empty
from typing import Any, Protocol

from broker.base import Message
from broker.envelope import RawMessage, read_envelope, to_message


class Flavour(Protocol):
    """How one kind of transport opens channels, declares, gets, publishes and counts."""

    def options(self) -> dict[str, Any]:
        """kombu's transport_options."""

    def open(self, connection: Any) -> Any:
        """A new channel."""

    def declare(self, channel: Any, queue: str) -> None:
        """Make sure that `queue` exists."""

    def get(self, channel: Any, queue: str) -> tuple[Message, Any] | None:
        """The next message and its delivery tag, or None."""

    def publish(self, channel: Any, queue: str, message: Message) -> None:
        """Send, confirmed as far as the transport confirms."""

    def size(self, channel: Any, queue: str) -> int:
        """How many messages wait."""

    def restore(self, channel: Any, tag: Any) -> None:
        """Give back what an earlier connection held."""


def flavour_of(url: str) -> Flavour:
    """The flavour of a kombu URL."""
    return RedisFlavour() if url.startswith("redis") else VirtualFlavour()


class VirtualFlavour:
    """memory:// and every other."""

    def options(self) -> dict[str, Any]:
        return {}

    def open(self, connection: Any) -> Any:
        channel = connection.channel()
        channel.Message = RawMessage
        return channel

    def declare(self, channel: Any, queue: str) -> None:
        channel.queue_declare(queue)

    def get(self, channel: Any, queue: str) -> tuple[Message, Any] | None:
        try:
            raw = channel.basic_get(queue)
        except Empty:
            return None
        if raw is None:
            return None
        message = to_message(raw.body, raw.properties, raw.headers, raw.content_type, queue)
        message.deliveries = 2 if raw.delivery_info.get("redelivered") else 1
        return message, raw.delivery_tag

    def publish(self, channel: Any, queue: str, message: Message) -> None:
        properties = {"correlation_id": message.correlation_id, "reply_to": message.reply_to}
        raw = channel.prepare_message(
            message.body,
            content_type=message.content_type,
            content_encoding="utf-8",
            headers=message.headers,
            properties={**properties, "delivery_mode": 2},
        )
        channel.basic_publish(raw, exchange="", routing_key=queue)

    def size(self, channel: Any, queue: str) -> int:
        return int(channel._size(queue))

    def restore(self, channel: Any, tag: Any) -> None:
        """Nothing to do: closing the channel put it back."""


class RedisFlavour(VirtualFlavour):
    """Redis: what a broken connection held is given back by its tag, for its key outlives the connection."""

    def options(self) -> dict[str, Any]:
        return {
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
        }

    def open(self, connection: Any) -> Any:
        channel = super().open(connection)
        channel._get = lambda queue: _redis_get(channel, queue)
        return channel

    def restore(self, channel: Any, tag: Any) -> None:
        channel.qos.restore_by_tag(tag)


def _redis_get(channel: Any, queue: str) -> dict[str, Any]:
    """kombu's own `_get`, but an item that is no envelope becomes a message instead of an exception."""
    with channel.conn_or_acquire() as client:
        for priority in channel.priority_steps:
            item = client.rpop(channel._q_for_pri(queue, priority))
            if item:
                return read_envelope(item, queue)
    raise Empty
