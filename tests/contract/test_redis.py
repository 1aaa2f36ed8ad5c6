"""What the broker on Redis promises beyond the interface: leases, reaping, lost answers, a full server."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import kombu
import pytest
import redis

from broker.base import (
    WHOLE,
    BrokerError,
    BrokerLost,
    BrokerOptions,
    BrokerUnreachable,
    Message,
    Outgoing,
    Settlement,
    Undeliverable,
)
from broker.redis.broker import RedisBroker
from tests.support.proxy import Proxy
from tests.support.servers import ValkeyServer
from tests.support.waiting import until
from wire.names import Names

Opener = Callable[..., RedisBroker]


@pytest.fixture
def opened(valkey: ValkeyServer, names: Names) -> Iterator[Opener]:
    """Opens connected brokers that are closed afterwards."""
    with ExitStack() as stack:

        def open_one(url: str | None = None, lease: float = 30.0, **options: Any) -> RedisBroker:
            broker = RedisBroker(url or valkey.url, names, BrokerOptions(lease, **options))
            stack.callback(broker.close)
            broker.connect()
            return broker

        yield open_one


def take(broker: RedisBroker, queue: str, count: int = 1) -> list[Message]:
    messages: list[Message] = []

    def enough() -> bool:
        messages.extend(broker.receive({queue: count - len(messages)}, 5))
        return len(messages) == count

    until(enough, what=f"{count} messages")
    return messages


def answer(message: Message, queue: str, body: bytes = b"answer") -> Settlement:
    return Settlement(message, [Outgoing(queue, Message(body))])


def holder(broker: RedisBroker) -> str:
    """The id under which it holds what it holds."""
    return broker._caller.holder


def presume_dead(client: redis.Redis, names: Names, broker: RedisBroker) -> None:
    """Let the broker's lease have run out on the server's clock, and not be renewed."""
    broker._lease.suspend()
    client.zadd(names.leases, {holder(broker): 1}, xx=True)


def in_flight(client: redis.Redis, names: Names) -> list[bytes]:
    return list(client.scan_iter(f"{names.prefix}:in-flight:*"))


def test_what_a_dead_worker_held_is_given_to_others(
    opened: Opener, client: redis.Redis, names: Names
) -> None:
    """In the old order, counted as delivered before; a late commit of the dead sends nothing."""
    dead, alive = opened(), opened(reaps=True)
    dead.send(names.requests, [Message(b"%d" % n) for n in range(5)])
    held = take(dead, names.requests, 3)
    presume_dead(client, names, dead)
    assert alive.reap() == 3
    with pytest.raises(BrokerLost, match="lease ran out"):
        dead.commit([answer(message, names.replies) for message in held])
    again = take(alive, names.requests, 5)
    assert [(m.body, m.deliveries) for m in again] == [(b"0", 2), (b"1", 2), (b"2", 2), (b"3", 1), (b"4", 1)]
    alive.commit([answer(message, names.replies) for message in again])
    dead.connect()
    assert not dead.commit([answer(message, names.replies) for message in held]).settled
    assert client.llen(names.replies) == 5
    assert not client.exists(names.deliveries)


def test_only_who_has_been_alive_for_a_whole_lease_reaps(
    opened: Opener, client: redis.Redis, names: Names
) -> None:
    """After an outage everybody's lease has run out: who comes back first must not bury the others."""
    slow = opened(lease=1.0)
    slow.send(names.requests, [Message(b"held")])
    (held,) = take(slow, names.requests)
    reaper = opened(lease=1.0, reaps=True)
    presume_dead(client, names, slow)
    reaper.keep_alive()
    assert client.zscore(names.leases, holder(slow)) == 1, "not yet"
    until(
        lambda: (reaper.keep_alive(), client.zscore(names.leases, holder(slow)) is None)[1],
        what="the reaping",
    )
    assert take(reaper, names.requests)[0].body == held.body


def test_a_short_lease_does_not_bury_those_with_a_long_one(
    opened: Opener, client: redis.Redis, names: Names
) -> None:
    """In the middle of a rolling change of lease_seconds: each is judged by its own."""
    slow, dead = opened(lease=3600.0), opened(lease=1.0)
    slow.send(names.requests, [Message(b"slow"), Message(b"dead")])
    take(slow, names.requests)
    take(dead, names.requests)
    dead.close()
    doomed = opened(lease=1.0)
    take(doomed, names.requests)
    reaper = opened(lease=1.0, reaps=True)
    presume_dead(client, names, slow)
    doomed._lease.suspend()
    until(
        lambda: (reaper.keep_alive(), client.zscore(names.leases, holder(doomed)) is None)[1],
        what="the reaping of the short lease",
    )
    assert client.zscore(names.leases, holder(slow)) == 1
    assert [m.body for m in take(reaper, names.requests)] == [b"dead"]


