"""Waiting on Redis: a question that blocks takes what comes, and nothing is lost with who asked it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from broker.base import BrokerLost, BrokerOptions, Message, Outgoing, Settlement
from broker.redis.broker import RedisBroker
from producer.client import Producer
from tests.support.proxy import Proxy
from tests.support.servers import ValkeyServer
from tests.support.waiting import until
from wire.errors import Outcome
from wire.message import Limits, Request, decode_requests
from wire.names import Names
from wire.reply import Provenance, encode_result, pack_replies

Opener = Callable[..., RedisBroker]


@pytest.fixture
def opened(valkey: ValkeyServer, names: Names) -> Iterator[Opener]:
    """Opens connected brokers that are closed afterwards."""
    with ExitStack() as stack:

        def open_one(port: int | None = None, **options: Any) -> RedisBroker:
            url = f"redis://127.0.0.1:{port or valkey.port}/0"
            broker = RedisBroker(url, names, BrokerOptions(**options))
            stack.callback(broker.close)
            broker.connect()
            return broker

        yield open_one


def bodies(messages: list[Message]) -> list[bytes]:
    return [message.body for message in messages]


def waits(broker: RedisBroker, queue: str, most: int = 10) -> None:
    """Its question stands from now on."""
    assert broker.receive({queue: most}, 0.05) == []


def in_flight(client: redis.Redis, names: Names) -> list[bytes]:
    return list(client.scan_iter(f"{names.prefix}:in-flight:*"))


def scripts_run(client: redis.Redis) -> int:
    found: dict[str, Any] = client.info("commandstats")
    return int(found["cmdstat_evalsha"]["calls"])


def test_who_waits_is_sent_what_comes(opened: Opener, client: redis.Redis, names: Names) -> None:
    """In one step: a message that comes costs no question after the one that stands, and a claim all the
    same."""
    broker, sender = opened(reaps=True), opened()
    waits(broker, names.requests)
    sender.send(names.requests, [Message(b"first")])
    before = scripts_run(client)
    sender.send(names.requests, [Message(b"second"), Message(b"third")])
    assert bodies(broker.receive({names.requests: 10}, 5)) == [b"first"]
    assert scripts_run(client) == before + 1, "the sender's own"
    assert bodies(broker.receive({names.requests: 10}, 5)) == [b"second", b"third"]
    assert client.hlen(in_flight(client, names)[0]) == 3


@pytest.mark.parametrize(("private", "worker"), [(True, False), (False, True), (False, False)])
def test_nothing_is_late_for_who_does_not_wait(
    opened: Opener, names: Names, private: bool, worker: bool
) -> None:
    """What was sent before is received without waiting, also where a question has stood since."""
    broker, sender = opened(reaps=worker), opened()
    queue = names.replies_for("mine") if private else names.requests
    if private:
        broker.own(queue)
    waits(broker, queue)
    sender.send(queue, [Message(b"1"), Message(b"2"), Message(b"3")])
    found = broker.receive({queue: 10}, 0)
    found += broker.receive({queue: 10}, 0)
    assert bodies(found) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("credit", [{}, {"requests": 0}, {"requests": 3}, {"misses": 10}])
def test_who_has_no_room_any_more_leaves_what_comes_to_others(
    opened: Opener, client: redis.Redis, names: Names, credit: dict[str, int]
) -> None:
    """It asked for ten and has room for fewer: a question that stands must not take ten."""
    broker, other = opened(reaps=True), opened()
    waits(broker, names.requests)
    room = {getattr(names, queue): most for queue, most in credit.items()}
    assert broker.receive(room, 0) == []
    other.send(names.requests, [Message(b"%d" % n) for n in range(20)])
    found = broker.receive(room, 0)
    assert len(found) == credit.get("requests", 0)
    assert len(other.receive({names.requests: 15}, 0) + other.receive({names.requests: 15}, 0)) >= 15
    assert all(client.hlen(key) for key in in_flight(client, names))


def test_who_may_not_come_back_takes_nothing_while_away(opened: Opener, names: Names) -> None:
    """A pipeline that collected, found nothing and does other things now: it wakes up, and claims then."""
    broker, other = opened(), opened()
    waits(broker, names.replies)
    other.send(names.replies, [Message(b"1")])
    assert bodies(other.receive({names.replies: 1}, 0)) == [b"1"]
    later = threading.Timer(0.1, other.send, [names.replies, [Message(b"2")]])
    later.start()
    assert bodies(broker.receive({names.replies: 1}, 30)) == [b"2"]
    later.join()


def test_what_it_holds_stays_its_own_when_its_room_shrinks(opened: Opener, names: Names) -> None:
    """Also what others send to its private queue."""
    broker, other = opened(reaps=True), opened()
    broker.own(names.replies_for("mine"))
    other.send(names.requests, [Message(b"held")])
    (held,) = broker.receive({names.requests: 10}, 5)
    waits(broker, names.requests)
    waits(broker, names.replies_for("mine"))
    other.send(names.replies_for("mine"), [Message(b"reply")])
    answer = Settlement(held, [Outgoing(names.replies, Message(b"answer"))])
    assert list(broker.commit([answer]).settled) == [answer]
    assert bodies(broker.receive({names.replies_for("mine"): 1}, 5)) == [b"reply"]


def test_a_waiting_claim_whose_answer_is_lost_comes_again(
    opened: Opener, proxy: Proxy, client: redis.Redis, names: Names
) -> None:
    """It has run, and nobody knows: whoever goes on under that id would hold the message for ever."""
    broker, sender = opened(proxy.port, reaps=True), opened()
    waits(broker, names.requests)
    proxy.mode = "down-drop"
    sender.send(names.requests, [Message(b"1")])
    until(lambda: in_flight(client, names), what="the claim")
    proxy.cut()
    proxy.mode = "pass"
    with pytest.raises(BrokerLost):
        broker.receive({names.requests: 10}, 5)
    broker.connect()
    (message,) = broker.receive({names.requests: 10}, 5)
    assert list(broker.commit([Settlement(message, ())]).settled)
    assert not in_flight(client, names)


def test_a_broken_wait_is_a_lost_connection(opened: Opener, client: redis.Redis, names: Names) -> None:
    """The other connection goes on: only a new id finds what the question may have taken."""
    broker, sender = opened(reaps=True), opened()
    waits(broker, names.requests)
    blocked = [other for other in client.client_list() if other["cmd"] == "blmove"]
    for other in blocked:
        client.client_kill_filter(_id=other["id"])
    with pytest.raises(BrokerLost):
        broker.receive({names.requests: 10}, 5)
    sender.send(names.requests, [Message(b"1")])
    broker.connect()
    assert bodies(broker.receive({names.requests: 10}, 5)) == [b"1"]


def test_a_claim_that_waits_under_an_earlier_id_gets_nothing(
    opened: Opener, client: redis.Redis, names: Names
) -> None:
    """On a connection that only its server believes in, the question stands a while longer."""
    broker, sender = opened(reaps=True), opened()
    assert broker.receive({names.requests: 1}, 0) == []
    left_behind = threading.Thread(target=ask, args=[client, broker, names.requests])
    left_behind.start()
    until(lambda: any(other["cmd"] == "blmove" for other in client.client_list()), what="the question")
    broker.connect()
    sender.send(names.requests, [Message(b"1")])
    left_behind.join()
    assert not in_flight(client, names)
    assert bodies(broker.receive({names.requests: 1}, 5)) == [b"1"]


def ask(client: redis.Redis, broker: RedisBroker, queue: str) -> None:
    pipeline = client.pipeline(transaction=False)
    for command in broker._claims.question(queue, 10).commands:
        pipeline.execute_command(*command)
    pipeline.execute()


def test_a_forgotten_script_does_not_end_a_wait(opened: Opener, client: redis.Redis, names: Names) -> None:
    """The claim that waited did not run; another does."""
    broker, sender = opened(reaps=True), opened()
    waits(broker, names.requests)
    client.script_flush()
    sender.send(names.requests, [Message(b"1")])
    assert bodies(broker.receive({names.requests: 10}, 5)) == [b"1"]


def test_a_private_queue_keeps_its_order_and_the_credit(opened: Opener, names: Names) -> None:
    """Whatever was asked for before, and whatever is given back in between."""
    broker, sender = opened(), opened()
    queue = names.replies_for("mine")
    broker.own(queue)
    waits(broker, queue, 64)
    sender.send(queue, [Message(b"%d" % n) for n in range(5)])
    first = broker.receive({queue: 2}, 5)
    assert bodies(first) == [b"0", b"1"]
    assert broker.receive({}, 0) == []
    assert bodies(broker.receive({queue: 1}, 5)) == [b"2"]
    broker.release(first)
    found: list[Message] = []
    until(lambda: found.extend(broker.receive({queue: 2}, 5)) or len(found) == 4, what="the rest")
    assert bodies(found) == [b"0", b"1", b"3", b"4"]


def test_a_private_message_is_settled_once_and_may_cause_others(opened: Opener, names: Names) -> None:
    """A broker's user need not know which queue is which."""
    broker = opened()
    queue = names.replies_for("mine")
    broker.own(queue)
    broker.send(queue, [Message(b"1")])
    (message,) = broker.receive({queue: 1}, 5)
    forward = Settlement(message, [Outgoing(names.replies_for("nobody"), Message(b"2"))])
    committed = broker.commit([forward])
    assert (list(committed.settled), list(committed.undeliverable)) == ([forward], list(forward.outgoing))
    assert list(broker.commit([Settlement(message, ())]).settled) == []
    broker.release([message])
    assert broker.receive({queue: 1}, 0) == []


