"""`AsyncProducer` with real workers on real brokers."""

import asyncio
from typing import Any

from recollect import AsyncProducer
from tests.support.rig import Rig


def test_the_verbs_of_a_producer(rig: Rig) -> None:
    """Hundreds of calls beside a map, and replies that somebody else enqueued for; nobody gets another's."""
    rig.work()

    async def main() -> Any:
        async with AsyncProducer(rig._broker_url, prefix=rig.names.prefix) as producer:
            calls = asyncio.gather(*(producer.call({"n": n}) for n in range(300)))
            mapped = [reply.result["echo"] async for reply in producer.map(range(500), ordered=True)]
            assert await producer.enqueue(range(50), run="r") == 50
            collected = [r.result["echo"] async for r in producer.collect(run="r", timeout=3)]
            return [reply.result["echo"]["n"] for reply in await calls], mapped, sorted(collected)

    assert asyncio.run(main()) == (list(range(300)), list(range(500)), list(range(50)))
    assert rig.model.calls == 800


def test_a_lost_connection_loses_no_call(redis_rig: Rig) -> None:
    """The server hangs up on everybody in the middle; what is unanswered is sent again."""
    redis_rig.work()

    async def main() -> list[Any]:
        async with AsyncProducer(redis_rig._broker_url, prefix=redis_rig.names.prefix) as producer:
            await producer.call("first")
            calls = asyncio.gather(*(producer.call(n, timeout=30) for n in range(200)))
            await asyncio.sleep(0)
            with redis_rig.cache_server.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
            return [reply.result["echo"] for reply in await calls]

    assert asyncio.run(main()) == list(range(200))
