"""What every broker promises, on every broker."""

import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import pytest

from broker.base import (
    JSON,
    Broker,
    BrokerError,
    BrokerLost,
    BrokerUnreachable,
    Message,
    Outgoing,
    Settlement,
)
from broker.urls import mask, open_broker
from tests.support.waiting import free_port, until
from wire.names import Names


@pytest.fixture
def broker(broker_url: str, names: Names) -> Iterator[Broker]:
    opened = open_broker(broker_url, names)
    opened.connect()
    yield opened
    opened.close()


@pytest.fixture
def real_broker(real_broker_url: str, names: Names) -> Iterator[Broker]:
    opened = open_broker(real_broker_url, names)
    opened.connect()
    yield opened
    opened.close()


def receive(broker: Broker, queue: str, count: int) -> list[Message]:
    """So many messages, however many turns it takes."""
    found: list[Message] = []

    def enough() -> bool:
        found.extend(broker.receive({queue: count - len(found)}, 0.5))
        return len(found) >= count

    until(enough, what=f"{count} messages")
    return found


def test_a_message_arrives_as_it_was_sent(broker: Broker, names: Names) -> None:
    """Body, content type, correlation id, reply_to and headers survive."""
    sent = Message(b'{"payload":"\xc3\xa9"}', JSON, "id-1", names.replies_for("x"), {"enqueued_at": 1.5})
    broker.send(names.requests, [sent])
    (got,) = receive(broker, names.requests, 1)
    assert (got.body, got.content_type, got.correlation_id) == (sent.body, sent.content_type, "id-1")
    assert (got.reply_to, got.headers, got.queue) == (sent.reply_to, sent.headers, names.requests)
    assert got.deliveries == 1
    broker.commit([Settlement(got, ())])


def test_credit_is_never_exceeded(broker: Broker, names: Names) -> None:
    """At most so many are received, whatever waits; the rest stays for others."""
    broker.send(names.requests, [Message(b"%d" % n) for n in range(10)])
    first = broker.receive({names.requests: 3}, 5)
    assert [m.body for m in first] == [b"0", b"1", b"2"]
    assert broker.depth()[names.requests] == 7
    assert broker.receive({}, 0) == []


def test_looking_for_the_oldest_delivers_nothing(broker: Broker, names: Names) -> None:
    """Whether or not this broker can say: the message is there afterwards, for the first time."""
    broker.send(names.requests, [Message(b"a", headers={"enqueued_at": 5.0}), Message(b"b")])
    for _ in range(30):
        assert broker.oldest() in ({}, {names.requests: 5.0})
    got = receive(broker, names.requests, 2)
    assert [(m.body, m.deliveries) for m in got] == [(b"a", 1), (b"b", 1)]


def test_how_much_waits_in_a_reply_queue_is_said_without_taking_it(broker: Broker, names: Names) -> None:
    """Beside the prefix's own; one that is not there has nothing, and the next question is answered, too."""
    run, nobody = names.replies_for("run"), names.replies_for("nobody")
    broker.declare(run)
    broker.send(run, [Message(b"%d" % n) for n in range(3)])
    for _ in range(30):
        asked = broker.depth([nobody, run])
        assert asked == {**dict.fromkeys(names.queues, 0), nobody: 0, run: 3}
    assert [(m.body, m.deliveries) for m in receive(broker, run, 3)] == [(b"0", 1), (b"1", 1), (b"2", 1)]


def test_queues_are_taken_in_the_order_given(broker: Broker, names: Names) -> None:
    """The first queue is served first."""
    broker.send(names.requests, [Message(b"request")])
    broker.send(names.misses, [Message(b"miss")])
    until(lambda: broker.depth()[names.requests] == 1, what="the message")
    assert [m.body for m in broker.receive({names.misses: 1, names.requests: 1}, 5)] == [b"miss", b"request"]


