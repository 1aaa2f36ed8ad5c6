"""What every broker promises, on every broker."""

from collections.abc import Iterator

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
def names(prefix: str) -> Names:
    return Names(prefix)


@pytest.fixture
def broker(broker_url: str, names: Names) -> Iterator[Broker]:
    opened = open_broker(broker_url, names)
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


def test_queues_are_taken_in_the_order_given(broker: Broker, names: Names) -> None:
    """The first queue is served first."""
    broker.send(names.requests, [Message(b"request")])
    broker.send(names.misses, [Message(b"miss")])
    until(lambda: broker.depth()[names.requests] == 1, what="the message")
    assert [m.body for m in broker.receive({names.misses: 1, names.requests: 1}, 5)] == [b"miss", b"request"]


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


def test_masking_hides_only_the_password() -> None:
    """User, host and path stay readable."""
    assert mask("redis://me:pw@h:1/2") == "redis://me:***@h:1/2"
    assert mask("redis://h:1/2") == "redis://h:1/2"


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