def test_a_reaper_that_is_late_itself_reaps_nothing(
    opened: Opener, client: redis.Redis, names: Names
) -> None:
    """Its own lease must be good at that moment, on the server's clock."""
    reaper, other = opened(reaps=True), opened()
    presume_dead(client, names, other)
    presume_dead(client, names, reaper)
    with pytest.raises(BrokerLost):
        reaper.reap()
    assert client.zcard(names.leases) == 2


def test_a_loop_that_hangs_loses_its_lease_and_begins_anew(
    opened: Opener, client: redis.Redis, names: Names
) -> None:
    """The renewing thread goes on only while the loop turns."""
    hanging, alive = opened(lease=1.0, reaps=True), opened(lease=1.0, reaps=True)
    hanging.send(names.requests, [Message(b"held")])
    (held,) = take(hanging, names.requests)
    found: list[Message] = []

    def others_have_it() -> bool:
        alive.keep_alive()
        found.extend(alive.receive({names.requests: 1}, 0.05))
        return bool(found)

    until(others_have_it, what="the reaping of a loop that hangs")
    with pytest.raises(BrokerLost):
        hanging.commit([answer(held, names.replies)])
    hanging.connect()
    hanging.keep_alive()
    assert not hanging.commit([answer(held, names.replies)]).settled


def test_a_pipeline_that_pauses_keeps_its_lease(opened: Opener, client: redis.Redis, names: Names) -> None:
    """A producer's thread renews whatever its owner does between two replies."""
    producer = opened(lease=1.0)
    producer.own(names.replies_for("mine"))
    first = client.zscore(names.leases, holder(producer))
    until(lambda: client.zscore(names.leases, holder(producer)) > first + 1500, what="renewals")
    reaper = opened(reaps=True)
    assert reaper.reap() == 0
    assert client.hexists(names.owners, names.replies_for("mine"))


def test_polite_leaving_counts_for_nothing(opened: Opener, names: Names) -> None:
    """Twenty drains in a row make nobody suspect."""
    opened().send(names.requests, [Message(b"again")])
    for _ in range(20):
        broker = opened()
        (message,) = take(broker, names.requests)
        assert message.deliveries == 1
        broker.close()
    broker = opened()
    (message,) = take(broker, names.requests)
    broker.release([message])
    assert take(broker, names.requests)[0].deliveries == 1


def test_only_a_death_makes_a_request_guilty(opened: Opener, client: redis.Redis, names: Names) -> None:
    """Blame is taken back by commit, release and None; at a death it stands, and more than one can."""
    reaper = opened(reaps=True)
    reaper.send(names.requests, [Message(b"suspect")])
    for position in (3, WHOLE, 3, None):  # None: nothing of it ran any more
        doomed = opened()
        (message,) = take(doomed, names.requests)
        doomed.blame(message, 1)
        doomed.blame(message, position)
        presume_dead(client, names, doomed)
        reaper.reap()
    (message,) = take(reaper, names.requests)
    assert (message.deliveries, message.blamed) == (5, {3, WHOLE})
    reaper.blame(message, 7)
    reaper.release([message])
    (message,) = take(reaper, names.requests)
    assert (message.deliveries, message.blamed) == (5, {3, WHOLE})
    reaper.blame(message, 7)
    reaper.commit([Settlement(message, ())])
    assert not client.exists(names.deliveries)
    assert not in_flight(client, names)


def test_a_commit_whose_answer_is_lost_is_settled_once(
    opened: Opener, valkey: ValkeyServer, client: redis.Redis, names: Names
) -> None:
    """It ran, its answer did not come: after the reconnect it is settled, and nothing is sent again."""
    proxy = Proxy(valkey.port)
    broker = opened(f"redis://127.0.0.1:{proxy.port}/0", lease=2.0)
    broker.send(names.requests, [Message(b"a"), Message(b"b")])
    first, second = take(broker, names.requests, 2)
    proxy.mode = "silent"
    with pytest.raises(BrokerLost):
        broker.commit([answer(first, names.replies, b"1")])
    proxy.mode = "pass"
    broker.connect()
    settlements = [answer(first, names.replies, b"1"), answer(second, names.replies, b"2")]
    assert list(broker.commit(settlements).settled) == settlements
    assert not broker.commit(settlements).settled, "said once"
    assert client.llen(names.replies) == 2
    proxy.close()


