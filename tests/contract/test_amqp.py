"""What RabbitMQ may do to the broker of ours, and what must hold all the same."""

import contextlib
import math
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import amqp
import pika
import pytest

from broker.amqp import broker as broker_module
from broker.amqp.broker import AmqpBroker
from broker.base import (
    WHOLE,
    BrokerLost,
    BrokerOptions,
    BrokerUnreachable,
    Message,
    Outgoing,
    Settlement,
)
from broker.urls import open_broker
from tests.support.servers import RabbitServer
from tests.support.waiting import accepts, free_port, until
from wire.names import Names

Opener = Callable[..., AmqpBroker]


@pytest.fixture
def opened(rabbit_server: RabbitServer, names: Names) -> Iterator[Opener]:
    """Opens brokers with the options given, and closes them at the end."""
    brokers: list[AmqpBroker] = []

    def opener(**options: Any) -> AmqpBroker:
        broker = AmqpBroker(rabbit_server.url(), names, shown="rabbit", **options)
        broker.connect()
        brokers.append(broker)
        return broker

    yield opener
    for broker in brokers:
        broker.close()


@pytest.fixture
def stranger(rabbit_server: RabbitServer) -> Iterator[Any]:
    """A channel of pika's."""
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", rabbit_server.port))
    yield connection.channel()
    with contextlib.suppress(pika.exceptions.AMQPError):
        connection.close()


def receive(broker: AmqpBroker, queue: str, count: int) -> list[Message]:
    """So many messages, however many turns it takes."""
    found: list[Message] = []

    def enough() -> bool:
        found.extend(broker.receive({queue: count - len(found)}, 0.5))
        return len(found) >= count

    until(enough, 30, what=f"{count} messages in {queue}, so far {len(found)}")
    return found


def drained(broker: AmqpBroker, queue: str) -> list[bytes]:
    """The bodies of all messages in `queue`, acknowledged."""
    bodies: list[bytes] = []
    while messages := broker.receive({queue: 1000}, 1):
        broker.commit([Settlement(message, ()) for message in messages])
        bodies += [message.body for message in messages]
    return bodies


def reconnect(broker: AmqpBroker) -> None:
    """Connect, as soon as there is something to connect to."""

    def connected() -> bool:
        try:
            broker.connect()
        except BrokerUnreachable:
            return False
        return True

    until(connected, 60, "the connection")


@contextlib.contextmanager
def meanwhile(*steps: Callable[[], Any]) -> Iterator[None]:
    """Run `steps` on another thread beside the body."""
    thread = threading.Thread(target=lambda: [step() for step in steps])
    thread.start()
    try:
        yield
    finally:
        thread.join()


def lost(step: Callable[[], Any]) -> str:
    """What BrokerLost says, once it comes of repeating `step`."""

    def said() -> str:
        try:
            step()
        except BrokerLost as error:
            return str(error)
        return ""

    return until(said, 60, "the loss of the connection")


def replied(message: Message, queue: str) -> Settlement:
    """Answered with its own body."""
    return Settlement(message, [Outgoing(queue, Message(message.body))])


def numbered(count: int, start: int = 0) -> list[Message]:
    return [Message(b"%d" % n, correlation_id=str(n)) for n in range(start, start + count)]


# Lost connections


def test_what_was_confirmed_is_there_after_every_connection_was_closed(
    opened: Opener, rabbit_server: RabbitServer, names: Names
) -> None:
    """In the middle of sending: BrokerLost, and whatever `send` returned for is in the queue."""
    broker = opened()
    confirmed: list[bytes] = []

    def send() -> None:
        messages = numbered(200, len(confirmed))
        broker.send(names.requests, messages)
        confirmed.extend(message.body for message in messages)

    with meanwhile(lambda: rabbit_server.ctl("close_all_connections", "a test")):
        lost(send)
    broker.connect()
    assert confirmed
    assert set(confirmed) <= set(drained(broker, names.requests))