@pytest.mark.parametrize("most", [4, 32])
def test_what_is_interactive_is_read_while_thousands_wait(
    real_broker: Broker, names: Names, most: int
) -> None:
    """It came last and is received soon, however little of the others is taken at a time."""
    real_broker.send(names.requests, [Message(b"%d" % n) for n in range(2000)])
    credit = {names.interactive: 8, names.misses: 8, names.requests: most}
    taken = real_broker.receive(credit, 5)
    assert {m.queue for m in taken} == {names.requests}
    real_broker.send(names.interactive, [Message(b"person", headers={"enqueued_at": 5.0})])
    assert real_broker.oldest() in ({}, {names.interactive: 5.0})

    def came() -> bool:
        more = real_broker.receive(credit, 0.5)
        taken.extend(more)
        return any(m.queue == names.interactive for m in more)

    until(came, what="the interactive message")
    assert len(taken) < 300, "it stood behind what was sent before"
    depth = real_broker.depth()
    assert (depth[names.interactive], depth[names.requests] > 1500) == (0, True)
    real_broker.release(taken)


def test_commit_sends_then_acknowledges(broker: Broker, names: Names) -> None:
    """After a commit the outgoing message is there and the request is gone."""
    broker.own(names.replies_for("mine"))
    broker.send(names.requests, [Message(b"ask", correlation_id="c")])
    (got,) = receive(broker, names.requests, 1)
    answer = Settlement(got, [Outgoing(names.replies_for("mine"), Message(b"answer", correlation_id="c"))])
    committed = broker.commit([answer])
    assert list(committed.settled) == [answer]
    assert receive(broker, names.replies_for("mine"), 1)[0].body == b"answer"
    assert broker.depth()[names.requests] == 0


def test_a_commit_goes_to_many_queues(broker: Broker, names: Names) -> None:
    """Many messages, several outgoing each, or none: all is where it belongs, and nothing is left."""
    broker.send(names.requests, [Message(b"%d" % n) for n in range(60)])
    messages = receive(broker, names.requests, 60)
    targets = (names.replies, names.misses, names.dead)
    settlements = [
        Settlement(m, [Outgoing(queue, Message(m.body)) for queue in targets[: n % 4]])
        for n, m in enumerate(messages)
    ]
    assert list(broker.commit(settlements).settled) == settlements
    for at, queue in enumerate(targets, 1):
        expected = [m.body for n, m in enumerate(messages) if n % 4 >= at]
        assert sorted(m.body for m in receive(broker, queue, len(expected))) == sorted(expected)
    broker.connect()
    assert broker.receive({names.requests: 1}, 0.2) == []


def bodies(settlements: Iterable[Settlement]) -> list[bytes]:
    """Of the messages that these settle, sorted."""
    return sorted(settlement.message.body for settlement in settlements)


def settled_in_time(broker: Broker, settlements: Sequence[Settlement]) -> list[Settlement]:
    """What is said to be settled after a commit that nobody waits for, and a wait that it has to end."""
    settled = list(broker.commit(settlements, wait=False).settled)
    if not settled:
        begun = time.monotonic()
        assert broker.receive({}, 30) == []
        assert time.monotonic() - begun < 15, "the wait ends with the commit"
        settled += broker.commit((), wait=False).settled
    return settled


def test_a_commit_goes_on_while_the_next_messages_are_received(broker: Broker, names: Names) -> None:
    """Begun batch by batch, nobody waiting: each settlement is reported once, and only after it was sent."""
    broker.send(names.requests, [Message(b"%d" % n) for n in range(300)])
    settled: list[Settlement] = []
    for _ in range(30):
        batch = [
            Settlement(m, [Outgoing(names.replies, Message(m.body))])
            for m in receive(broker, names.requests, 10)
        ]
        settled += broker.commit(batch, wait=False).settled
    settled += broker.commit(()).settled
    assert sorted(int(s.message.body) for s in settled) == list(range(300))
    assert broker.depth()[names.replies] == 300
    broker.connect()
    assert broker.receive({names.requests: 1}, 0.2) == []


def test_an_idle_user_hears_of_the_end_of_a_commit(broker: Broker, names: Names) -> None:
    """The wait for messages takes note of it, and ends."""
    broker.send(names.requests, [Message(b"%d" % n) for n in range(3)])
    messages = receive(broker, names.requests, 3)
    replied = [Settlement(m, [Outgoing(names.replies, Message(m.body))]) for m in messages[:2]]
    assert settled_in_time(broker, replied) == replied
    silent = [Settlement(messages[2], ())]
    assert settled_in_time(broker, silent) == silent