def test_a_commit_that_nobody_waits_for_is_settled_once_when_its_answer_is_lost(
    opened: Opener, valkey: ValkeyServer, client: redis.Redis, names: Names
) -> None:
    """The idle wait notices at once that the connection is gone; after the reconnect all is reported."""
    proxy = Proxy(valkey.port)
    broker = opened(f"redis://127.0.0.1:{proxy.port}/0", lease=2.0)
    broker.send(names.requests, [Message(b"a"), Message(b"b"), Message(b"c")])
    settlements = [answer(message, names.replies) for message in take(broker, names.requests, 3)]
    assert broker.commit(settlements[:1], wait=False).settled == []
    proxy.mode = "silent"
    said: list[Settlement] = []
    with suppress(BrokerLost):  # as the answer to the first comes before the silence, or does not
        said += broker.commit(settlements[1:2], wait=False).settled
    with pytest.raises(BrokerLost):
        broker.receive({names.misses: 1}, 60)
    proxy.mode = "pass"
    broker.connect()
    said += broker.commit([settlement for settlement in settlements if settlement not in said]).settled
    assert sorted(settlement.message.body for settlement in said) == [b"a", b"b", b"c"]
    assert broker.commit(settlements).gone, "said once"
    assert client.llen(names.replies) == 3
    proxy.close()


def test_what_was_reaped_under_commit_is_gone(opened: Opener, client: redis.Redis, names: Names) -> None:
    """The lease had run out before the server came to it: nothing is sent, and the report says so."""
    slow, reaper = opened(), opened(reaps=True)
    slow.send(names.requests, [Message(b"late")])
    (late,) = take(slow, names.requests)
    presume_dead(client, names, slow)
    assert reaper.reap() == 1
    assert not any(slow.commit([answer(late, names.replies)], wait=False))
    with pytest.raises(BrokerLost, match="lease ran out"):
        slow.receive({names.requests: 1}, 60)
    slow.connect()
    assert slow.commit([answer(late, names.replies)]).gone == [answer(late, names.replies)]
    assert not client.exists(names.replies)


def test_a_claim_whose_answer_is_lost_comes_again(
    opened: Opener, valkey: ValkeyServer, client: redis.Redis, names: Names
) -> None:
    """It ran: the message is in flight under an id that nobody knows it of. The next id gives it back."""
    proxy = Proxy(valkey.port)
    broker = opened(f"redis://127.0.0.1:{proxy.port}/0", lease=2.0)
    assert broker.receive({names.requests: 1}, 0) == [], "the script is loaded"
    broker.send(names.requests, [Message(b"orphan")])
    proxy.mode = "silent"
    with pytest.raises(BrokerLost):
        broker.receive({names.requests: 1}, 0)
    assert client.llen(names.requests) == 0
    proxy.mode = "pass"
    broker.connect()
    assert take(broker, names.requests)[0].body == b"orphan"
    proxy.close()


def test_reconnecting_again_and_again_keeps_what_is_held(
    opened: Opener, valkey: ValkeyServer, client: redis.Redis, names: Names
) -> None:
    """Every answer to `join` may be lost, too: whichever id has it in the end, it is one."""
    proxy = Proxy(valkey.port)
    broker = opened(f"redis://127.0.0.1:{proxy.port}/0", lease=2.0)
    broker.send(names.requests, [Message(b"held")])
    broker.own(names.replies_for("mine"))
    (held,) = take(broker, names.requests)
    for after in (0, 200, 400, 600, 1500):
        proxy.mode = "silent" if after == 0 else "pass"
        proxy.cut()
        with pytest.raises(BrokerError):
            broker.depth()
        if proxy.mode == "silent":
            with pytest.raises(BrokerUnreachable):
                broker.connect()
    proxy.mode = "pass"
    broker.connect()
    settlement = answer(held, names.replies_for("mine"))
    assert list(broker.commit([settlement]).settled) == [settlement]
    assert client.llen(names.replies_for("mine")) == 1
    assert client.zcard(names.leases) == 1
    proxy.close()


