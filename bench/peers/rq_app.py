"""RQ's SimpleWorker: no fork, results kept for a minute (to delete each costs more), enqueued by pipeline."""

import redis
from rq import Queue

from bench.peers.common import QUEUE, QUEUE_URL, Requests, Work

_AT_ONCE = 256
_works: list[Work] = []


def analyse(request: dict) -> None:
    """One request."""
    if not _works:
        _works.append(Work())
    _works[0](request)


def send(requests: Requests) -> None:
    """One job each, 256 in a pipeline."""
    queue = Queue(QUEUE, connection=redis.Redis.from_url(QUEUE_URL))
    for begin in range(0, len(requests), _AT_ONCE):
        queue.enqueue_many(
            [
                Queue.prepare_data(analyse, (request,), result_ttl=60)
                for request in requests[begin : begin + _AT_ONCE]
            ]
        )