def test_one_commit_is_under_way_at_most(broker: Broker, names: Names) -> None:
    """The next one awaits its end, and reports it: what is held for commits stays bounded."""
    broker.send(names.requests, [Message(b"%d" % n) for n in range(6)])
    messages = receive(broker, names.requests, 6)
    known = 0
    for n, message in enumerate(messages):
        known += len(
            broker.commit([Settlement(message, [Outgoing(names.replies, message)])], wait=False).settled
        )
        assert known >= n


def test_what_is_under_commit_is_held(broker: Broker, names: Names) -> None:
    """It is not settled twice, nor given back, whoever asks for it."""
    broker.send(names.requests, [Message(b"once")])
    (message,) = receive(broker, names.requests, 1)
    settlement = Settlement(message, [Outgoing(names.replies, Message(b"answer"))])
    first = broker.commit([settlement], wait=False)
    broker.release([message])
    second = broker.commit([settlement], wait=False)
    third = broker.commit(())
    assert [*first.settled, *second.settled, *third.settled] == [settlement]
    assert broker.depth() == {**dict.fromkeys(names.queues, 0), names.replies: 1}


def test_a_commit_under_way_ends_once_whatever_becomes_of_the_connection(
    broker: Broker, names: Names
) -> None:
    """Begun, and the connection is another: it was done, or is done again, or the message is somebody
    else's. Nothing is lost, and each settlement is reported once."""
    broker.send(names.requests, [Message(b"%d" % n) for n in range(50)])
    settlements = [
        Settlement(m, [Outgoing(names.replies, Message(m.body))]) for m in receive(broker, names.requests, 50)
    ]
    first = broker.commit(settlements, wait=False)
    broker.connect()
    left = [s for s in settlements if s not in first.settled]
    second = broker.commit(left)
    assert not any(broker.commit(()))
    reports = [*first.settled, *second.settled, *second.gone]
    assert sorted(int(s.message.body) for s in reports) == list(range(50))
    for message in receive(broker, names.requests, len(second.gone)):
        broker.commit([Settlement(message, [Outgoing(names.replies, Message(message.body))])])
    replies = receive(broker, names.replies, 50)
    assert {int(m.body) for m in replies} == set(range(50))
    assert broker.depth()[names.requests] == 0


def test_a_reply_that_nobody_takes_is_found_late(real_broker: Broker, names: Names) -> None:
    """Its neighbours are settled with it, and the report says what became a dead letter."""
    real_broker.send(names.requests, [Message(b"%d" % n) for n in range(3)])
    messages = receive(real_broker, names.requests, 3)
    queues = (names.replies, names.replies_for("gone"), names.replies)
    settlements = [
        Settlement(m, [Outgoing(q, Message(m.body))]) for m, q in zip(messages, queues, strict=True)
    ]
    early = real_broker.commit(settlements, wait=False)
    late = real_broker.commit(())
    assert bodies([*early.settled, *late.settled]) == [b"0", b"1", b"2"]
    assert [out.queue for out in (*early.undeliverable, *late.undeliverable)] == [queues[1]]
    assert [m.body for m in receive(real_broker, names.dead, 1)] == [b"1"]
    assert sorted(m.body for m in receive(real_broker, names.replies, 2)) == [b"0", b"2"]