def test_an_outage_collects_nothing(valkey: ValkeyServer, names: Names) -> None:
    """Each id of a try would be told to the server afterwards, in one script that outlasts its time limit."""
    proxy = Proxy(valkey.port)
    broker = RedisBroker(f"redis://127.0.0.1:{proxy.port}/0", names, BrokerOptions(1.0))
    broker.connect()
    proxy.close()
    for _ in range(20):
        with pytest.raises(BrokerUnreachable):
            broker.connect()
    assert len(broker._earlier) <= 1
    broker.close()


def test_scripts_are_loaded_again(opened: Opener, client: redis.Redis, names: Names) -> None:
    """A server that forgot them (SCRIPT FLUSH, a failover) costs a round trip."""
    broker = opened()
    broker.send(names.requests, [Message(b"x")])
    client.script_flush()
    (message,) = take(broker, names.requests)
    client.script_flush()
    assert broker.commit([answer(message, names.replies)]).settled


def test_a_script_that_is_forgotten_while_it_is_posted_runs_all_the_same(
    opened: Opener, client: redis.Redis, names: Names
) -> None:
    """Claimed ahead, and committed without a wait: no reconnect, and nothing is done twice."""
    broker = opened()
    broker.send(names.requests, [Message(b"%d" % n) for n in range(100)])
    found: list[Message] = []
    settled: list[Settlement] = []
    before = holder(broker)
    for _ in range(12):
        messages = broker.receive({names.requests: 32}, 0.1)
        client.script_flush()
        settled += broker.commit([answer(m, names.replies) for m in messages], wait=False).settled
        found += messages
    settled += broker.commit(()).settled
    assert [m.body for m in found] == [b"%d" % n for n in range(100)]
    assert len(settled) == client.llen(names.replies) == 100
    assert holder(broker) == before


def test_a_full_server_takes_no_requests_and_loses_none(
    opened: Opener, client: redis.Redis, names: Names
) -> None:
    """What is queued is claimed, answered and kept alive; only what is new is refused, and says why."""
    broker, dead = opened(lease=1.0, reaps=True), opened(lease=1.0)
    broker.send(names.requests, [Message(b"%d" % n, correlation_id="c") for n in range(20)])
    lost = take(dead, names.requests, 10)
    presume_dead(client, names, dead)
    client.config_set("maxmemory", "1")
    try:
        until(lambda: (broker.keep_alive(), client.llen(names.requests) == 20)[1], what="the reaping")
        assert len(lost) == 10
        messages = take(broker, names.requests, 20)
        broker.blame(messages[0], 0)
        assert len(broker.commit([answer(message, names.replies) for message in messages]).settled) == 20
        first = client.zscore(names.leases, holder(broker))
        until(
            lambda: (broker.keep_alive(), client.zscore(names.leases, holder(broker)) > first)[1],
            what="renewal",
        )
        late = opened()
        with pytest.raises(BrokerLost, match="maxmemory"):
            late.send(names.requests, [Message(b"new")])
    finally:
        client.config_set("maxmemory", "0")
    assert client.llen(names.replies) == 20
    late.connect()
    late.send(names.requests, [Message(b"new")])


def make_every_kind(client: redis.Redis, names: Names) -> list[str]:
    """Reply queues' names that are taken by keys of every other type."""
    made = {kind: names.replies_for(kind) for kind in ("string", "set", "zset", "hash", "stream", "hll")}
    client.set(made["string"], "x")
    client.sadd(made["set"], "x")
    client.zadd(made["zset"], {"x": 1})
    client.hset(made["hash"], "x", "y")
    client.xadd(made["stream"], {"x": "y"})
    client.pfadd(made["hll"], "x")
    return list(made.values())


