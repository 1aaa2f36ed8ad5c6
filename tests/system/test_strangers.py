"""Producers and consumers that have never heard of recollect, and bodies that no producer should send."""

import uuid
from collections.abc import Iterator

import kombu
import orjson
import pika
import pytest
import redis

from broker.base import JSON, NDJSON, Message
from tests.support.rig import Rig, collect
from tests.support.servers import RabbitServer, ValkeyServer
from tests.support.waiting import until


def test_a_stock_kombu_producer_and_consumer(rig: Rig, real_broker_url: str) -> None:
    """SimpleQueue on both ends, as docs/contract.md says; nothing of ours in between."""
    rig.work()
    replies = rig.names.replies_for("stock")
    broker = rig.broker()
    broker.declare(replies)
    broker.close()
    with kombu.Connection(real_broker_url) as connection:
        asking, answering = rig.names.requests, replies
        if real_broker_url.startswith("pyamqp"):
            asking, answering = (kombu.Queue(n, routing_key=n, no_declare=True) for n in (asking, answering))
        requests, answers = connection.SimpleQueue(asking), connection.SimpleQueue(answering)
        for payload in ({"text": "é"}, {"text": "é"}):
            requests.put({"payload": payload}, reply_to=replies, correlation_id=uuid.uuid4().hex)
            message = answers.get(timeout=20)
            assert message.payload["result"] == {"echo": payload}
            message.ack()
        assert message.payload["outcome"] == "hit"
        requests.close()
        answers.close()


def test_kombu_priorities_are_read(redis_rig: Rig) -> None:
    """On Redis a priority is another list: what is in it must not wait for ever."""
    rig = redis_rig
    rig.work()
    replies = rig.names.replies_for("p")
    broker = rig.broker()
    broker.declare(replies)
    with kombu.Connection(rig._broker_url) as connection:
        queue = connection.SimpleQueue(rig.names.requests)
        for priority in (0, 3, 5, 6, 9):
            queue.put({"payload": priority}, reply_to=replies, priority=priority)
        queue.close()
    found = collect(broker, replies, 5)
    assert {orjson.loads(m.body)["result"]["echo"] for m in found} == {0, 3, 5, 6, 9}
    broker.close()


def test_pika_on_rabbitmq(
    rabbit_server: RabbitServer, tmp_path: object, valkey: ValkeyServer, model: object, prefix: str
) -> None:
    """Publish to the default exchange, get the reply: no kombu anywhere, not even a content type."""
    rig = Rig(tmp_path, rabbit_server.url(), valkey, model, prefix)  # type: ignore[arg-type]
    rig.work()
    replies = rig.names.replies_for("pika")
    parameters = pika.ConnectionParameters("127.0.0.1", rabbit_server.port)
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.queue_declare(replies, durable=True, arguments={"x-queue-type": "quorum"})
    channel.basic_publish(
        "",
        rig.names.requests,
        b'{"payload":{"text":"a"}}',
        pika.BasicProperties(reply_to=replies, correlation_id="mine"),
    )

    def answer() -> object:
        method, properties, body = channel.basic_get(replies, auto_ack=True)
        return method and (properties.correlation_id, orjson.loads(body)["result"])

    assert until(answer, what="the reply") == ("mine", {"echo": {"text": "a"}})
    connection.close()
    rig.close()


def malformed() -> Iterator[bytes]:
    """Bodies that the contract refuses, made by damaging good ones in every way we could think of."""
    yield from damaged(GOOD)
    yield from wrong_values()
    yield from wrong_types()
    yield from wrong_names()
    yield from (b"", b" ", b"\t", b"'payload'", b"<a/>", b"\x80\x04.")
    yield b'{"payload":"%b"}' % (b"x" * 70_000)
    yield b'{"payload":1,"id":"%b"}' % (b"i" * 257)


GOOD = b'{"payload":{"text":"a"},"id":"x"}'


def damaged(good: bytes) -> Iterator[bytes]:
    for cut in range(1, len(good)):
        yield good[:cut]
    for position in range(len(good)):
        yield good[:position] + b"\x00" + good[position:]
        yield good[:position] + b"\xff" + good[position:]
    yield from (b"\xef\xbb\xbf" + good, good + good, good + b",")


def wrong_values() -> Iterator[bytes]:
    """No JSON, or more of it than is taken."""
    for word in (
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"undefined",
        b"True",
        b"None",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"0x1",
    ):
        yield b'{"payload":%b}' % word
    for number in (2**64, -(2**63) - 1, 10**30, 10**300):
        yield b'{"payload":%d}' % number
        yield b'{"payload":{"a":[1,%d]}}' % number
    for depth in (255, 300, 1023, 1025, 5000):
        yield b'{"payload":%b%b}' % (b"[" * depth, b"]" * depth)
        yield b'{"payload":%b1%b}' % (b'{"a":' * depth, b"}" * depth)
    yield b'{"payload":"\\ud800"}'
    for ttl in (b"0", b"-0.0", b"1e999"):
        yield b'{"payload":1,"ttl":%b}' % ttl