def test_a_message_of_a_lost_connection_is_nobodys_to_commit(
    opened: Opener, rabbit_server: RabbitServer, names: Names
) -> None:
    """Its late commit and release send nothing; it comes again, counted."""
    broker = opened()
    broker.send(names.requests, numbered(2))
    first, second = receive(broker, names.requests, 2)
    rabbit_server.ctl("close_all_connections", "a test")
    lost(lambda: broker.receive({names.requests: 1}, 5))
    with pytest.raises(BrokerLost):
        broker.commit([Settlement(first, [Outgoing(names.replies, Message(b"late"))])])
    broker.connect()
    again = receive(broker, names.requests, 2)
    assert sorted((m.body, m.deliveries) for m in again) == [(b"0", 2), (b"1", 2)]
    # The new channel numbers from 1 again: an old number must not settle a new message.
    late = broker.commit([Settlement(first, [Outgoing(names.replies, Message(b"late"))])])
    broker.release([second])
    broker.blame(second, 0)
    assert (late.settled, late.undeliverable) == ([], [])
    assert broker.receive({names.requests: 2}, 0.3) == []
    assert broker.depth()[names.replies] == 0
    assert len(broker.commit([Settlement(m, ()) for m in again]).settled) == 2


def test_commits_cut_short_lose_nothing(opened: Opener, rabbit_server: RabbitServer, names: Names) -> None:
    """Connections closed while commits are under way: every request is answered at least once."""
    broker, count = opened(), 3000
    broker.send(names.requests, numbered(count))

    def answer_all() -> None:
        while messages := broker.receive({names.requests: 50}, 2):
            broker.commit([Settlement(m, [Outgoing(names.replies, Message(m.body))]) for m in messages])

    with meanwhile(lambda: rabbit_server.ctl("close_all_connections", "a test")):
        # What is answered before the connections go is simply asked again.
        lost(lambda: (answer_all(), broker.send(names.requests, numbered(count))))
        reconnect(broker)
    answer_all()
    assert {int(body) for body in drained(broker, names.replies)} == set(range(count))


def test_a_commit_under_way_on_a_lost_connection_is_begun_again(
    opened: Opener, rabbit_server: RabbitServer, names: Names
) -> None:
    """Whatever was not acknowledged comes again, and its late commit is gone; each is reported once."""
    broker = opened()
    broker.send(names.requests, numbered(300))
    batches = [receive(broker, names.requests, 50) for _ in range(6)]
    settlements = [[replied(m, names.replies) for m in batch] for batch in batches]
    reports: list[Settlement] = []

    def go_on() -> None:
        reports.extend(broker.commit(settlements.pop(), wait=False).settled if settlements else ())
        broker.receive({names.misses: 1}, 0.05)

    everything = [s for batch in settlements for s in batch]
    with meanwhile(lambda: rabbit_server.ctl("close_all_connections", "a test")):
        lost(go_on)
    broker.connect()
    unreported = [s for s in everything if all(s is not other for other in reports)]
    committed = broker.commit(unreported)
    reports += [*committed.settled, *committed.gone]
    assert sorted(int(s.message.body) for s in reports) == list(range(300))
    again = receive(broker, names.requests, len(committed.gone))
    assert {m.body for m in again} <= {s.message.body for s in committed.gone}
    broker.commit([replied(m, names.replies) for m in again])
    assert {int(body) for body in drained(broker, names.replies)} == set(range(300))


def test_a_killed_node_comes_back_with_everything(
    opened: Opener, rabbit_server: RabbitServer, names: Names
) -> None:
    """kill -9 and start: what was confirmed, and what was held, is there."""
    broker = opened()
    broker.send(names.requests, numbered(500))
    receive(broker, names.requests, 20)
    rabbit_server.kill()
    lost(lambda: broker.receive({names.requests: 1}, 5))
    with pytest.raises(BrokerUnreachable):
        broker.connect()
    rabbit_server.start()
    reconnect(broker)
    assert sorted(int(body) for body in drained(broker, names.requests)) == list(range(500))


def test_a_stopped_application_comes_back(opened: Opener, rabbit_server: RabbitServer, names: Names) -> None:
    """An orderly restart under a waiting receive."""
    broker = opened()
    broker.send(names.requests, numbered(1))
    with meanwhile(lambda: rabbit_server.ctl("stop_app"), lambda: rabbit_server.ctl("start_app")):
        lost(lambda: broker.receive({names.misses: 1}, 5))
    reconnect(broker)
    assert [m.body for m in receive(broker, names.requests, 1)] == [b"0"]


