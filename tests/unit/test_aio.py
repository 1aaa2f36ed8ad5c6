"""`AsyncProducer` against a broker that breaks on command: one thread, one reply queue, many event loops."""

import asyncio
import contextlib
import itertools
import math
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

import pytest

from broker.base import BrokerUnreachable, Message
from recollect import AsyncProducer
from tests.support.waiting import until
from tests.unit.test_producer_client import MemoryBroker
from wire.errors import InvalidRequest
from wire.reply import Reply


class WaitingBroker(MemoryBroker):
    """Waits in `receive` until it is woken, and notes which threads used it; `gate` holds up `connect`."""

    def __init__(self) -> None:
        super().__init__()
        self.woken, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self.threads: set[int] = set()
        self.sendings: list[int] = []

    def connect(self) -> None:
        self.gate.wait(30)
        super().connect()

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        self.threads.add(threading.get_ident())
        self.sendings.append(len(messages))
        super().send(queue, messages)

    def receive(self, credit: Mapping[str, int], timeout: float) -> list[Message]:
        found = super().receive(credit, timeout)
        if not found:
            self.woken.wait(timeout)
            self.woken.clear()
        return found

    def wake(self) -> None:
        self.woken.set()


@pytest.fixture
def broker() -> WaitingBroker:
    return WaitingBroker()


def run(
    work: Callable[[AsyncProducer], Coroutine[Any, Any, Any]], broker: WaitingBroker, **options: Any
) -> Any:
    """`work` with a producer that is closed afterwards, in an event loop of its own."""

    async def main() -> Any:
        async with AsyncProducer(broker=broker, **options) as producer:
            return await work(producer)

    return asyncio.run(main())


async def slowly(count: int) -> AsyncIterator[int]:
    for n in range(count):
        await asyncio.sleep(0)
        yield n


async def everything(replies: AsyncIterator[Reply]) -> list[Reply]:
    return [reply async for reply in replies]


async def sent(broker: WaitingBroker, count: int = 1) -> None:
    """Until so many messages went."""
    async with asyncio.timeout(20):
        while len(broker.sent) < count:
            await asyncio.sleep(0.005)


def test_calls_that_come_together_go_together(broker: WaitingBroker) -> None:
    """Hundreds of them: one thread, one private reply queue, two sendings, and everybody's own reply."""

    async def work(producer: AsyncProducer) -> list[Reply]:
        broker.gate.clear()
        calls = [asyncio.create_task(producer.call(n)) for n in range(300)]
        await asyncio.sleep(0)
        broker.gate.set()
        return await asyncio.gather(*calls)

    assert [reply.result for reply in run(work, broker)] == list(range(300))
    assert len(set(broker.owned)) == len(broker.threads) == 1
    assert broker.threads != {threading.get_ident()}
    assert len(broker.sendings) <= 2
    assert len(broker.sent) == 300, "each is a message of its own: none waits for another's model call"


def test_who_calls_is_a_person(broker: WaitingBroker) -> None:
    """Served before the bulk, unless they say that they can wait."""

    async def work(producer: AsyncProducer) -> list[int]:
        broker.mute = True
        calls = [asyncio.create_task(producer.call(n, priority=p)) for n, p in enumerate(("bulk", "bulk"))]
        calls.append(asyncio.create_task(producer.call(2)))
        await sent(broker, 3)
        waiting = [len(broker.queues[f"recollect.{name}"]) for name in ("interactive", "requests")]
        broker.mute = False
        broker.wake()
        await asyncio.gather(*calls)
        return waiting

    assert run(work, broker) == [1, 2]


@pytest.mark.parametrize("payloads", [lambda: range(100), lambda: slowly(100)], ids=["plain", "async"])
def test_map_takes_both_kinds_of_iterables(broker: WaitingBroker, payloads: Callable[[], Any]) -> None:
    """In order where that is asked for."""

    async def work(producer: AsyncProducer) -> list[Any]:
        return [(r.index, r.result) async for r in producer.map(payloads(), ordered=True, in_flight=10)]

    assert run(work, broker) == [(n, n) for n in range(100)]