def wrong_types() -> Iterator[bytes]:
    for kind in (b"1", b"1.5", b'"x"', b"[]", b"{}", b"null", b"[{}]"):
        for field in (b"bypass", b"refresh", b"no_store", b"reply"):
            yield b'{"payload":1,"%b":%b}' % (field, kind)
        if kind not in (b'"x"',):
            yield b'{"payload":1,"id":%b}' % kind
            yield b'{"payload":1,"model":%b}' % kind
        yield kind
        if kind not in (b"1", b"1.5"):
            yield b'{"payload":1,"ttl":%b}' % kind


def wrong_names() -> Iterator[bytes]:
    """Of fields and of models."""
    for name in ("by_pass", "Payload", "cache", "max-age", "ttl ", "", "\u202e", "x" * 1000, "deadlin"):
        yield b'{"payload":1,%b:true}' % orjson.dumps(name)
    for model in ("nobody", "", "M", "m " * 100, "../m", "m\x00"):
        yield b'{"payload":1,"model":%b}' % orjson.dumps(model)


def test_the_corpus_is_large_enough() -> None:
    """At least 200 different bodies, none of which the contract takes."""
    assert len(set(malformed())) >= 200


@pytest.mark.parametrize("packed", [False, True])
def test_every_malformed_body_is_answered_and_every_neighbour_too(rig: Rig, packed: bool) -> None:
    """Alone and in the middle of a packed message: an error that explains, and the worker goes on."""
    worker = rig.work(REQUEST_MAX_BYTES="65536")
    bad = [body for body in dict.fromkeys(malformed()) if not (packed and b"\n" in body)]
    if packed:
        messages = [
            Message(b'{"payload":"before"}\n%b\n{"payload":"after"}\n' % body, NDJSON, f"c{n}")
            for n, body in enumerate(bad)
        ]
    else:
        messages = [Message(body, JSON, f"c{n}") for n, body in enumerate(bad)]
        messages.append(Message(b'{"payload":"before"}', JSON, "good"))
    replies = {m.correlation_id: m for m in rig.ask(*messages)}
    assert len(replies) == len(messages)
    for number, body in enumerate(bad):
        rows = [orjson.loads(line) for line in replies[f"c{number}"].body.splitlines()]
        if packed:
            before, rows, after = rows[0], rows[1:2], rows[2]
            assert (before["result"], after["result"]) == ({"echo": "before"}, {"echo": "after"}), body
        assert rows[0]["status"] == "error", body
        assert rows[0]["error"]["kind"] in ("invalid_request", "unknown_model"), body
        assert 0 < len(rows[0]["error"]["message"]) <= 500
        assert rows[0]["outcome"] == "invalid"
    assert worker.child.poll() is None
    sent = len(bad) * 3 if packed else len(bad) + 1
    until(lambda: sum(worker.outcomes().values()) == sent, what="the count of outcomes")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Message(b"\x80\x04.", "application/x-python-serialize"), "content type"),
        (Message(b"a: 1", "application/x-yaml"), "content type"),
        (Message(b"x\x9c", JSON, headers={"compression": "application/x-gzip"}), "compressed"),
        (Message(b'{"payload":"%b"}' % (b"x" * 99_000), JSON), "message has 99014 bytes"),
        (Message(b'{"payload":1}', JSON, reply_to="celery"), "reply_to 'celery' is not taken"),
        (Message(b'{"payload":1}', JSON, reply_to="SELF"), "is not taken"),
        (Message(b'{"payload":1}\n{"payload":2}\n', NDJSON, reply_to="a\nb"), "is not taken"),
    ],
)
def test_messages_that_are_refused_as_they_come(rig: Rig, message: Message, said: str) -> None:
    """Pickle, YAML, compressed, too large, a reply_to outside the pattern: an error on the shared queue."""
    if message.reply_to == "SELF":
        message.reply_to = rig.names.requests
    rig.work(MESSAGE_MAX_BYTES="65536")
    (reply,) = rig.ask(message)
    for line in reply.body.splitlines():
        assert said in orjson.loads(line)["error"]["message"]
    assert rig.call("neighbour").ok


def test_an_undecodable_message_becomes_a_dead_letter(redis_rig: Rig) -> None:
    """Nobody can be answered for it: verbatim, with the reason, and its neighbour is answered."""
    rig = redis_rig
    worker = rig.work()
    with redis.Redis(port=rig.cache_server.port) as client:
        client.lpush(rig.names.requests, b"\xff not an envelope")
    assert rig.call("neighbour").ok
    broker = rig.broker()
    (letter,) = collect(broker, rig.names.dead, 1)
    broker.close()
    assert letter.body == b"\xff not an envelope"
    assert letter.headers["reason"] == "undecodable"
    assert letter.headers["original"]["queue"] == rig.names.requests
    until(
        lambda: 'recollect_dead_letters_total{reason="undecodable"} 1.0' in worker.get("/metrics")[1],
        what="the count",
    )
