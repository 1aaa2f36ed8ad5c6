"""Dramatiq: of its middleware only retries, prefetch 256 (`dramatiq_queue_prefetch`), confirms."""

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

from bench.peers.common import QUEUE, QUEUE_URL, Requests, Work

_middleware = [Retries(max_retries=3)]
broker = (
    RedisBroker(url=QUEUE_URL, middleware=_middleware)
    if QUEUE_URL.startswith("redis")
    else RabbitmqBroker(url=QUEUE_URL, middleware=_middleware, confirm_delivery=True)
)
dramatiq.set_broker(broker)
_work = Work()


@dramatiq.actor(queue_name=QUEUE)
def analyse(request: dict) -> None:
    """One request."""
    _work(request)


def send(requests: Requests) -> None:
    """One message each."""
    for request in requests:
        analyse.send(request)
