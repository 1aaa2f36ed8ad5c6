"""Taskiq: Redis stream or quorum queue, acknowledged after the task, no results; uvloop."""

from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.exchange import Exchange
from taskiq_aio_pika.queue import Queue
from taskiq_redis import RedisStreamBroker

from bench.peers.common import QUEUE, QUEUE_URL, AsyncSender, AsyncWork

broker = (
    RedisStreamBroker(QUEUE_URL, queue_name=QUEUE, consumer_id="0", xread_count=256)
    if QUEUE_URL.startswith("redis")
    else AioPikaBroker(
        QUEUE_URL,
        qos=256,
        exchange=Exchange(name=QUEUE),
        task_queues=[Queue(name=QUEUE)],
        dead_letter_queue=Queue(name=f"{QUEUE}.dead"),
    )
)
_works: list[AsyncWork] = []


@broker.task
async def analyse(request: dict) -> None:
    """One request."""
    if not _works:
        _works.append(AsyncWork())
    await _works[0](request)


def sender() -> AsyncSender:
    """One message each."""
    return AsyncSender(broker.startup, lambda request: analyse.kiq(request))