@pytest.mark.parametrize("is_async", [False, True])
def test_map_reads_no_more_than_may_be_in_flight(broker: WaitingBroker, is_async: bool) -> None:
    """Ahead of what was yielded, of an input without end."""
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for n in itertools.count():
            taken += 1
            yield n

    async def endless_async() -> AsyncIterator[int]:
        for n in endless():
            yield n

    async def work(producer: AsyncProducer) -> int:
        payloads = endless_async() if is_async else endless()
        replies = producer.map(payloads, in_flight=20, pack=4)
        yielded = 0
        async with contextlib.aclosing(replies):
            while yielded < 100:
                await anext(replies)
                yielded += 1
                assert taken <= yielded + 20
            return (await producer.call("beside it")).index

    assert run(work, broker) == 0


@pytest.mark.parametrize("verb", ["map", "enqueue"])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_the_payloads_raise_is_raised(broker: WaitingBroker, verb: str, is_async: bool) -> None:
    """By the verb that is awaited; the producer goes on."""

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("row 2")

    async def broken_async() -> AsyncIterator[int]:
        for n in broken():
            yield n

    async def work(producer: AsyncProducer) -> Any:
        payloads = broken_async() if is_async else broken()
        asking = everything(producer.map(payloads)) if verb == "map" else producer.enqueue(payloads)
        with pytest.raises(LookupError, match="row 2"):
            await asking
        return (await producer.call("next")).result

    assert run(work, broker) == "next"


@pytest.mark.parametrize("verb", ["map", "enqueue"])
@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), BaseException("x")], ids=repr)
def test_payloads_that_are_cut_off_have_not_ended(
    broker: WaitingBroker, verb: str, error: BaseException
) -> None:
    """Not even by what is no Exception, such as the cancellation of a task that they waited for."""

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise error

    async def work(producer: AsyncProducer) -> Any:
        asking = everything(producer.map(broken())) if verb == "map" else producer.enqueue(broken())
        with pytest.raises(RuntimeError, match=f"cut off by {type(error).__name__}"):
            await asking
        return (await producer.call("next")).result

    assert run(work, broker) == "next"


def test_what_is_no_iterable_is_refused(broker: WaitingBroker) -> None:
    async def work(producer: AsyncProducer) -> None:
        with pytest.raises(TypeError, match="not iterable"):
            await producer.enqueue(1)  # type: ignore[arg-type]

    run(work, broker)


def test_who_is_cancelled_is_forgotten(broker: WaitingBroker) -> None:
    """A later reconnect does not send it again, and others are not touched."""

    async def work(producer: AsyncProducer) -> Any:
        broker.mute = True
        task = asyncio.create_task(producer.call("cancelled"))
        await sent(broker)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        broker.mute, broker.breaks = False, {"receive": 1}
        return (await producer.call("next")).result

    assert run(work, broker) == "next"
    assert broker.served.count("cancelled") == 1


def test_time_runs_out(broker: WaitingBroker) -> None:
    """Its own says what to check; asyncio's is asyncio's."""

    async def work(producer: AsyncProducer) -> None:
        broker.mute = True
        with pytest.raises(TimeoutError, match=r"python -m worker run.*recollect\.interactive"):
            await producer.call("late", timeout=0.05)
        with pytest.raises(TimeoutError, match=r"recollect\.requests"):
            await producer.call("late", timeout=0.05, priority="bulk")
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await producer.call("late")
        assert str(caught.value) == ""

    run(work, broker)