@pytest.mark.parametrize("declared", [False, True])
def test_a_reply_that_no_queue_takes_costs_no_neighbour_its_own(
    opened: Opener, client: redis.Redis, names: Names, declared: bool
) -> None:
    """A key of any type under a reply queue's name, in the middle of 500: dead letters, and 500 answers."""
    broker = opened()
    bad = [*make_every_kind(client, names), names.replies_for("nobody")]
    if declared:
        for queue in bad[:-1]:
            broker.declare(queue)
    broker.send(names.requests, [Message(b"%d" % n) for n in range(500)])
    messages = take(broker, names.requests, 500)
    targets = [bad[n // 70] if n % 70 == 35 and n // 70 < len(bad) else names.replies for n in range(500)]
    committed = broker.commit([answer(m, queue) for m, queue in zip(messages, targets, strict=True)])
    assert len(committed.settled) == 500
    assert sorted(out.queue for out in committed.undeliverable) == sorted(bad)
    assert client.llen(names.replies) == 500 - len(bad)
    letters = take(broker, names.dead, len(bad))
    assert {letter.headers["original"]["queue"] for letter in letters} == set(bad)
    assert not in_flight(client, names) or len(in_flight(client, names)) == 1


def test_a_user_of_our_own_keys_alone_is_enough(
    opened: Opener, valkey: ValkeyServer, client: redis.Redis, names: Names
) -> None:
    """The user of docs/operations.md is enough, also when a reply's producer is gone."""
    line = Path(__file__).parents[2].joinpath("docs/operations.md").read_text()
    granted = re.search(r"ACL SETUSER recollect on >PASSWORD ~recollect\* (.*)`", line)
    assert granted is not None
    client.execute_command(
        "ACL", "SETUSER", names.prefix, "on", ">p", f"~{names.prefix}*", *granted[1].split()
    )
    broker = opened(f"redis://{names.prefix}:p@127.0.0.1:{valkey.port}/0", reaps=True)
    broker.send(names.requests, [Message(b"1"), Message(b"2")])
    first, second = take(broker, names.requests, 2)
    done = broker.commit([answer(first, names.replies_for("gone")), answer(second, names.replies)])
    assert len(done.settled) == 2
    assert [out.queue for out in done.undeliverable] == [names.replies_for("gone")]
    assert broker.reap() == 0
    client.acl_deluser(names.prefix)


def test_our_own_keys_are_no_reply_queues(names: Names) -> None:
    """No name that `reply_to` may have is one of ours."""
    ours = [names.leases, names.owners, names.declared, names.deliveries, names.in_flight("x"), names.dead]
    assert not any(names.is_reply_queue(key) for key in ours)


def test_a_queue_of_another_type_is_said(opened: Opener, client: redis.Redis, names: Names) -> None:
    """Nothing is popped from anywhere, nothing is dropped: the error names the key and what it is."""
    broker = opened()
    broker.send(names.misses, [Message(b"miss")])
    client.set(names.requests, "not a list")
    with pytest.raises(BrokerLost, match=f"{names.requests} is a string"):
        broker.receive({names.misses: 1, names.requests: 1}, 0)
    assert client.llen(names.misses) == 1


def test_killed_connections_lose_nothing(opened: Opener, client: redis.Redis, names: Names) -> None:
    """CLIENT KILL of all of them, waiting ones and the lease's included."""
    broker = opened()
    broker.send(names.requests, [Message(b"held"), Message(b"waiting")])
    (held,) = take(broker, names.requests)
    broker.receive({names.misses: 1}, 0.01)
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(BrokerLost):
        broker.commit([answer(held, names.replies)])
    broker.connect()
    assert broker.commit([answer(held, names.replies)]).settled
    assert take(broker, names.requests)[0].body == b"waiting"


def test_a_paused_server_is_waited_for(opened: Opener, client: redis.Redis, names: Names) -> None:
    """CLIENT PAUSE shorter than the time-out: nothing is lost, nothing comes twice."""
    broker = opened()
    client.execute_command("CLIENT", "PAUSE", "300", "ALL")
    broker.send(names.requests, [Message(b"once")])
    (message,) = take(broker, names.requests)
    broker.commit([answer(message, names.replies)])
    assert (client.llen(names.requests), client.llen(names.replies)) == (0, 1)


def test_a_server_killed_and_started_again_knows_everything(
    tmp_path_factory: pytest.TempPathFactory, names: Names
) -> None:
    """With its append-only file: what waits, what is held, whose it is."""
    server = ValkeyServer(tmp_path_factory.mktemp("aof"), appendfsync="always").start()
    broker = RedisBroker(server.url, names, BrokerOptions())
    broker.connect()
    broker.send(names.requests, [Message(b"held"), Message(b"waiting")])
    (held,) = take(broker, names.requests)
    server.stop(signal.SIGKILL)
    with pytest.raises(BrokerLost):
        broker.commit([answer(held, names.replies)])
    with pytest.raises(BrokerUnreachable):
        broker.connect()
    server.start()
    broker.connect()
    assert broker.commit([answer(held, names.replies)]).settled
    (waiting,) = take(broker, names.requests)
    assert (waiting.body, waiting.deliveries) == (b"waiting", 1)
    broker.close()
    server.stop()


def test_a_server_that_stood_still_for_longer_than_a_lease_buries_nobody(
    tmp_path_factory: pytest.TempPathFactory, names: Names
) -> None:
    """Every lease ran out, and everybody lives: nothing is delivered again."""
    server = ValkeyServer(tmp_path_factory.mktemp("stopped")).start()
    brokers = [RedisBroker(server.url, names, BrokerOptions(1.0, reaps=True)) for _ in range(3)]
    for broker in brokers:
        broker.connect()
    brokers[0].send(names.requests, [Message(b"%d" % n) for n in range(30)])
    held = [take(broker, names.requests, 10) for broker in brokers]
    server.send_signal(signal.SIGSTOP)
    resumed = threading.Timer(2.5, server.send_signal, [signal.SIGCONT])
    resumed.start()
    redelivered: list[Message] = []

    def go_on(broker: RedisBroker, messages: list[Message]) -> int:
        try:
            broker.keep_alive()
            redelivered.extend(broker.receive({names.requests: 10}, 0.01))
            return len(broker.commit([answer(message, names.replies) for message in messages]).settled)
        except BrokerLost:
            with suppress(BrokerUnreachable):
                broker.connect()
            return 0

    resumed.join()
    for broker, messages in zip(brokers, held, strict=True):
        until(lambda b=broker, m=messages: go_on(b, m) == 10, what="ten settled")  # type: ignore[misc]
    assert not redelivered
    with server.client() as client:
        assert client.llen(names.replies) == 30
    for broker in brokers:
        broker.close()
    server.stop()


def test_a_private_queue_goes_with_its_owner(opened: Opener, client: redis.Redis, names: Names) -> None:
    """Killed: its replies go, and what comes later is a dead letter. Closed: the same at once."""
    worker, killed, closed = opened(reaps=True), opened(), opened()
    queues = [names.replies_for("killed"), names.replies_for("closed")]
    killed.own(queues[0])
    closed.own(queues[1])
    worker.send(names.requests, [Message(b"%d" % n) for n in range(4)])
    messages = take(worker, names.requests, 4)
    for message, queue in zip(messages[:2], queues, strict=True):
        worker.commit([answer(message, queue)])
        assert client.llen(queue) == 1
    take(killed, queues[0])
    presume_dead(client, names, killed)
    worker.reap()
    closed.close()
    assert not client.exists(*queues, names.owners)
    for message, queue in zip(messages[2:], queues, strict=True):
        assert [out.queue for out in worker.commit([answer(message, queue)]).undeliverable] == [queue]
    assert not client.exists(*queues)
    with pytest.raises(Undeliverable):
        worker.send(queues[0], [Message(b"x")])


def test_the_oldest_message_is_looked_at_and_stays(
    opened: Opener, client: redis.Redis, names: Names, valkey: ValkeyServer
) -> None:
    """By its own time, of all priorities, in whoever's envelope; a payload cannot pretend to be a header."""
    broker = opened()
    assert broker.oldest() == {}
    claims = b'{"payload": {"enqueued_at":1}, "text": "\\"enqueued_at\\":2"}'
    for when in (300.5, 400.5):
        broker.send(names.requests, [Message(claims, headers={"enqueued_at": when})])
    broker.send(names.misses, [Message(b"says nothing of its time")])
    assert broker.oldest() == {names.requests: 300.5}
    with kombu.Connection(valkey.url) as connection, connection.SimpleQueue(names.requests) as queue:
        queue.put({"payload": 1}, headers={"enqueued_at": 200.25}, priority=6)
    client.lpush(names.misses, b"no envelope at all")
    assert broker.oldest() == {names.requests: 200.25}
    assert len(take(broker, names.requests, 3)) == 3
    assert broker.oldest() == {}


def test_waiting_is_no_polling(opened: Opener, client: redis.Redis, names: Names) -> None:
    """An idle worker asks a handful of times, and a message wakes it."""
    broker = opened()
    before = client.info("stats")["total_commands_processed"]
    assert broker.receive({names.requests: 1, names.misses: 1}, 2) == []
    asked = client.info("stats")["total_commands_processed"] - before
    # Each claim looks at nine keys from inside its script, and the server counts those, too.
    assert asked < 200
    sender = opened()
    later = threading.Timer(0.2, sender.send, [names.requests, [Message(b"now")]])
    later.start()
    assert [message.body for message in broker.receive({names.requests: 1}, 30)] == [b"now"]
    later.join()


def test_waiting_on_a_full_server_is_no_hot_loop(opened: Opener, client: redis.Redis, names: Names) -> None:
    """It refuses the peek at once, every time; what it holds is found all the same."""
    broker, sender = opened(), opened()
    sender.send(names.misses, [Message(b"there")])
    client.config_set("maxmemory", "1")
    try:
        before = client.info("stats")["total_connections_received"]
        assert broker.receive({names.requests: 1}, 2) == []
        assert client.info("stats")["total_connections_received"] - before < 10
        assert [message.body for message in broker.receive({names.misses: 1}, 5)] == [b"there"]
    finally:
        client.config_set("maxmemory", "0")


def test_more_than_a_script_can_unpack_is_held_and_given_back(
    opened: Opener, client: redis.Redis, names: Names
) -> None:
    """20,000 messages through every script."""
    broker, reaper = opened(), opened(reaps=True)
    count = 20_000
    broker.send(names.requests, [Message(b"%d" % n) for n in range(count)])
    messages = take(broker, names.requests, count)
    broker.release(messages[: count // 2])
    broker.connect()
    assert len(broker.commit([Settlement(m, ()) for m in messages[-100:]]).settled) == 100
    presume_dead(client, names, broker)
    while reaper.reap():
        pass
    assert client.llen(names.requests) == count - 100
    assert not in_flight(client, names)
    again = take(reaper, names.requests, count - 100)
    assert len(reaper.commit([answer(message, names.replies) for message in again]).settled) == count - 100
    assert not client.exists(names.deliveries)
    assert client.llen(names.replies) == count - 100


@pytest.mark.parametrize(
    ("fsync", "aof", "possible"), [("always", "yes", True), ("everysec", "yes", True), ("no", "no", False)]
)
def test_strict_durability_is_kept_or_refused(
    tmp_path_factory: pytest.TempPathFactory, names: Names, fsync: str, aof: str, possible: bool
) -> None:
    """On disk when it is confirmed, or the worker does not start."""
    server = ValkeyServer(tmp_path_factory.mktemp("strict"), appendonly=aof, appendfsync=fsync).start()
    broker = RedisBroker(server.url, names, BrokerOptions(durability="strict"))
    if possible:
        broker.connect()
        broker.send(names.requests, [Message(b"x")])
        (message,) = take(broker, names.requests)
        assert broker.commit([answer(message, names.replies)]).settled
        with server.client() as client:
            asked = client.info("commandstats").get("cmdstat_waitaof", {"calls": 0})["calls"]
        assert (asked > 0) == (fsync != "always")
    else:
        with pytest.raises(BrokerUnreachable, match="appendfsync always"):
            broker.connect()
    broker.close()
    server.stop()


def test_sentinels_lead_to_the_new_master(tmp_path: Path, names: Names) -> None:
    """The master is killed; the connection after that is to the replica that took its place."""
    with ExitStack() as stack:
        master = stack.enter_context(ValkeyServer(tmp_path / "m", repl_diskless_sync_delay="0"))
        replica = stack.enter_context(ValkeyServer(tmp_path / "r", replicaof=f"127.0.0.1 {master.port}"))
        watchers = [
            stack.enter_context(ValkeyServer(tmp_path / f"s{n}").as_sentinel("mq", master)) for n in range(3)
        ]
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
        until(lambda: watchers[0].sees_quorum("mq"), what="a quorum that knows the replica")
        broker = RedisBroker(f"redis+sentinel://{hosts}/mq/0", names, BrokerOptions())
        stack.callback(broker.close)
        broker.connect()
        broker.send(names.requests, [Message(b"before")])
        with replica.client() as client:
            until(lambda: client.llen(names.requests) == 1, what="replication")
        master.stop(signal.SIGKILL)

        def back() -> bool:
            try:
                broker.connect()
                broker.send(names.requests, [Message(b"after")])
            except BrokerError:
                return False
            return True

        until(back, 30, "the failover")
        assert [m.body for m in take(broker, names.requests, 2)] == [b"before", b"after"]