def test_credit_holds_over_several_receives(broker: Broker, names: Names) -> None:
    """Never more than the credit of each call, whatever is held meanwhile, and everything comes once."""
    broker.send(names.requests, [Message(b"%d" % n) for n in range(100)])
    found: list[Message] = []
    for credit in (1, 2, 50, 3, 1, 43):
        messages = receive(broker, names.requests, credit)
        assert len(messages) == credit
        found += messages
        broker.commit([Settlement(m, ()) for m in messages[: credit // 2]])
        assert broker.receive({names.requests: 0}, 0) == []
    assert sorted(int(m.body) for m in found) == list(range(100))
    assert broker.receive({names.requests: 1}, 0.2) == []


def test_what_is_not_wanted_any_more_goes_to_others(broker_url: str, names: Names) -> None:
    """A queue that is not named is given up: another broker gets all that the first does not hold."""
    first, second = open_broker(broker_url, names), open_broker(broker_url, names)
    first.connect()
    second.connect()
    first.send(names.requests, [Message(b"%d" % n) for n in range(20)])
    held = receive(first, names.requests, 5)
    first.receive({names.misses: 10}, 0)
    others = receive(second, names.requests, 15)
    assert sorted(int(m.body) for m in held + others) == list(range(20))
    first.close()
    second.close()


def test_many_messages_are_sent_confirmed(broker: Broker, names: Names) -> None:
    """Everything is there when send returns, in order."""
    broker.send(names.requests, [Message(b"%d" % n) for n in range(5000)])
    assert broker.depth()[names.requests] == 5000
    assert [m.body for m in receive(broker, names.requests, 200)] == [b"%d" % n for n in range(200)]


def test_large_bodies_survive(broker: Broker, names: Names) -> None:
    """Larger than a frame, a socket buffer, and empty."""
    bodies = [b"", b"x", bytes(range(256)) * 2048, b"y" * 131_072, b"z" * 6_000_000]
    broker.send(names.requests, [Message(body) for body in bodies])
    assert [m.body for m in receive(broker, names.requests, len(bodies))] == bodies


def test_odd_headers_survive(broker: Broker, names: Names) -> None:
    """Whatever JSON can say."""
    headers = {
        "text": "é\u2028\U0001f600",
        "nothing": None,
        "yes": True,
        "number": -(1 << 62),
        "half": 0.5,
        "list": [1, "two", [3.5, None]],
        "object": {"a": {"b": {}}},
        "": "",
    }
    broker.send(names.requests, [Message(b"m", headers=headers)])
    assert receive(broker, names.requests, 1)[0].headers == headers


def test_wake_from_another_thread_ends_a_wait(broker: Broker, names: Names) -> None:
    """While it is under way, or just before."""
    thread = threading.Thread(target=broker.wake)
    before = time.monotonic()
    thread.start()
    assert broker.receive({names.requests: 1}, 30) == []
    assert time.monotonic() - before < 20
    thread.join()


def test_a_wait_lasts_until_its_timeout(broker: Broker, names: Names) -> None:
    """Nothing came and nobody woke it: it does not return early to be called again in a circle."""
    broker.receive({names.requests: 1}, 0)
    before = time.monotonic()
    assert broker.receive({names.requests: 1}, 0.5) == []
    assert time.monotonic() - before >= 0.49


def test_released_messages_come_again(broker: Broker, names: Names) -> None:
    """What is given back is delivered again."""
    broker.send(names.requests, [Message(b"again")])
    broker.release(receive(broker, names.requests, 1))
    assert receive(broker, names.requests, 1)[0].body == b"again"


def test_what_was_held_is_answered_once_after_a_reconnect(broker: Broker, names: Names) -> None:
    """Either it is still ours, and the late commit settles it; or it comes again, and the late commit does
    nothing. Never both."""
    broker.send(names.requests, [Message(b"held")])
    (held,) = receive(broker, names.requests, 1)
    broker.connect()
    committed = broker.commit([Settlement(held, [Outgoing(names.replies, Message(b"answer"))])])
    if not committed.settled:
        assert broker.depth()[names.replies] == 0
        (again,) = receive(broker, names.requests, 1)
        assert again.body == b"held"
        broker.commit([Settlement(again, [Outgoing(names.replies, Message(b"answer"))])])
    assert [m.body for m in receive(broker, names.replies, 1)] == [b"answer"]
    assert broker.depth()[names.requests] == 0


def test_closing_gives_back(broker_url: str, names: Names) -> None:
    """Another broker receives what the closed one held."""
    first, second = open_broker(broker_url, names), open_broker(broker_url, names)
    first.connect()
    first.send(names.requests, [Message(b"orphan")])
    receive(first, names.requests, 1)
    first.close()
    second.connect()
    assert receive(second, names.requests, 1)[0].body == b"orphan"
    second.close()


def test_compressed_bodies_stay_compressed(broker: Broker, names: Names) -> None:
    """A hostile body is not inflated before anybody can look; its header is kept."""
    bomb = b"x\x9cnot really zlib"
    broker.send(names.requests, [Message(bomb, headers={"compression": "application/x-gzip"})])
    (got,) = receive(broker, names.requests, 1)
    assert got.body == bomb
    assert got.headers["compression"] == "application/x-gzip"


def test_purge_drops_what_waits(broker: Broker, names: Names) -> None:
    """Purging says how many."""
    broker.send(names.dead, [Message(b"a"), Message(b"b")])
    until(lambda: broker.depth()[names.dead] == 2, what="two letters")
    assert broker.purge(names.dead) == 2
    assert broker.depth()[names.dead] == 0


def test_wake_ends_a_wait(broker: Broker, names: Names) -> None:
    """A wake that came before the wait is not lost."""
    broker.wake()
    assert broker.receive({names.requests: 1}, 30) == []


def test_using_an_unconnected_broker_is_a_lost_connection(broker_url: str, names: Names) -> None:
    """Nothing is sent into the void."""
    opened = open_broker(broker_url, names)
    with pytest.raises(BrokerLost):
        opened.send(names.requests, [Message(b"x")])
    opened.close()


@pytest.mark.parametrize("scheme", ["redis", "pyamqp"])
def test_an_absent_server_is_unreachable(scheme: str, names: Names) -> None:
    """The error names the broker, without its password."""
    opened = open_broker(f"{scheme}://user:secret@127.0.0.1:{free_port()}/0", names)
    with pytest.raises(BrokerUnreachable) as caught:
        opened.connect()
    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)
    opened.close()


@pytest.mark.parametrize("url", ["", "localhost:6379", "ftp://x/", "redis:/x", "kafka://h"])
def test_unknown_urls_are_refused(url: str, names: Names) -> None:
    """The error says what is expected."""
    with pytest.raises(BrokerError, match="expected embedded:"):
        open_broker(url, names)


_SENTINEL = "expected redis+sentinel://[user:password@]host:26379,host2:26379/MASTER[/DATABASE]"
_AMQP = "expected amqp, pyamqp, amqps, with options for TLS only: "


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+sentinel://", _SENTINEL),
        ("redis+sentinel://host", _SENTINEL),
        ("redis+sentinel://host/m/zero", _SENTINEL),
        ("redis+sentinel://host:port/m", "'host:port' is no host"),
        ("redis+sentinel://host/m?passwort=x", "passwort is not known"),
        ("redis://host:port/0", "Port could not be cast"),
        ("redis://host/0?decode_responses=true", "decode_responses cannot be set"),
        ("redis://host/0?pasword=x", "unexpected keyword argument 'pasword'"),
        ("redis://h/0?ssl_ca_certs=/x", "ssl_ca_certs: options of TLS need rediss://"),
        ("rediss://h/0?ssl_ca_cert=/x", "ssl_ca_cert is not known; TLS has: ssl_ca_certs,"),
        ("rediss://h/0?ssl_cert_reqs=optional", "'optional'; expected required or none"),
        ("rediss://h/0?ssl_cert_reqs=", "''; expected required or none"),
        ("amqps://h//?cert_reqs=none", f"{_AMQP}amqps ['cert_reqs']"),
        ("amqps://h//;pyamqp://i//", "expected TLS for all nodes or for none"),
        ("pyamqp://h//;amqps://i//", "expected TLS for all nodes or for none"),
        ("pyamqp://h//?heartbeat=1", f"{_AMQP}pyamqp ['heartbeat']"),
        ("amqps://h//?verify=no", f"{_AMQP}amqps ['verify']"),
        ("pyamqp://h//;redis://h", f"{_AMQP}redis []"),
    ],
)
def test_a_url_that_nobody_would_obey_is_refused(url: str, expected: str, names: Names) -> None:
    """It names no server, or an option of it, misspelt maybe, would mean less than it says."""
    with pytest.raises(BrokerError, match=re.escape(expected)):
        open_broker(url, names)