def test_leaving_ends_what_is_under_way(broker: WaitingBroker) -> None:
    """Each with an error that says why, and nothing begins afterwards."""

    async def main() -> list[Any]:
        broker.mute = True
        async with AsyncProducer(broker=broker) as producer:
            calls = [asyncio.create_task(producer.call(n)) for n in range(3)]
            mapping = asyncio.create_task(anext(producer.map([1])))
            await sent(broker, 4)
        ended = await asyncio.gather(*calls, mapping, return_exceptions=True)
        with pytest.raises(RuntimeError, match="is closed"):
            await producer.call(1)
        await producer.aclose()
        return ended

    for error in asyncio.run(main()):
        assert isinstance(error, RuntimeError)
        assert "closed while" in str(error)
    assert not broker.connected


@pytest.mark.parametrize("verb", ["call", "enqueue", "connect"])
def test_leaving_does_not_wait_for_a_broker_that_is_away(broker: WaitingBroker, verb: str) -> None:
    """It is tried again for five minutes otherwise."""

    async def main() -> BaseException | None:
        broker.away = True
        tried = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with AsyncProducer(
            broker=broker, on_wait=lambda _: loop.call_soon_threadsafe(tried.set)
        ) as producer:
            arguments = {"call": [1], "enqueue": [[1]], "connect": []}[verb]
            task = asyncio.create_task(getattr(producer, verb)(*arguments))
            await tried.wait()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    assert "closed while" in str(asyncio.run(asyncio.wait_for(main(), 20)))


def test_a_broker_that_is_away_reaches_everybody(broker: WaitingBroker) -> None:
    """When it is given up, and for a call at the latest when its time is over; then all goes on."""

    async def given_up(producer: AsyncProducer) -> list[Any]:
        broker.away = True
        return await asyncio.gather(*(producer.call(n) for n in range(3)), return_exceptions=True)

    async def timed_out(producer: AsyncProducer) -> Any:
        broker.away = True
        with pytest.raises(BrokerUnreachable, match="nobody is there"):
            await producer.call(1, timeout=0.3)
        assert not producer.is_ready
        broker.away = False
        return (await producer.call(2)).result, producer.is_ready

    assert [str(error) for error in run(given_up, broker, reconnect_seconds=0)] == ["nobody is there"] * 3
    assert run(timed_out, broker) == (2, True)


def test_connect_says_at_once_that_nobody_is_there(broker: WaitingBroker) -> None:
    async def work(producer: AsyncProducer) -> bool:
        broker.away = True
        with pytest.raises(BrokerUnreachable):
            await producer.connect(retry=False)
        broker.away = False
        await producer.connect()
        return producer.is_ready

    assert run(work, broker)


def test_a_lost_connection_loses_nothing(broker: WaitingBroker) -> None:
    """Whatever was under way when it broke."""

    async def work(producer: AsyncProducer) -> list[Any]:
        broker.breaks = {"send": 2, "receive": 2, "commit": 1}
        calls = asyncio.gather(*(producer.call(-n) for n in range(20)))
        mapped = [reply.result async for reply in producer.map(range(50), in_flight=20, pack=4)]
        return sorted(mapped) + [reply.result for reply in await calls]

    assert run(work, broker) == [*range(50), *(-n for n in range(20))]


def test_a_loop_that_was_closed_costs_nobody_else_anything(broker: WaitingBroker) -> None:
    """What waited in it is dropped; another loop goes on with the same producer."""
    producer = AsyncProducer(broker=broker)
    broker.mute = True
    loop = asyncio.new_event_loop()
    task = loop.create_task(producer.call("of the closed loop"))
    loop.run_until_complete(sent(broker))
    loop.close()
    broker.mute = False

    async def work() -> Any:
        async with producer:
            return (await producer.call("of another")).result

    assert asyncio.run(work()) == "of another"
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined] # as asyncio would, and rightly


