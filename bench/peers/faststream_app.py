"""FastStream: a quorum queue, prefetch 256, acknowledged after the handler, confirmed publishes; uvloop."""

import logging

from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from bench.peers.common import QUEUE, QUEUE_URL, AsyncSender, AsyncWork

broker = RabbitBroker(QUEUE_URL, log_level=logging.DEBUG, apply_types=False)
app = FastStream(broker)
_queue = RabbitQueue(QUEUE, queue_type=QueueType.QUORUM, durable=True)
_works: list[AsyncWork] = []


@broker.subscriber(_queue, channel=Channel(prefetch_count=256), ack_policy=AckPolicy.NACK_ON_ERROR)
async def analyse(request: dict) -> None:
    """One request."""
    if not _works:
        _works.append(AsyncWork())
    await _works[0](request)


async def _open() -> None:
    await broker.connect()
    await broker.declare_queue(_queue)


def sender() -> AsyncSender:
    """One message each."""
    return AsyncSender(_open, lambda request: broker.publish(request, QUEUE, persist=True))
