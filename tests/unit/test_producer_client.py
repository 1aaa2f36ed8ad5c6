"""`map`, `call`, `enqueue` and `collect` against a broker that breaks on command."""

import itertools
import math
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import pytest

from broker.base import (
    BrokerLost,
    BrokerUnreachable,
    Committed,
    Message,
    Settlement,
)
from producer.client import Producer
from wire.errors import InvalidRequest, Outcome
from wire.message import Limits, Request, decode_requests
from wire.reply import Provenance, encode_failure, encode_result, pack_replies


class MemoryBroker:
    """The published interface over deques, and an echo worker that answers when somebody receives.

    `breaks` says how often each verb still raises BrokerLost; `mute` keeps requests unanswered; `away`
    refuses connections; `slow` names payloads whose message is answered after all others.
    """

    def __init__(self) -> None:
        self.queues: dict[str, deque[Message]] = defaultdict(deque)
        self.breaks: dict[str, float] = {}
        self.mute, self.away, self.connected = False, False, False
        self.slow: set[bytes] = set()
        self.max_bytes, self.copies = 8 << 20, 1
        self.held: list[Message] = []
        self.sent: list[Message] = []
        self.served: list[Any] = []
        self.owned: list[str] = []
        self.connections = 0

    def _step(self, verb: str) -> None:
        if not self.connected:
            raise BrokerLost("not connected")
        if self.breaks.get(verb, 0) > 0:
            self.breaks[verb] -= 1
            self.connected = False
            raise BrokerLost(f"{verb} broke")

    def connect(self) -> None:
        if self.away:
            raise BrokerUnreachable("nobody is there")
        self.connected = True
        self.connections += 1
        for message in reversed(self.held):
            self.queues[message.queue].appendleft(message)
        self.held.clear()

    def send(self, queue: str, messages: Sequence[Message]) -> None:
        self._step("send")
        self.sent += messages
        self.queues[queue].extend(messages)

    def receive(self, credit: Mapping[str, int], timeout: float) -> list[Message]:
        self._step("receive")
        self._serve()
        found = []
        for queue, most in credit.items():
            while self.queues[queue] and len(found) < most:
                message = self.queues[queue].popleft()
                message.queue = queue
                found.append(message)
        self.held += found
        return found

    def commit(self, settlements: Sequence[Settlement]) -> Committed:
        self._step("commit")
        ours = [settlement for settlement in settlements if settlement.message in self.held]
        for settlement in ours:
            self.held.remove(settlement.message)
        return Committed(ours, ())

    def release(self, messages: Sequence[Message]) -> None:
        self._step("release")
        for message in reversed([message for message in messages if message in self.held]):
            self.held.remove(message)
            self.queues[message.queue].appendleft(message)

    def keep_alive(self) -> None:
        self._step("keep_alive")

    def own(self, queue: str) -> None:
        self._step("own")
        self.owned.append(queue)

    def declare(self, queue: str) -> None:
        self._step("declare")

    def depth(self, replies: Sequence[str] = ()) -> dict[str, int]:
        self._step("depth")
        return {queue: len(self.queues[queue]) for queue in (*self.queues, *replies)}

    def purge(self, queue: str) -> int:
        raise NotImplementedError

    def wake(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.connected = False

    def _serve(self) -> None:
        if self.mute:
            return
        for queue in ("recollect.interactive", "recollect.requests"):
            requests = self.queues[queue]
            late = [message for message in requests if self.is_slow(message)]
            for message in [m for m in requests if m not in late] or late:
                requests.remove(message)
                self._answer(message)

    def is_slow(self, message: Message) -> bool:
        return any(r.payload in self.slow for r in self.requests(message))

    def requests(self, message: Message) -> list[Request]:
        found = decode_requests(message.body, message.content_type, message.correlation_id, Limits())
        return [request for request in found if isinstance(request, Request)]

    def _answer(self, message: Message) -> None:
        replies = []
        for request in decode_requests(message.body, message.content_type, message.correlation_id, Limits()):
            if isinstance(request, Request):
                self.served.append(orjson.loads(request.payload))
                replies.append(encode_result(request.id, request.payload, Provenance(Outcome.MISS)))
            else:
                replies.append(encode_failure(request.id, request.failure, Provenance(Outcome.INVALID)))
        bodies = list(pack_replies(replies, self.max_bytes))
        for _ in range(self.copies):
            for n, body in enumerate(bodies, 1):
                headers = {} if len(bodies) == 1 else {"part": f"{n}/{len(bodies)}"}
                reply = Message(body, message.content_type, message.correlation_id, headers=headers)
                self.queues[message.reply_to or "recollect.replies"].append(reply)


class Clock:
    """Seconds that pass when somebody sleeps, and a little with every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def producer(broker: MemoryBroker, clock: Clock) -> Iterator[Producer]:
    with Producer(broker=broker, clock=clock, sleep=clock.sleep) as opened:
        yield opened


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("pack", [1, 2, 32])
@pytest.mark.parametrize("max_bytes", [1, 8 << 20])
def test_every_payload_gets_its_reply(
    producer: Producer, broker: MemoryBroker, ordered: bool, pack: int, max_bytes: int
) -> None:
    """Packed or not, in parts or not, answered twice or not."""
    broker.max_bytes, broker.copies, broker.slow = max_bytes, 2, {b"0", b"50"}
    replies = list(producer.map(range(100), pack=pack, ordered=ordered, in_flight=60))
    assert sorted((reply.index, reply.result) for reply in replies) == [(n, n) for n in range(100)]
    assert not ordered or [reply.index for reply in replies] == list(range(100))


def test_a_pack_is_one_message(producer: Producer, broker: MemoryBroker) -> None:
    """Several requests are NDJSON, one is plain JSON; both say when and where to answer."""
    list(producer.map(range(5), pack=4))
    assert [message.content_type for message in broker.sent] == ["application/x-ndjson", "application/json"]
    assert {message.reply_to for message in broker.sent} == set(broker.owned)
    assert all(message.headers["enqueued_at"] > 0 for message in broker.sent)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("wrong", [False, True])
def test_no_more_is_read_than_may_be_ahead(
    producer: Producer, broker: MemoryBroker, ordered: bool, wrong: bool
) -> None:
    """Also where the first reply is late and where every other payload is refused."""
    taken = 0

    def endless() -> Iterator[Any]:
        nonlocal taken
        for n in itertools.count():
            taken += 1
            yield math.nan if wrong and n else n

    broker.slow = {b"0"}
    replies = producer.map(endless(), in_flight=20, pack=4, ordered=ordered)
    assert taken == 0
    for yielded, _ in enumerate(itertools.islice(replies, 200), 1):
        assert taken <= yielded + 20


def test_refused_rows_wait_their_turn_within_bounds(producer: Producer, broker: MemoryBroker) -> None:
    """In order, an unanswered first row holds back what is refused, and reading stops at in_flight."""
    taken = 0

    def rows() -> Iterator[Any]:
        nonlocal taken
        for n in range(10_000):
            taken += 1
            yield n if n < 4 else math.nan

    class Stop(Exception):
        pass

    def on_idle() -> None:
        nonlocal idle
        idle += 1
        if idle > 20:
            raise Stop

    idle = 0
    broker.mute = True
    with Producer(broker=broker, on_idle=on_idle) as other, pytest.raises(Stop):
        list(other.map(rows(), in_flight=50, pack=4, ordered=True))
    assert taken <= 50


def test_a_payload_that_cannot_be_sent_fails_in_its_place(producer: Producer) -> None:
    """The rest goes on; its index is that of the input."""
    replies = list(producer.map([1, math.nan, {1}, 2**64, 2], ordered=True))
    assert [reply.index for reply in replies] == list(range(5))
    assert [reply.outcome for reply in replies] == ["miss", "invalid", "invalid", "invalid", "miss"]


def test_a_large_payload_does_not_cost_its_neighbours(producer: Producer) -> None:
    """A worker refuses a message over 16 MiB whole: the large one must be alone in it."""
    replies = list(producer.map(["a", "x" * (17 << 20), "b"], ordered=True))
    assert [reply.ok for reply in replies] == [True, False, True]


@pytest.mark.parametrize("verb", ["send", "receive", "commit", "keep_alive", "own"])
def test_a_lost_connection_loses_nothing(producer: Producer, broker: MemoryBroker, verb: str) -> None:
    """Whatever was under way when it broke."""
    broker.breaks = {verb: 3}
    replies = list(producer.map(range(50), pack=4, in_flight=20))
    assert sorted((reply.index, reply.result) for reply in replies) == [(n, n) for n in range(50)]
    assert broker.connections > 1


def test_requests_lost_with_the_broker_are_sent_again(producer: Producer, broker: MemoryBroker) -> None:
    """What was in its queues may be gone after a reconnect; the private reply queue is made anew."""
    replies = producer.map(range(8), pack=4, in_flight=8)
    broker.mute = True

    def forget() -> None:
        if broker.mute:
            broker.queues.clear()
            broker.breaks, broker.mute = {"receive": 1}, False

    producer._on_idle = forget  # the first idle turn comes when all is sent
    assert sorted(reply.result for reply in replies) == list(range(8))
    assert len(broker.owned) >= 2
    assert len(set(broker.owned)) == 1


def test_silence_is_answered_by_sending_again(broker: MemoryBroker, clock: Clock) -> None:
    """After reply_timeout seconds, under the same correlation id."""
    broker.mute = True

    def on_idle() -> None:
        clock.now += 100
        if clock.now > 500:
            broker.mute = False

    with Producer(broker=broker, clock=clock, on_idle=on_idle) as producer:
        assert [reply.result for reply in producer.map(["a"], reply_timeout=300)] == ["a"]
    assert len(broker.sent) >= 2
    assert len({message.correlation_id for message in broker.sent}) == 1


def test_silence_counts_from_the_sending(broker: MemoryBroker, clock: Clock) -> None:
    """What is sent after a pause of the input is not sent twice."""

    def slow() -> Iterator[int]:
        for n in range(3):
            clock.now += 400
            broker.mute = True
            yield n

    def on_idle() -> None:
        broker.mute = False

    with Producer(broker=broker, clock=clock, on_idle=on_idle) as producer:
        assert len(list(producer.map(slow(), reply_timeout=300, pack=1, in_flight=1))) == 3
    assert len(broker.sent) == 3


def test_silence_does_not_fill_a_queue_that_is_full(broker: MemoryBroker, clock: Clock) -> None:
    """What waits there is what would be sent again."""
    broker.mute = True

    def on_idle() -> None:
        clock.now += 100
        assert len(broker.queues["recollect.requests"]) <= 2
        broker.mute = clock.now < 2000

    for queue in ("interactive", "requests", "misses"):
        broker.queues[f"recollect.{queue}"].clear()
    with Producer(broker=broker, clock=clock, on_idle=on_idle) as producer:
        replies = producer.map(range(9), reply_timeout=300, queue_max=2, pack=1)
        assert sorted(reply.result for reply in replies) == list(range(9))


@pytest.mark.parametrize("verb", ["send", "receive", "keep_alive", "own"])
def test_a_broker_that_drops_every_command_is_given_up(
    producer: Producer, broker: MemoryBroker, clock: Clock, verb: str
) -> None:
    """Connections that work are not enough: BrokerUnreachable after reconnect_seconds, and pauses between."""
    broker.breaks = {verb: math.inf}
    with pytest.raises(BrokerUnreachable, match="broke"):
        list(producer.map([1]))
    assert 300 <= clock.now < 310
    assert broker.connections < 400
    broker.breaks = {}
    assert [reply.result for reply in producer.map([2])] == [2]


def test_nobody_there(producer: Producer, broker: MemoryBroker, clock: Clock) -> None:
    """Tried for reconnect_seconds; at once without retry; a call waits no longer than its timeout."""
    broker.away = True
    with pytest.raises(BrokerUnreachable, match="nobody is there"):
        producer.connect(retry=False)
    assert clock.now < 1
    with pytest.raises(BrokerUnreachable):
        producer.call(1, timeout=10)
    assert 10 <= clock.now < 20
    with pytest.raises(BrokerUnreachable):
        list(producer.map([1]))
    assert clock.now >= 300


def test_an_abandoned_map_leaves_the_producer_usable(producer: Producer) -> None:
    """Its late replies are dropped."""
    for reply in producer.map(range(100), in_flight=20, pack=2):
        assert reply.ok
        break
    assert [reply.result for reply in producer.map(["a", "b"], ordered=True)] == ["a", "b"]


def test_maps_and_calls_may_be_nested(producer: Producer, broker: MemoryBroker) -> None:
    """A call inside the loop over a map, and two maps in step: nobody takes another's replies."""
    for reply in producer.map(range(20), in_flight=8, pack=2):
        assert producer.call({"of": reply.index}).result == {"of": reply.index}
    pairs = zip(
        producer.map(range(200, 230), ordered=True, in_flight=10, pack=3),
        producer.map(range(100, 130), ordered=True, in_flight=7, pack=2),
        strict=True,
    )
    assert [(a.result, b.result) for a, b in pairs] == [(n + 200, n + 100) for n in range(30)]
    assert sorted(map(str, broker.served)) == sorted(set(map(str, broker.served))), (
        "something was asked twice"
    )


@pytest.mark.parametrize(
    "send",
    [
        lambda producer: list(producer.map([1], reply=False)),
        lambda producer: producer.call(1, reply=False),
    ],
)
def test_who_waits_for_a_reply_cannot_refuse_it(
    producer: Producer, send: Callable[[Producer], object]
) -> None:
    """It would wait for ever."""
    with pytest.raises(InvalidRequest, match="enqueue"):
        send(producer)


def test_a_whole_request_that_wants_no_reply_fails_in_its_place(producer: Producer) -> None:
    """The row is named; the others are answered."""
    rows = [{"payload": 1}, {"payload": 2, "reply": False}, 3, {"payload": 4, "id": "mine"}]
    replies = list(producer.map(rows, whole_requests=True, ordered=True))
    assert [reply.ok for reply in replies] == [True, False, False, True]
    assert replies[3].id == "mine"


def test_what_stands_before_a_mistake_is_enqueued_and_nothing_behind_it(
    producer: Producer, broker: MemoryBroker
) -> None:
    """As the exception promises, however the packs are cut."""
    with pytest.raises(InvalidRequest, match="nan"):
        producer.enqueue([1, 2, 3, math.nan, 4], pack=2)
    list(producer.collect(timeout=1))
    assert broker.served == [1, 2, 3]


def test_enqueue_may_go_on_after_a_mistake(producer: Producer, broker: MemoryBroker) -> None:
    """Each refusal is handed over with its place in the input."""
    refused: list[int] = []
    count = producer.enqueue([1, math.nan, 2], on_refused=lambda reply: refused.append(reply.index))
    assert (count, refused) == (2, [1])
    assert sorted(reply.result for reply in producer.collect(timeout=1)) == [1, 2]


@pytest.mark.parametrize("pack", [1, 4])
def test_a_connection_lost_while_enqueuing_loses_nothing(
    producer: Producer, broker: MemoryBroker, pack: int
) -> None:
    """The count is that of the requests, however often they had to be sent."""
    broker.breaks = {"declare": 2, "send": 3}
    assert producer.enqueue(range(1000), pack=pack) == 1000
    list(producer.collect(timeout=1))
    assert broker.served == list(range(1000))


def test_what_cannot_be_sent_is_not_counted(producer: Producer, broker: MemoryBroker) -> None:
    """BrokerUnreachable, once: `on_sent` has told what is confirmed, and the rest is not tried again."""
    told: list[int] = []

    def on_sent(count: int) -> None:
        told.append(count)
        broker.breaks = {"send": math.inf}

    with pytest.raises(BrokerUnreachable):
        producer.enqueue(range(2000), pack=1, on_sent=on_sent)
    assert told == [len(broker.sent)]
    assert len(told) == 1


def test_each_message_has_an_id_of_its_own(producer: Producer, broker: MemoryBroker) -> None:
    """Also beside those of other maps and other producers; safe in any broker's names."""
    with Producer(broker=broker) as other:
        for sender in (producer, other):
            list(sender.map(range(20), pack=1))
            list(sender.map(range(20), pack=3))
            sender.enqueue(range(20), pack=2)
            sender.call(1)
    ids = [message.correlation_id or "" for message in broker.sent]
    assert len(set(ids)) == len(ids) == 2 * (20 + 7 + 10 + 1)
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", each) for each in ids)


def test_a_pack_holds_at_least_one(producer: Producer) -> None:
    """An empty one would never end."""
    with pytest.raises(ValueError, match="at least 1"):
        producer.enqueue([1], pack=0)


def test_fire_and_forget_asks_for_no_reply(producer: Producer, broker: MemoryBroker) -> None:
    """Neither a reply queue nor the wish for an answer travels along."""
    producer.enqueue([1, 2], reply=False)
    assert [message.reply_to for message in broker.sent] == [None]
    assert all(not request.reply for request in broker.requests(broker.sent[0]))


def test_a_reply_is_acknowledged_when_the_next_is_asked_for(producer: Producer, broker: MemoryBroker) -> None:
    """What was not taken, or only just, is there for the next to collect."""
    producer.enqueue(range(4), run="n", pack=1)
    taking = producer.collect(run="n", timeout=1)
    first, second = next(taking), next(taking)
    taking.close()
    assert (first.result, second.result) == (0, 1)
    assert broker.held == []
    assert [reply.result for reply in producer.collect(run="n", timeout=1)] == [1, 2, 3]


def test_collect_takes_what_is_there_even_without_patience(producer: Producer, broker: MemoryBroker) -> None:
    """A timeout of 0 looks once."""
    producer.enqueue([1], run="n")
    assert [reply.result for reply in producer.collect(run="n", timeout=0)] == [1]


def test_how_much_waits_for_collect_can_be_asked(producer: Producer, broker: MemoryBroker) -> None:
    """Messages, not replies; nothing is taken, and a lost connection is made anew."""
    producer.enqueue(range(6), run="n", pack=2)
    broker.receive({}, 0)
    broker.breaks = {"depth": 1}
    assert [producer.depth(run="n"), producer.depth(run="n"), producer.depth()] == [3, 3, 0]
    assert len(list(producer.collect(run="n", timeout=0))) == 6


def test_a_connection_lost_while_collecting_loses_nothing(producer: Producer, broker: MemoryBroker) -> None:
    """At least once: the one in doubt may come again."""
    producer.enqueue(range(6), run="n", pack=1)
    broker.breaks = {"commit": 1, "receive": 1}
    assert {reply.result for reply in producer.collect(run="n", timeout=1)} == set(range(6))


def test_a_call_that_ran_out_of_time_is_forgotten(
    producer: Producer, broker: MemoryBroker, clock: Clock
) -> None:
    """It says what to check, and a later reconnect does not send it again."""
    broker.mute = True
    with pytest.raises(TimeoutError, match=r"python -m worker run.*recollect\.interactive"):
        producer.call("late", timeout=0.1)
    broker.mute, broker.breaks = False, {"receive": 1}
    assert producer.call("next").result == "next"
    assert broker.served.count("late") == 1


def test_without_a_url_the_choice_is_printed() -> None:
    """Never a silent default."""
    with pytest.raises(ValueError, match=r"embedded:(.|\n)*redis://"):
        Producer()


@pytest.mark.parametrize(
    ("send", "usual"),
    [
        (lambda producer, **more: list(producer.map(["a"], **more)), "requests"),
        (lambda producer, **more: producer.call("a", **more), "interactive"),
        (lambda producer, **more: producer.enqueue(["a"], **more), "requests"),
    ],
    ids=["map", "call", "enqueue"],
)
def test_a_priority_is_a_queue(
    producer: Producer, broker: MemoryBroker, send: Callable[..., object], usual: str
) -> None:
    """Each verb has its own where none is given; a wrong word is refused before anything is sent."""
    seen: list[str] = []
    kept = broker.send

    def record(queue: str, messages: Sequence[Message]) -> None:
        seen.append(queue)
        kept(queue, messages)

    broker.send = record  # type: ignore[method-assign]
    send(producer)
    send(producer, priority="bulk")
    send(producer, priority="interactive")
    with pytest.raises(ValueError, match="priority 'urgent' must be one of: bulk, interactive"):
        send(producer, priority="urgent")
    assert seen == [f"recollect.{name}" for name in (usual, "requests", "interactive")]


def test_what_is_sent_again_goes_to_the_queue_of_its_priority(
    producer: Producer, broker: MemoryBroker
) -> None:
    """A call within a map, both lost with the broker."""
    replies = producer.map(range(4), in_flight=4, pack=1)
    next(replies)
    broker.mute, broker.breaks = True, {"receive": 1}
    with pytest.raises(TimeoutError):
        producer.call("mine", timeout=2.0)
    assert [len(broker.queues[f"recollect.{name}"]) for name in ("interactive", "requests")] == [2, 0]