def test_a_frozen_server_does_not_keep_us(opened: Opener, rabbit_server: RabbitServer, names: Names) -> None:
    """Heartbeats notice it, closing is bounded, and an attempt to connect fails in time."""
    waiting, closing = opened(heartbeat_seconds=1), opened()
    closing.own(names.replies_for("mine"))
    rabbit_server.send_signal(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(BrokerLost, match="heartbeats"):
            waiting.receive({names.requests: 1}, 60)
        closing.close()
        with pytest.raises(BrokerUnreachable):
            waiting.connect()
        assert time.monotonic() - begun < 30
    finally:
        rabbit_server.send_signal(signal.SIGCONT)


def test_a_queue_deleted_under_us_is_declared_again(
    opened: Opener, rabbit_server: RabbitServer, names: Names
) -> None:
    """The broker says that the consumer is cancelled: a new connection declares, and all goes on."""
    broker = opened()
    broker.receive({names.requests: 5}, 0)
    rabbit_server.ctl("delete_queue", names.requests)
    lost(lambda: broker.receive({names.requests: 5}, 5))
    broker.connect()
    broker.send(names.requests, numbered(1))
    assert receive(broker, names.requests, 1)[0].body == b"0"


def test_a_message_held_for_too_long_comes_again(
    opened: Opener, rabbit_server: RabbitServer, names: Names
) -> None:
    """The broker's consumer timeout closes the channel: a lost connection like any other."""
    intervals = {"consumer_timeout": 1000, "channel_tick_interval": 500}
    try:
        for name, milliseconds in intervals.items():
            rabbit_server.ctl("eval", f"application:set_env(rabbit, {name}, {milliseconds}).")
        broker = opened()
        broker.send(names.requests, numbered(1))
        receive(broker, names.requests, 1)
        assert "PRECONDITION_FAILED" in lost(lambda: broker.receive({names.requests: 1}, 5))
    finally:
        rabbit_server.ctl("eval", "application:set_env(rabbit, consumer_timeout, 1800000).")
        rabbit_server.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 60000).")
    broker.connect()
    assert receive(broker, names.requests, 1)[0].deliveries == 2


# Heartbeats and alarms


@pytest.mark.parametrize("load", [0, 50], ids=["idle", "loaded"])
def test_heartbeats_are_kept(opened: Opener, names: Names, load: int) -> None:
    """With a heartbeat of 2 s the server would hang up after 4 to 6: idle, under load, in a long wait."""
    broker = opened(heartbeat_seconds=2)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        broker.keep_alive()
        if load:
            broker.send(names.requests, numbered(load))
        messages = broker.receive({names.requests: load}, 0 if load else 0.3)
        broker.commit([Settlement(message, ()) for message in messages])
    assert broker.receive({names.misses: 1}, 8) == []
    broker.send(names.misses, numbered(1))
    assert receive(broker, names.misses, 1)


@pytest.fixture
def alarm(rabbit_server: RabbitServer) -> Iterator[Callable[[bool], None]]:
    """Puts the node out of memory, or back."""

    def switch(on: bool) -> None:
        rabbit_server.ctl("set_vm_memory_high_watermark", *(["0"] if on else ["absolute", "1GiB"]))
        until(lambda: is_raised() == on, what="the alarm to be raised" if on else "its end")

    def is_raised() -> bool:
        return "memory" in rabbit_server.ctl("eval", "rabbit_alarm:get_alarms().")

    yield switch
    switch(False)


def test_a_blocked_publisher_waits_and_its_heartbeats_go_on(
    opened: Opener, alarm: Callable[[bool], None], names: Names
) -> None:
    """A memory alarm for longer than two heartbeats: then all is confirmed over the same connection."""
    beats: list[None] = []
    options = BrokerOptions(on_wait=lambda: beats.append(None))
    broker, other = opened(heartbeat_seconds=4, options=options), opened(heartbeat_seconds=4)
    broker.send(names.requests, numbered(5000))
    held = receive(broker, names.requests, 50)
    (mine,) = receive(other, names.requests, 1)
    alarm(True)
    done: list[Any] = []
    large = [Settlement(m, [Outgoing(names.replies, Message(m.body + b" " * 1_000_000))]) for m in held]
    thread = threading.Thread(target=lambda: done.append(broker.commit(large)))
    thread.start()
    # Acknowledgements pass: the message leaves the queue while nobody can publish.
    assert other.commit([Settlement(mine, ())]).settled
    end = time.monotonic() + 10
    while time.monotonic() < end:
        other.keep_alive()
        assert other.receive({names.requests: 1, names.misses: 0}, 0.5) is not None
        assert not done
    assert len(beats) > 3, "its owner is told that it lives"
    alarm(False)
    thread.join(60)
    assert [len(committed.settled) for committed in done] == [50]
    assert len(drained(broker, names.replies)) == 50


