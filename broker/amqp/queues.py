"""The queues of an installation on RabbitMQ: all durable quorum queues."""

from typing import Any

from amqp.exceptions import NotFound, PreconditionFailed

from broker.amqp.connection import Channel
from broker.base import BrokerError
from wire.names import Names

_PRIVATE_EXPIRES_MS = 30 * 60 * 1000
_NOTES_EXPIRE_MS = 24 * 60 * 60 * 1000
# Backstops only. RabbitMQ counts every polite return like a crash, RabbitMQ 4 drops after 20 where nothing is
# said, and whoever lists dead letters returns all of them each time.
_DELIVERIES, _LISTINGS = 1_000, 1_000_000


class OtherArguments(BrokerError):
    """A queue of this name exists, made otherwise."""


def declare_all(channel: Channel, names: Names) -> None:
    """The prefix's own queues. Raises OtherArguments."""
    for queue in (names.dead, names.replies, names.paused):
        declare(channel, queue)
    for queue in names.worked:
        _declare(channel, queue, _work_arguments(names))


def declare(channel: Channel, queue: str) -> None:
    """A queue that stays. Raises OtherArguments."""
    _declare(channel, queue, _arguments(_LISTINGS))


def declare_private(channel: Channel, queue: str) -> None:
    """A reply queue that goes when nobody has used it for half an hour. Raises OtherArguments."""
    _declare(channel, queue, {**_arguments(_LISTINGS), "x-expires": _PRIVATE_EXPIRES_MS})


def declare_notes(channel: Channel, queue: str) -> None:
    """A queue for the note on a message that runs alone: a new one replaces it. Raises OtherArguments."""
    _declare(channel, queue, {**_arguments(_LISTINGS), "x-expires": _NOTES_EXPIRE_MS, "x-max-length": 1})


def size(channel: Channel, queue: str) -> int | None:
    """How many messages wait; None where there is no such queue: the channel is then closed."""
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except NotFound:
        return None


def _arguments(deliveries: int) -> dict[str, Any]:
    return {"x-queue-type": "quorum", "x-delivery-limit": deliveries}


def _work_arguments(names: Names) -> dict[str, Any]:
    # At-least-once dead-lettering needs reject-publish: a queue that drops its head could not promise it.
    return {
        **_arguments(_DELIVERIES),
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": names.dead,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _declare(channel: Channel, queue: str, arguments: dict[str, Any]) -> None:
    try:
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
    except PreconditionFailed as error:
        raise OtherArguments(
            f"queue {queue} exists with other arguments: delete it once it is empty, or use another prefix "
            f"({error.reply_text})"
        ) from error