def test_loops_in_several_threads_share_a_producer(broker: WaitingBroker) -> None:
    """Each gets its own replies."""
    producer, found = AsyncProducer(broker=broker), dict[int, list[Any]]()

    async def work(first: int) -> list[Any]:
        return [r.result for r in await asyncio.gather(*(producer.call(first + n) for n in range(50)))]

    threads = [
        threading.Thread(target=lambda first=first: found.update({first: asyncio.run(work(first))}))
        for first in (0, 100, 200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    asyncio.run(producer.aclose())
    assert found == {first: list(range(first, first + 50)) for first in (0, 100, 200)}
    assert len(broker.threads) == 1


def test_a_forked_child_leaves_its_parents_alone(
    broker: WaitingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is not there in the child; closing it there does not close the parent's connection."""

    async def work(producer: AsyncProducer) -> Any:
        await producer.call(1)
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: -1)
            with pytest.raises(RuntimeError, match="fork"):
                await producer.call(2)
            await producer.aclose()
        return (await producer.call(3)).result

    assert run(work, broker) == 3


def test_enqueue_and_collect(broker: WaitingBroker) -> None:
    """More than is read ahead, slow and plain; what cannot be sent is handed over in this event loop."""
    told: list[tuple[int, int]] = []

    async def work(producer: AsyncProducer) -> Any:
        refused: list[int] = []
        count = await producer.enqueue(
            [1, math.nan, *range(2500)],
            run="a",
            on_refused=lambda reply: refused.append(reply.index),
            on_sent=lambda confirmed: told.append((threading.get_ident(), confirmed)),
        )
        count += await producer.enqueue(slowly(5), run="b")
        a = [r.result async for r in producer.collect(run="a", timeout=0.2)]
        b = [r.result async for r in producer.collect(run="b", timeout=0.2)]
        return count, refused, sorted(a) == sorted([1, *range(2500)]), b

    assert run(work, broker) == (2506, [1], True, [0, 1, 2, 3, 4])
    assert told[-1] == (threading.get_ident(), 2501)


def test_a_reply_is_acknowledged_when_the_next_is_asked_for(broker: WaitingBroker) -> None:
    """What was not taken, or only just, is there for the next to collect; calls go on meanwhile."""

    async def work(producer: AsyncProducer) -> list[Any]:
        await producer.enqueue(range(4), run="n", pack=1)
        async with contextlib.aclosing(producer.collect(run="n", timeout=1)) as taking:
            first, second = await anext(taking), await anext(taking)
            assert (await producer.call("meanwhile")).result == "meanwhile"
        assert (first.result, second.result) == (0, 1)
        return [reply.result async for reply in producer.collect(run="n", timeout=0.2)]

    assert run(work, broker) == [1, 2, 3]


def test_directives_go_through_and_wrong_ones_come_back(broker: WaitingBroker) -> None:
    """As they do in `Producer`, which is what does it."""

    async def work(producer: AsyncProducer) -> Any:
        await producer.call(1, model="m", bypass=True, traceparent=f"00-{'1' * 32}-{'2' * 16}-01")
        with pytest.raises(InvalidRequest, match="did you mean `bypass`"):
            await producer.call(1, by_pass=True)
        with pytest.raises(InvalidRequest, match="enqueue"):
            [reply async for reply in producer.map([1], reply=False)]
        with pytest.raises(ValueError, match="at least 1"):
            [reply async for reply in producer.map([1], in_flight=0)]
        return (await producer.call(math.nan)).error

    assert run(work, broker)["kind"] == "invalid_request"
    (request,) = broker.requests(broker.sent[0])
    assert (request.model, request.bypass) == ("m", True)
    assert broker.sent[0].headers["traceparent"].startswith("00-1111")


def test_it_needs_a_url_like_a_producer_and_starts_nothing_before_it_is_used(broker: WaitingBroker) -> None:
    with pytest.raises(ValueError, match=r"embedded:(.|\n)*redis://"):
        AsyncProducer()
    before = threading.active_count()
    asyncio.run(AsyncProducer(broker=broker).aclose())
    assert threading.active_count() == before
    assert broker.connections == 0


def test_nothing_is_left_of_it(broker: WaitingBroker) -> None:
    """Neither thread nor reply queue."""

    async def work(producer: AsyncProducer) -> None:
        await producer.call(1)

    before = threading.active_count()
    run(work, broker)
    until(lambda: threading.active_count() <= before, what="the thread's end")