def test_a_broker_blocked_for_too_long_is_lost(
    opened: Opener, alarm: Callable[[bool], None], names: Names
) -> None:
    """Bounded, with the reason; nothing is acknowledged that was not confirmed."""
    broker = opened(blocked_seconds=1)
    broker.send(names.requests, numbered(1))
    (held,) = receive(broker, names.requests, 1)
    alarm(True)
    with pytest.raises(BrokerLost, match="alarm"):
        broker.commit([Settlement(held, [Outgoing(names.replies, Message(b"reply"))])])
    alarm(False)
    broker.connect()
    assert receive(broker, names.requests, 1)[0].body == b"0"


# Refusals


def full_queue(stranger: Any, queue: str) -> None:
    stranger.queue_declare(
        queue,
        durable=True,
        arguments={"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"},
    )


def test_replies_that_a_full_queue_refuses_become_dead_letters(
    opened: Opener, stranger: Any, names: Names
) -> None:
    """Each reply is in its queue or is a dead letter; every message is settled, its neighbours at once."""
    full, roomy = names.replies_for("full"), names.replies
    full_queue(stranger, full)
    broker = opened(refused_seconds=1)
    broker.send(names.requests, numbered(40))
    for _ in range(2):
        messages = receive(broker, names.requests, 20)
        committed = broker.commit(
            [Settlement(m, [Outgoing(full if n % 2 else roomy, m)]) for n, m in enumerate(messages)]
        )
        assert len(committed.settled) == 20
        refused = {out.message.body for out in committed.undeliverable}
    assert refused
    letters = receive(broker, names.dead, broker.depth()[names.dead])
    assert {m.headers["reason"] for m in letters} == {"undeliverable"}
    assert {m.headers["original"]["queue"] for m in letters} == {full}
    bodies = [m.body for m in letters] + drained(broker, full) + drained(broker, roomy)
    assert sorted(int(body) for body in bodies) == list(range(40))


def test_numbers_that_rabbitmq_does_not_know_travel_as_text(opened: Opener, names: Names) -> None:
    """NaN in a header ends the connection that brings it, and whatever was on its way."""
    broker = opened()
    headers = {"a": math.nan, "b": -math.inf, "c": 10**400, "d": 1.5, "e": {"f": math.inf}}
    broker.send(names.requests, [Message(b"0", headers=headers)])
    (message,) = receive(broker, names.requests, 1)
    assert message.headers == {"a": "nan", "b": "-inf", "c": str(10**400), "d": 1.5, "e": {"f": "inf"}}


def test_a_request_that_cannot_be_sent_on_comes_again(opened: Opener, stranger: Any, names: Names) -> None:
    """Only a reply can be set aside: a request that was acknowledged so would never be answered."""
    broker = opened(refused_seconds=1)
    broker.send(names.requests, numbered(1))
    (message,) = receive(broker, names.requests, 1)
    stranger.queue_delete(names.misses)
    forward = Settlement(message, [Outgoing(names.misses, Message(message.body))])
    assert names.misses in lost(lambda: broker.commit([forward]))
    broker.connect()
    (again,) = receive(broker, names.requests, 1)
    assert (again.body, broker.depth()[names.dead]) == (b"0", 0)


def test_sending_to_a_full_queue_is_a_lost_broker(opened: Opener, stranger: Any, names: Names) -> None:
    """After bounded tries: the sender backs off and sends again, instead of believing it was taken."""
    full = names.replies_for("full")
    full_queue(stranger, full)
    broker = opened(refused_seconds=1)
    # A quorum queue begins to refuse a little later than it is full.
    assert "refuses" in lost(lambda: broker.send(full, numbered(10)))


def test_a_queue_with_other_arguments_is_named(
    rabbit_server: RabbitServer, stranger: Any, names: Names
) -> None:
    """The error says which queue, and what to do."""
    stranger.queue_declare(names.requests, durable=True)
    broker = open_broker(rabbit_server.url(), names)
    with pytest.raises(BrokerUnreachable, match=rf"queue {names.requests} .* another prefix"):
        broker.connect()
    broker.close()


def test_a_reply_queue_that_its_consumer_made_is_taken_as_it_is(
    opened: Opener, stranger: Any, names: Names
) -> None:
    """`declare` makes one where there is none, and quarrels with nobody about arguments."""
    queue = names.replies_for("theirs")
    stranger.queue_declare(queue, durable=True)
    broker = opened()
    broker.declare(queue)
    broker.send(queue, numbered(1))
    assert receive(broker, queue, 1)


def test_polite_returns_dead_letter_nothing(opened: Opener, names: Names) -> None:
    """RabbitMQ counts each, and RabbitMQ 4 by itself would drop after 20: our limit is far away."""
    broker = opened()
    broker.send(names.requests, numbered(3))
    for turn in range(1, 26):
        messages = receive(broker, names.requests, 3)
        assert [(m.body, m.deliveries) for m in messages] == [(b"0", turn), (b"1", turn), (b"2", turn)]
        broker.release(messages)
    assert broker.depth()[names.dead] == 0


