"""What a user of any task queue would write by hand: look up, call, remember, reply.

Every reply is one RPUSH over the connection that the cache needs anyway; a confirmed publish to a reply queue
would cost a peer more.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Any

import orjson
import redis
import redis.asyncio
import uvloop

from bench.payloads import analyse

Requests = Sequence[dict[str, Any]]
QUEUE_URL = os.environ["BENCH_QUEUE_URL"]
CACHE_URL = os.environ["BENCH_CACHE_URL"]
QUEUE = os.environ["BENCH_QUEUE"]
REPLIES = f"{QUEUE}.replies"
TTL_SECONDS = 86_400
_AT_ONCE = 64


def cache_key(payload: Any) -> bytes:
    """The name of a payload's entry."""
    text = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    return b"peers:" + blake2b(text, digest_size=32).hexdigest().encode()


def reply(request: dict[str, Any], result: bytes) -> bytes:
    """The reply, the remembered bytes spliced in."""
    return b'{"id":"%b","status":"ok","result":%b}' % (request["id"].encode(), result)


class Work:
    """The task's body for threads and processes."""

    def __init__(self) -> None:
        self._client = redis.Redis.from_url(CACHE_URL)

    def __call__(self, request: dict[str, Any]) -> None:
        """GET, on a miss call and SETEX, then reply."""
        key = cache_key(request["payload"])
        result = self._client.get(key)
        if result is None:
            result = orjson.dumps(analyse(request["payload"]))
            self._client.setex(key, TTL_SECONDS, result)
        self._client.rpush(REPLIES, reply(request, result))


class AsyncWork:
    """The task's body for an event loop."""

    def __init__(self) -> None:
        self._client = redis.asyncio.Redis.from_url(CACHE_URL)

    async def __call__(self, request: dict[str, Any]) -> None:
        """GET, on a miss call and SETEX, then reply."""
        key = cache_key(request["payload"])
        result = await self._client.get(key)
        if result is None:
            result = orjson.dumps(analyse(request["payload"]))
            await self._client.setex(key, TTL_SECONDS, result)
        await self._client.rpush(REPLIES, reply(request, result))


class AsyncSender:
    """Sends from an event loop of its own, 64 requests at once."""

    def __init__(
        self, opening: Callable[[], Awaitable[Any]], one: Callable[[dict[str, Any]], Awaitable[Any]]
    ) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._one = one
        self._runner.run(_awaited(opening()))

    def __call__(self, requests: Requests) -> None:
        """Returns when all are confirmed."""
        self._runner.run(self._all(requests))

    async def _all(self, requests: Requests) -> None:
        for begin in range(0, len(requests), _AT_ONCE):
            await asyncio.gather(*(self._one(request) for request in requests[begin : begin + _AT_ONCE]))


async def _awaited(awaitable: Awaitable[Any]) -> None:
    await awaitable
