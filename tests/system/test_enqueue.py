"""`enqueue` sends many messages at a time; what it promises about them, on each broker."""

import math
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.base import Broker, Settlement
from broker.urls import open_broker
from producer.client import Producer
from tests.support.processes import start
from tests.support.rig import Rig
from tests.support.waiting import until
from wire.errors import InvalidRequest
from wire.message import Limits, Request, decode_requests
from wire.names import Names

COUNT = 1500  # several sendings of single requests


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Queue:
    """The other end of the request queue."""

    def __init__(self, broker: Broker, names: Names) -> None:
        self._broker, self._name = broker, names.requests

    def __len__(self) -> int:
        return self._broker.depth()[self._name]

    def take(self, most: int) -> list[Any]:
        """The payloads in it, in their order: waits for `most` of them, and takes what there is."""
        found: list[Any] = []
        until(lambda: self._take_some(found) == 0 and len(found) >= most, what=f"{most} payloads")
        return found

    def _take_some(self, found: list[Any]) -> int:
        received = self._broker.receive({self._name: 500}, 0.01)
        for message in received:
            requests = decode_requests(message.body, message.content_type, "c", Limits())
            found += [orjson.loads(each.payload) for each in requests if isinstance(each, Request)]
        self._broker.commit([Settlement(message, ()) for message in received])
        return len(received)


@pytest.fixture
def names(prefix: str) -> Names:
    return Names(prefix)


@pytest.fixture
def queue(broker_url: str, names: Names) -> Iterator[Queue]:
    broker = open_broker(broker_url, names)
    broker.connect()
    yield Queue(broker, names)
    broker.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def producer(broker_url: str, prefix: str, clock: Clock) -> Iterator[Producer]:
    with Producer(broker_url, prefix=prefix, clock=clock) as opened:
        yield opened


@pytest.mark.parametrize("pack", [1, 7])
def test_all_is_sent_in_order_and_few_sendings(producer: Producer, queue: Queue, pack: int) -> None:
    """At most 512 messages in one; `on_sent` is told what is confirmed."""
    told = [0]
    assert producer.enqueue(range(COUNT), pack=pack, on_sent=told.append) == COUNT
    assert told[-1] == COUNT
    assert all(0 < later - earlier <= 512 * pack for earlier, later in pairwise(told))
    assert len(told) <= 2 + COUNT / (512 * pack) + 1
    assert queue.take(COUNT) == list(range(COUNT))


@pytest.mark.parametrize(("pack", "at"), [(1, 0), (1, 1), (1, 700), (7, 5), (7, 700)])
def test_what_stands_before_a_mistake_is_sent_once(
    producer: Producer, queue: Queue, pack: int, at: int
) -> None:
    """InvalidRequest comes when all before it is confirmed; nothing behind it is read."""
    rows = iter([*range(at), math.nan, *range(at + 1, COUNT)])
    told = [0]
    with pytest.raises(InvalidRequest, match="nan"):
        producer.enqueue(rows, pack=pack, on_sent=told.append)
    assert told[-1] == at
    assert next(rows, COUNT) == at + 1
    assert queue.take(at) == list(range(at))


@pytest.mark.parametrize("pack", [1, 7])
def test_mistakes_in_the_middle_cost_nothing_else(producer: Producer, queue: Queue, pack: int) -> None:
    """Nothing lost, nothing doubled, the count exact; each refusal after all that stands before it."""
    bad = {0, 1, 700, 705, COUNT - 1}
    told, refused = [0], list[tuple[int, int]]()
    sent = producer.enqueue(
        (math.nan if n in bad else n for n in range(COUNT)),
        pack=pack,
        on_sent=told.append,
        on_refused=lambda reply: refused.append((reply.index, told[-1])),
    )
    assert sent == COUNT - len(bad)
    assert refused == [(at, at - n) for n, at in enumerate(sorted(bad))]
    assert queue.take(sent) == [n for n in range(COUNT) if n not in bad]


@pytest.mark.parametrize(("pack", "at"), [(1, 700), (7, 3), (7, 7), (7, 700)])
def test_where_reading_fails_what_was_read_is_sent(
    producer: Producer, queue: Queue, pack: int, at: int
) -> None:
    """Also a pack that was not full yet; the error is the iterable's own."""

    def rows() -> Iterator[int]:
        yield from range(at)
        raise LookupError("the database is gone")

    told = [0]
    with pytest.raises(LookupError, match="the database is gone"):
        producer.enqueue(rows(), pack=pack, on_sent=told.append)
    assert told[-1] == at
    assert queue.take(at) == list(range(at))


def test_what_comes_slowly_does_not_wait_for_the_next(producer: Producer, queue: Queue, clock: Clock) -> None:
    """50 ms after the last sending a message goes before the next payload is read."""

    def rows() -> Iterator[int]:
        for n in range(5):
            until(lambda n=n: len(queue) == n, what=f"message {n - 1}")  # type: ignore[misc]
            clock.now += 0.05
            yield n

    assert producer.enqueue(rows(), pack=1) == 5


def test_what_comes_fast_is_sent_soon(producer: Producer, queue: Queue, clock: Clock) -> None:
    """Nothing waits longer than 50 ms while payloads come, however few they are."""

    def rows() -> Iterator[int]:
        for n in range(COUNT):
            clock.now += 0.001
            yield n

    told = [0]
    producer.enqueue(rows(), pack=1, on_sent=told.append)
    assert max(later - earlier for earlier, later in pairwise(told)) <= 51


def test_large_messages_are_not_gathered_without_bound(producer: Producer, queue: Queue) -> None:
    """No more than 4 MiB and what crosses them."""
    told = [0]
    payloads = [str(n) + "x" * 700_000 for n in range(20)]
    producer.enqueue(payloads, pack=1, on_sent=told.append)
    assert max(later - earlier for earlier, later in pairwise(told)) == 6
    assert queue.take(20) == payloads


def test_the_input_may_come_from_the_same_producer(producer: Producer, queue: Queue, names: Names) -> None:
    """What reads may itself send and receive: nothing of the sending is under way then."""

    def rows() -> Iterator[int]:
        for n in range(600):
            if n % 100 == 0:
                producer.enqueue([n], run="inner")
            yield n

    assert producer.enqueue(rows(), pack=1, run="outer") == 600
    assert sorted(queue.take(606)) == sorted([*range(600), *range(0, 600, 100)])


def test_an_interrupted_command_says_what_is_enqueued(redis_rig: Rig, place: Path) -> None:
    """Exit 130; never more than is in the queue."""
    settings = {"BROKER_URL": redis_rig._broker_url, "PREFIX": redis_rig.names.prefix}
    child = start(place, "producer", "enqueue", "-", settings=settings, stdin=subprocess.PIPE)
    with closing(redis_rig.broker()) as broker:
        queue = Queue(broker, redis_rig.names)
        until(feeding(child, queue), what="a second sending")
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
        there = len(queue)
    assert child.returncode == 130
    found = re.search(r"after ([\d,]+) rows were read; ([\d,]+) are enqueued for certain", said)
    assert found is not None, said
    read, enqueued = (int(number.replace(",", "")) for number in found.groups())
    assert 32 <= enqueued <= 32 * there <= read


def feeding(child: subprocess.Popen[str], queue: Queue) -> Callable[[], bool]:
    """Gives `child` a message's worth of rows with each call; whether two messages have arrived."""
    numbers = count()

    def feed() -> bool:
        assert child.stdin is not None
        child.stdin.write("".join(f"{next(numbers)}\n" for _ in range(32)))
        child.stdin.flush()
        return len(queue) >= 2

    return feed