# Credit


def test_messages_fetched_ahead_stay_within_the_credit(opened: Opener, names: Names) -> None:
    """What one worker has no credit for, another gets, although both consume."""
    broker, other = opened(), opened()
    broker.send(names.requests, numbered(100))
    held = receive(broker, names.requests, 10)
    assert broker.receive({names.requests: 0}, 0.1) == []
    theirs = receive(other, names.requests, 90)
    assert sorted(int(m.body) for m in held + theirs) == list(range(100))


def test_a_window_follows_the_credit(opened: Opener, names: Names) -> None:
    """From 1 to 200 and back to 2: all come, each once, and what was fetched ahead goes to others."""
    broker, other = opened(), opened()
    broker.send(names.requests, numbered(400))
    found: list[Message] = []
    for credit in (1, 1, 200, 3, 2, 40, 1):
        messages = broker.receive({names.requests: credit}, 5)
        assert 1 <= len(messages) <= credit
        found += messages
        broker.commit([Settlement(message, ()) for message in messages[::2]])
    broker.receive({}, 0)
    found += receive(other, names.requests, 400 - len(found))
    assert sorted(int(m.body) for m in found) == list(range(400))


def test_a_window_that_was_never_full_stays(
    opened: Opener, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credit that grows while little comes must not hold up what has come by consuming anew. Once the
    window is full it follows."""
    broker = opened()
    assert broker.receive({names.requests: 2}, 0) == []
    monkeypatch.setattr(broker_module, "_BURST_SECONDS", 60.0)
    broker.send(names.requests, numbered(1))
    begun = time.monotonic()
    held = broker.receive({names.requests: 200}, 60)
    assert (len(held), time.monotonic() - begun < 20) == (1, True)
    monkeypatch.undo()
    broker.send(names.requests, numbered(100))
    until(lambda: held.extend(broker.receive({names.requests: 200}, 5)) or len(held) == 101, what="the rest")
    assert len({message.token for message in held}) == 101


def test_acknowledging_out_of_order_keeps_what_is_held(opened: Opener, names: Names) -> None:
    """An acknowledgement of many must not swallow an older message that is still being worked on."""
    broker = opened()
    broker.send(names.requests, numbered(20))
    messages = receive(broker, names.requests, 20)
    rest = [m for n, m in enumerate(messages) if n in (3, 11)]
    broker.commit([Settlement(m, ()) for m in reversed(messages) if m not in rest])
    broker.connect()
    assert [m.body for m in receive(broker, names.requests, 2)] == [b"3", b"11"]
    assert broker.receive({names.requests: 1}, 0.3) == []


# What strangers send


def publish_raw(server: RabbitServer, queue: str, properties: bytes, body: bytes = b"{}") -> None:
    """A message whose properties are exactly these bytes."""

    class Raw(amqp.Message):  # type: ignore[misc]
        def _serialize_properties(self) -> bytes:
            return properties

    with amqp.Connection(f"127.0.0.1:{server.port}") as connection:
        channel = connection.channel()
        channel.basic_publish(Raw(body), "", queue)
        channel.close()


def table(entry: bytes) -> bytes:
    """Properties with nothing but this header table."""
    return b"\x20\x00" + len(entry).to_bytes(4) + entry


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = b"\x01aF" + len(inner).to_bytes(4) + inner
    return inner


@pytest.mark.parametrize(
    "properties",
    [
        b"\x04\x00\x02\xff\xfe",
        b"\x84\x00\x10application/jso\xff\x02id",
        table(b"\x01tT" + (1_700_000_000_000).to_bytes(8)),
        table(b"\x01tT\xff\xff\xff\xff\xff\xff\xff\xff"),
        table(nested(5000)),
    ],
    ids=["correlation id", "content type", "milliseconds", "a far future", "nested"],
)
def test_properties_that_cannot_be_read_stop_nobody(
    opened: Opener, rabbit_server: RabbitServer, names: Names, properties: bytes
) -> None:
    """The message comes with its body and what is wrong with it; as a dead letter it can be sent on."""
    broker = opened()
    publish_raw(rabbit_server, names.requests, properties, b"body")
    broker.send(names.requests, numbered(1))
    bad, good = receive(broker, names.requests, 2)
    assert (bad.body, good.body, good.problem) == (b"body", b"0", None)
    assert "properties" in (bad.problem or "")
    assert broker.commit([Settlement(bad, [Outgoing(names.dead, bad)])]).settled
    assert receive(broker, names.dead, 1)[0].body == b"body"


def test_headers_of_every_type_can_be_carried_on(
    opened: Opener, rabbit_server: RabbitServer, names: Names
) -> None:
    """Times become Unix seconds, bytes text; nothing in a table ends a connection."""
    odd = {
        "time": datetime(2026, 1, 1),
        "money": Decimal("1.5"),
        "bytes": b"\xff\x00",
        "nested": {"list": [1, {"deep": None}], "big": 1 << 62},
        "x-delivery-count": 99,
        "empty": {},
    }
    broker = opened()
    with amqp.Connection(f"127.0.0.1:{rabbit_server.port}") as connection:
        message = amqp.Message(b"odd", application_headers=odd, correlation_id="c")
        connection.channel().basic_publish(message, "", names.requests)
    (got,) = receive(broker, names.requests, 1)
    assert (got.deliveries, got.headers["time"], got.headers["money"]) == (1, 1767225600.0, "1.5")
    assert got.headers["nested"] == {"list": [1, {"deep": None}], "big": 1 << 62}
    broker.commit([Settlement(got, [Outgoing(names.dead, got)])])
    assert receive(broker, names.dead, 1)[0].headers == got.headers


def test_properties_larger_than_a_frame_are_cut(opened: Opener, names: Names) -> None:
    """A dead letter holds another's headers: what does not fit is shortened, or the connection would end."""
    broker = opened()
    headers = {"reason": "x", "original": {"reply_to": "r", "headers": {"h": "x" * 200_000}}}
    broker.send(names.dead, [Message(b"letter", "t" * 300, "c", headers=headers)])
    (got,) = receive(broker, names.dead, 1)
    assert (got.headers["reason"], got.headers["original"]["reply_to"]) == ("x", "r")
    assert got.body == b"letter"


# Blame


def die(broker: AmqpBroker, names: Names, *positions: int | None) -> Message:
    """Receive the message, blame each position, and be gone; it is then received anew."""
    (message,) = receive(broker, names.requests, 1)
    for position in positions:
        broker.blame(message, position)
    broker.connect()
    return message


def notes_of(server: RabbitServer, names: Names) -> Sequence[str]:
    listed = server.ctl("list_queues", "name", "--silent").split()
    return [name for name in listed if name.startswith(f"{names.prefix}.blame.")]


def test_a_position_is_blamed_from_the_second_death_on(
    opened: Opener, rabbit_server: RabbitServer, names: Names
) -> None:
    """Its last note counts; one death is no verdict; once answered nothing is left of it."""
    broker, other = opened(), opened()
    broker.send(names.requests, [Message(b"m", correlation_id="c", headers={"enqueued_at": 1.5})])
    for positions in ((1, 7), (2, 7)):
        assert die(broker, names, *positions).blamed == frozenset()
    broker.receive({}, 0)
    (third,) = receive(other, names.requests, 1)
    assert (third.deliveries, third.blamed) == (3, frozenset({7}))
    assert len(notes_of(rabbit_server, names)) == 1
    assert other.commit([Settlement(third, ())]).settled
    assert notes_of(rabbit_server, names) == []


def test_who_runs_no_more_is_not_blamed(opened: Opener, names: Names) -> None:
    """Deaths in the commit, when all is answered."""
    broker = opened()
    broker.send(names.requests, numbered(1))
    assert [die(broker, names, WHOLE, None).blamed for _ in range(3)] == [frozenset()] * 3
    assert receive(broker, names.requests, 1)[0].blamed == frozenset()


def test_different_positions_are_not_blamed(opened: Opener, names: Names) -> None:
    """Two deaths at two places; the third at one of them is the second strike."""
    broker = opened()
    broker.send(names.requests, numbered(1))
    assert [die(broker, names, position).blamed for position in (1, WHOLE, 1)] == [frozenset()] * 3
    assert receive(broker, names.requests, 1)[0].blamed == {1}


def test_releasing_takes_the_blame_back(opened: Opener, names: Names) -> None:
    """A message that was returned politely was nobody's death."""
    broker = opened()
    broker.send(names.requests, numbered(1))
    for _ in range(3):
        (message,) = receive(broker, names.requests, 1)
        assert message.blamed == frozenset()
        broker.blame(message, 0)
        broker.release([message])
    die(broker, names, 0)
    (message,) = receive(broker, names.requests, 1)
    assert (message.deliveries, message.blamed) == (5, frozenset())


def test_notes_do_not_pile_up(
    opened: Opener, rabbit_server: RabbitServer, stranger: Any, names: Names
) -> None:
    """However many requests of a message run alone, one note is kept."""
    broker = opened()
    broker.send(names.requests, numbered(1))
    (message,) = receive(broker, names.requests, 1)
    for position in range(50):
        broker.blame(message, position)
    (queue,) = notes_of(rabbit_server, names)
    assert stranger.queue_declare(queue, passive=True).method.message_count == 1


# Commits that nobody waits for


def test_an_idle_worker_acknowledges(opened: Opener, rabbit_server: RabbitServer, names: Names) -> None:
    """In its wait for messages: others see at once that these are settled, and it hears of it."""
    broker = opened()
    broker.send(names.requests, numbered(50))
    messages = receive(broker, names.requests, 50)
    settlements = [replied(m, names.replies) for m in messages]
    early = broker.commit(settlements, wait=False)
    begun = time.monotonic()
    if not early.settled:
        assert broker.receive({names.misses: 1}, 60) == []
    assert time.monotonic() - begun < 30
    assert [*early.settled, *broker.commit((), wait=False).settled] == settlements

    def unacknowledged() -> int:
        listed = rabbit_server.ctl("list_queues", "name", "messages_unacknowledged", "--silent")
        return int(dict(line.split() for line in listed.splitlines())[names.requests])

    until(lambda: unacknowledged() == 0, what="the acknowledgement")


def test_what_is_under_commit_keeps_its_place_in_the_window(opened: Opener, names: Names) -> None:
    """The window of the consumer fits while it is there and when it is gone: nothing is given back."""
    broker = opened()
    broker.send(names.requests, numbered(2000))
    consumers, settled = set(), 0
    while messages := broker.receive({names.requests: 40}, 2):
        assert {m.deliveries for m in messages} == {1}
        assert len(messages) <= 40
        settled += len(broker.commit([replied(m, names.replies) for m in messages], wait=False).settled)
        assert broker._session is not None
        consumers.add(broker._session.intake._lanes[names.requests].consumer)
        if settled >= 1900:
            break
    assert len(consumers) == 1


def test_a_credit_that_swings_returns_nothing(opened: Opener, names: Names) -> None:
    """As that for a model does which is down and probed. What was fetched ahead and is returned each time
    would count as delivered, and three times of that make a suspect."""
    broker = opened()
    broker.send(names.misses, numbered(400))
    seen: list[Message] = []
    for _ in range(8):
        for credit in (40, 4):
            messages = receive(broker, names.misses, credit)
            assert len(messages) == credit
            broker.commit([Settlement(message, ()) for message in messages])
            seen += messages
    assert [m.body for m in seen] == [m.body for m in numbered(352)], "in their order"
    assert {m.deliveries for m in seen} == {1}


def test_replies_too_large_to_send_at_once_go_on_meanwhile(opened: Opener, names: Names) -> None:
    """What the outbox has no room for follows in the wait; a small commit after it is none the worse."""
    broker = opened()
    broker.send(names.requests, numbered(31))
    messages = receive(broker, names.requests, 31)
    large = [Settlement(m, [Outgoing(names.replies, Message(m.body + b" " * 1_000_000))]) for m in messages]
    assert broker.commit(large[:30], wait=False).settled == []
    until(lambda: not broker.receive({names.misses: 1}, 1) and broker._outbox.has_news, 30, "the confirms")
    assert broker.commit(large[30:], wait=False).settled == large[:30]
    assert broker.commit(()).settled == large[30:]
    assert len(drained(broker, names.replies)) == 31


def test_what_a_full_queue_refuses_is_found_in_the_wait(opened: Opener, stranger: Any, names: Names) -> None:
    """It is tried again, becomes a dead letter, and everything is settled."""
    full = names.replies_for("full")
    full_queue(stranger, full)
    broker = opened(refused_seconds=0.5)
    broker.send(names.requests, numbered(40))
    # It begins to refuse a little later than it is full.
    broker.commit([replied(m, full) for m in receive(broker, names.requests, 20)])
    messages = receive(broker, names.requests, 20)
    broker.commit([replied(m, full if n % 2 else names.replies) for n, m in enumerate(messages)], wait=False)
    until(lambda: not broker.receive({names.misses: 1}, 1) and broker._outbox.has_news, 30, "the end")
    committed = broker.commit((), wait=False)
    assert len(committed.settled) == 20
    assert committed.undeliverable
    bodies = drained(broker, names.dead) + drained(broker, full) + drained(broker, names.replies)
    assert sorted(int(body) for body in bodies) == list(range(40))


def test_a_blocked_broker_is_noticed_in_the_wait(
    opened: Opener, alarm: Callable[[bool], None], names: Names
) -> None:
    """Messages are received meanwhile; after its time the connection is lost, and nothing is acknowledged."""
    broker = opened(blocked_seconds=1)
    broker.send(names.requests, numbered(2))
    first, second = receive(broker, names.requests, 2)
    broker.commit([replied(first, names.replies)])
    alarm(True)
    broker.commit([replied(second, names.replies)], wait=False)
    assert "blocked by an alarm" in lost(lambda: broker.receive({names.misses: 1}, 5))
    alarm(False)
    reconnect(broker)
    assert receive(broker, names.requests, 1)[0].body == second.body


def test_a_goodbye_waits_a_moment_for_confirms(opened: Opener, names: Names) -> None:
    """What is under way is settled, and does not come again."""
    broker, other = opened(), opened()
    broker.send(names.requests, numbered(100))
    messages = receive(broker, names.requests, 100)
    broker.commit([replied(m, names.replies) for m in messages], wait=False)
    broker.close()
    assert other.receive({names.requests: 1}, 1) == []
    assert len(drained(other, names.replies)) == 100


def test_notes_are_forgotten_when_nobody_waits(
    opened: Opener, rabbit_server: RabbitServer, names: Names
) -> None:
    """With the acknowledgement, whenever that is."""
    broker = opened()
    broker.send(names.requests, numbered(1))
    (message,) = receive(broker, names.requests, 1)
    broker.blame(message, 0)
    assert len(notes_of(rabbit_server, names)) == 1
    settlement = replied(message, names.replies)
    settled = list(broker.commit([settlement], wait=False).settled)

    def is_settled() -> bool:
        broker.receive({names.misses: 1}, 1)
        settled.extend(broker.commit((), wait=False).settled)
        return settled == [settlement]

    until(is_settled, what="the end of the commit")
    assert notes_of(rabbit_server, names) == []


# Where it connects to


def test_the_second_node_is_tried(rabbit_server: RabbitServer, names: Names) -> None:
    """A URL of several nodes: the first that answers."""
    url = f"pyamqp://guest:guest@127.0.0.1:{free_port()}//;{rabbit_server.url()}"
    broker = open_broker(url, names)
    broker.connect()
    broker.send(names.requests, numbered(1))
    broker.close()


@pytest.fixture(scope="module")
def tls_server(
    rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Path]]:
    """The port of a node that speaks TLS, for the host name localhost only, and the certificate to trust."""
    place = tmp_path_factory.mktemp("tls")
    certificate, key, port = place / "cert.pem", place / "key.pem", free_port()
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files],
        check=True,
        capture_output=True,
    )
    lines = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.certfile": certificate,
        "ssl_options.keyfile": key,
        "ssl_options.verify": "verify_none",
    }
    server = RabbitServer(place, "".join(f"{name} = {value}\n" for name, value in lines.items())).start()
    until(lambda: accepts(port), 60, "TLS")
    yield port, certificate
    server.stop()