def test_replies_go_round_the_records_of_a_holder(opened: Opener, client: redis.Redis, names: Names) -> None:
    """A private queue has one reader: nothing of it is ever in flight, and a settlement asks nothing."""
    broker, sender = opened(), opened()
    queue = names.replies_for("mine")
    broker.own(queue)
    waits(broker, queue)
    sender.send(queue, [Message(b"1")])
    before = scripts_run(client)
    messages = broker.receive({queue: 10}, 5)
    assert not in_flight(client, names)
    assert len(broker.commit([Settlement(message, ()) for message in messages]).settled) == 1
    assert scripts_run(client) == before


@pytest.mark.parametrize("verb", ["call", "map"])
def test_a_reply_that_was_taken_and_never_read_is_asked_for_again(
    opened: Opener, proxy: Proxy, client: redis.Redis, names: Names, verb: str
) -> None:
    """The private queue is empty and the reply is nowhere: its producer sends the request once more."""
    worker, replies = opened(), []
    producer = Producer(f"redis://127.0.0.1:{proxy.port}/0", prefix=names.prefix)

    def ask_for_one() -> None:
        replies.extend(
            [producer.call("p", timeout=30, priority="bulk")] if verb == "call" else producer.map(["p"])
        )

    asking = threading.Thread(target=ask_for_one)
    asking.start()
    (request,) = worker.receive({names.requests: 1}, 10)
    until(lambda: any(other["cmd"] == "brpop" for other in client.client_list()), what="the wait")
    proxy.mode = "down-drop"
    worker.commit([answered(request)])
    until(lambda: not client.exists(request.reply_to or ""), what="the reply to be taken")
    proxy.cut()
    proxy.mode = "pass"
    (again,) = worker.receive({names.requests: 1}, 10)
    assert (again.body, again.reply_to) == (request.body, request.reply_to)
    worker.commit([answered(again)])
    asking.join(30)
    assert [reply.result for reply in replies] == ["done"]
    producer.close()