def test_a_correlation_id_that_no_reply_could_carry_is_dropped(valkey: object, names: Names) -> None:
    """A lone surrogate or a number in the envelope: the message arrives, without that property."""
    broker = open_broker(valkey.url, names)  # type: ignore[attr-defined]
    broker.connect()
    properties = b'{"delivery_tag":"t%d","delivery_info":{},"correlation_id":%b,"reply_to":7}'
    envelope = b'{"body":"{}","properties":' + properties + b"}"
    with valkey.client() as client:  # type: ignore[attr-defined]
        client.lpush(names.requests, envelope % (1, b'"a\\ud800"'), envelope % (2, b"5"))
    found = receive(broker, names.requests, 2)
    assert [(m.problem, m.correlation_id, m.reply_to) for m in found] == [(None, None, None)] * 2
    broker.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:pw@h:1/2", "redis://me:***@h:1/2"),
        ("redis://h:1/2", "redis://h:1/2"),
        ("redis://me:p;w@h:1/2", "redis://me:***@h:1/2"),
        ("pyamqp://a:pw@h:1//;pyamqp://b:pw@i:2//", "pyamqp://a:***@h:1//;pyamqp://b:***@i:2//"),
        ("pyamqp://a:pw@h//;b:pw@i//;j", "pyamqp://a:***@h//;b:***@i//;j"),
        ("redis://h/0?password=pw&db=1", "redis://h/0?password=***&db=1"),
        ("sqs://h?Auth_Token=pw;redis://x:pw@h", "sqs://h?Auth_Token=***;redis://x:***@h"),
        ("amqps://h//?ca_certs=/c.pem", "amqps://h//?ca_certs=/c.pem"),
    ],
)
def test_masking_hides_only_secrets(url: str, shown: str) -> None:
    """Users, hosts, paths and harmless options stay readable."""
    assert mask(url) == shown