def test_tls_is_spoken(tls_server: tuple[int, Path], names: Names) -> None:
    """amqps:// with a certificate to trust; large bodies pass in both directions."""
    port, certificate = tls_server
    broker = open_broker(f"amqps://guest:guest@localhost:{port}//?ca_certs={certificate}", names)
    broker.connect()
    bodies = [b"%d" % n * 10 for n in range(2000)] + [b"x" * 3_000_000]
    broker.send(names.requests, [Message(body) for body in bodies])
    found: list[bytes] = []
    while messages := broker.receive({names.requests: 300}, 2):
        broker.commit([Settlement(m, [Outgoing(names.replies, m)]) for m in messages])
        found += [m.body for m in messages]
    assert found == bodies
    assert broker.depth()[names.replies] == len(bodies)
    broker.close()


@pytest.mark.parametrize("host", ["localhost:{port}//", "127.0.0.1:{port}//?ca_certs={certificate}"])
def test_tls_checks_whom_it_talks_to(tls_server: tuple[int, Path], names: Names, host: str) -> None:
    """An unknown certificate, and a known one of another host, are refused."""
    port, certificate = tls_server
    address = host.format(port=port, certificate=certificate)
    broker = open_broker(f"amqps://guest:guest@{address}", names)
    with pytest.raises(BrokerUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        broker.connect()
    broker.close()