def test_a_wait_that_died_without_a_sign_is_noticed(opened: Opener, proxy: Proxy, names: Names) -> None:
    """Nothing comes on its connection any more, not even that nothing came: that is a lost connection."""
    worker = opened(proxy.port, lease_seconds=2.0, reaps=True)
    assert worker.receive({names.requests: 1}, 0.01) == []
    proxy.mode = "silent"
    with pytest.raises(BrokerLost, match="connection that waits"):
        worker.receive({names.requests: 1}, 60)


def test_what_is_interrupted_in_its_middle_is_over(opened: Opener, names: Names) -> None:
    """Ctrl-C while an answer is read: the next reader must not get it."""
    broker = opened()
    with pytest.raises(KeyboardInterrupt), broker._caller.asking():
        raise KeyboardInterrupt
    with pytest.raises(BrokerLost):
        broker.receive({names.requests: 1}, 0)
    broker.connect()
    assert broker.receive({names.requests: 1}, 0) == []


def answered(message: Message) -> Settlement:
    """As a worker does it."""
    (request,) = decode_requests(message.body, message.content_type, message.correlation_id, Limits())
    assert isinstance(request, Request)
    reply = encode_result(request.id, b'"done"', Provenance(Outcome.MISS))
    (body,) = pack_replies([reply], 1 << 20)
    sent = Message(body, message.content_type, message.correlation_id)
    return Settlement(message, [Outgoing(message.reply_to or "", sent)])