def test_a_reply_nobody_can_take_becomes_a_dead_letter(
    rabbit_server: object, prefix: str, names: Names
) -> None:
    """RabbitMQ returns what no queue takes: it is set aside, the message is settled."""
    broker = open_broker(rabbit_server.url(), names)  # type: ignore[attr-defined]
    broker.connect()
    broker.send(names.requests, [Message(b"ask")])
    (got,) = receive(broker, names.requests, 1)
    gone = Outgoing(names.replies_for("gone"), Message(b"answer", correlation_id="c"))
    committed = broker.commit([Settlement(got, [gone])])
    assert list(committed.undeliverable) == [gone]
    (letter,) = receive(broker, names.dead, 1)
    assert (letter.body, letter.headers["reason"]) == (b"answer", "undeliverable")
    broker.close()


@pytest.mark.parametrize(
    "item",
    [
        b"garbage",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b'{"body":1,"properties":{"delivery_tag":"t","delivery_info":{}}}',
        b'{"body":"!!","properties":{"delivery_tag":"t","delivery_info":{},"body_encoding":"base64"}}',
        b'{"body":"x","properties":{"delivery_tag":"t","delivery_info":{},"body_encoding":"rot13"}}',
        b'{"body":"x","headers":[1],"properties":{"delivery_tag":"t","delivery_info":{}}}',
        b'{"__type__":"datetime","__value__":"never"}',
    ],
)
def test_an_unreadable_envelope_is_received_verbatim(valkey: object, names: Names, item: bytes) -> None:
    """What is no kombu envelope is neither lost nor an exception, and its neighbour arrives."""
    broker = open_broker(valkey.url, names)  # type: ignore[attr-defined]
    broker.connect()
    with valkey.client() as client:  # type: ignore[attr-defined]
        client.lpush(names.requests, item)
    broker.send(names.requests, [Message(b"neighbour")])
    bad, good = receive(broker, names.requests, 2)
    assert bad.problem
    assert bad.body == item
    assert good.body == b"neighbour"
    assert good.problem is None
    broker.close()


def test_two_queues_that_are_full_are_both_taken_from_and_nothing_is_forgotten(
    broker: Broker, names: Names
) -> None:
    """The first in small parts, as there is room; whatever was taken ahead of the other is delivered."""
    count = 600
    for queue in (names.misses, names.requests):
        broker.send(queue, [Message(b"%b %d" % (queue.encode(), n)) for n in range(count)])
    seen: list[bytes] = []
    early: set[str] = set()

    def is_all() -> bool:
        taken = broker.receive({names.misses: 32, names.requests: 256}, 0.2)
        broker.commit([Settlement(message, ()) for message in taken], wait=False)
        seen.extend(message.body for message in taken)
        if len(seen) < count:
            early.update(message.queue for message in taken)
        return len(seen) >= 2 * count

    until(is_all, 60, "all messages")
    broker.commit(())
    assert len(set(seen)) == len(seen) == 2 * count
    assert early == {names.misses, names.requests}, "neither waits for the end of the other"
