"""What differs between kombu's transports: AMQP, and the virtual ones (Redis, memory, …)."""

import contextlib
from queue import Empty
from typing import Any, Protocol

import amqp

from broker.base import Message, Undeliverable
from broker.envelope import RawMessage, read_envelope, to_message

_PRIVATE_EXPIRES_MS = 30 * 60 * 1000
_CONFIRM_SECONDS = 30


class Flavour(Protocol):
    """How one kind of transport opens channels, declares, gets, publishes and counts."""

    heartbeats: bool

    def options(self) -> dict[str, Any]:
        """kombu's transport_options."""

    def open(self, connection: Any) -> Any:
        """A new channel."""

    def declare(self, channel: Any, queue: str, *, private: bool = False) -> None:
        """Make sure that `queue` exists."""

    def get(self, channel: Any, queue: str) -> tuple[Message, Any] | None:
        """The next message and its delivery tag, or None."""

    def publish(self, channel: Any, queue: str, message: Message) -> None:
        """Send, confirmed as far as the transport confirms. Raises Undeliverable."""

    def size(self, channel: Any, queue: str) -> int:
        """How many messages wait."""

    def restore(self, channel: Any, tag: Any) -> None:
        """Give back what an earlier connection held."""

    def close(self, connection: Any) -> None:
        """Leave."""


def flavour_of(url: str) -> Flavour:
    """The flavour of a kombu URL."""
    scheme = url.partition(":")[0].removesuffix("+ssl")
    if scheme == "pyamqp":
        return AmqpFlavour()
    return RedisFlavour() if scheme.startswith("redis") else VirtualFlavour()


class AmqpFlavour:
    """RabbitMQ: durable quorum queues, publisher confirms, mandatory."""

    heartbeats = True

    def options(self) -> dict[str, Any]:
        return {"confirm_publish": True, "confirm_timeout": _CONFIRM_SECONDS}

    def open(self, connection: Any) -> Any:
        channel = connection.channel()
        channel.events["basic_return"].add(_Returned())
        return channel

    def declare(self, channel: Any, queue: str, *, private: bool = False) -> None:
        arguments: dict[str, Any] = {"x-queue-type": "quorum"}
        if private:
            arguments["x-expires"] = _PRIVATE_EXPIRES_MS
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)

    def get(self, channel: Any, queue: str) -> tuple[Message, Any] | None:
        raw = channel.basic_get(queue)
        if raw is None:
            return None
        # AMQP says only whether it has been delivered before, quorum queues how often.
        message = to_message(raw.body, raw.properties, raw.headers, raw.properties.get("content_type"), queue)
        count = message.headers.pop("x-delivery-count", 0)
        message.deliveries = 1 + (count if isinstance(count, int) else 0)
        return message, raw.delivery_tag

    def publish(self, channel: Any, queue: str, message: Message) -> None:
        properties = {"correlation_id": message.correlation_id, "reply_to": message.reply_to}
        raw = amqp.Message(
            message.body,
            content_type=message.content_type,
            content_encoding="utf-8",
            delivery_mode=2,
            application_headers=message.headers,
            **{name: value for name, value in properties.items() if value is not None},
        )
        returned = next(iter(channel.events["basic_return"]))
        returned.reason = None
        channel.basic_publish(
            raw, exchange="", routing_key=queue, mandatory=True, confirm_timeout=_CONFIRM_SECONDS
        )
        # The broker sends the return before the confirm, so it has been read by now.
        if returned.reason is not None:
            raise Undeliverable(f"{queue}: {returned.reason}")

    def size(self, channel: Any, queue: str) -> int:
        return int(channel.queue_declare(queue, passive=True).message_count)

    def restore(self, channel: Any, tag: Any) -> None:
        """Nothing to do: the broker requeued it when its channel closed."""

    def close(self, connection: Any) -> None:
        # A channel that still waits for a confirm would wait for ever on a broken link.
        with contextlib.suppress(Exception):
            connection.connection.transport.sock.settimeout(2)
        connection.close()


class _Returned:
    """Remembers the reason of the last return on a channel."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __call__(self, error: Any, *_: Any) -> None:
        self.reason = str(error)


class VirtualFlavour:
    """memory:// and every other transport that kombu emulates queues on."""

    heartbeats = False

    def options(self) -> dict[str, Any]:
        return {}

    def open(self, connection: Any) -> Any:
        channel = connection.channel()
        channel.Message = RawMessage
        return channel

    def declare(self, channel: Any, queue: str, *, private: bool = False) -> None:  # noqa: ARG002
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

    def close(self, connection: Any) -> None:
        connection.close()


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
