"""streaq: concurrency and prefetch high, results off, jobs enqueued by pipeline; uvloop."""

import asyncio
from typing import Any

import uvloop
from streaq import Worker

from bench.peers.common import QUEUE, QUEUE_URL, AsyncWork, Requests

_AT_ONCE = 256
worker = Worker(
    redis_url=QUEUE_URL,
    queue_name=QUEUE,
    concurrency=64,
    prefetch=256,
    anyio_kwargs={"use_uvloop": True},
)
_works: list[AsyncWork] = []


@worker.task(ttl=0, silent=True)
async def analyse(request: dict) -> None:
    """One request."""
    if not _works:
        _works.append(AsyncWork())
    await _works[0](request)


class Sender:
    """Keeps the worker object's connection open on a loop of its own."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._runner.run(self._open())

    def __call__(self, requests: Requests) -> None:
        """One job each, 256 in a pipeline."""
        self._runner.run(self._all(requests))

    async def _open(self) -> None:
        await worker.__aenter__()

    async def _all(self, requests: Requests) -> None:
        for begin in range(0, len(requests), _AT_ONCE):
            jobs: list[Any] = [analyse.enqueue(request) for request in requests[begin : begin + _AT_ONCE]]
            await worker.enqueue_many(jobs)


def sender() -> Sender:
    """One job each."""
    return Sender()
