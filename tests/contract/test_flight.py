"""Single flight: what one worker calls, all who want the same answer get, in this worker and in others.

The cache and its leases are on a real server; only the clock of the looks is ours.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import orjson
import pytest
import redis

from broker.base import NDJSON, Message
from tests.contract.test_cache import Observed
from tests.support.proxy import Proxy
from tests.support.servers import ValkeyServer
from tests.support.waiting import until
from wire.errors import ErrorKind, Failure
from wire.message import Limits
from wire.names import Names
from worker.breaker import Breaker
from worker.cache import RedisCache, Write
from worker.cache_link import CacheLink
from worker.calls import Answered
from worker.catalog import Catalog, Model
from worker.delivery import Delivery
from worker.entry import Entry
from worker.flight import Flights
from worker.handler import Handler
from worker.job import Job

LEASE = 0.4
NAMES = Names("flight")


class Worker:
    """The part of a worker between its queue and its model: the test is both."""

    def __init__(self, token: str, cache: RedisCache) -> None:
        self.cache = cache
        self.now = 0.0
        self.faults: list[Exception] = []
        model = Model("m", "1")
        self.handler = Handler(
            Catalog({"m": model}),
            cache,
            NAMES,
            Limits(),
            time.time,
            lambda: None,
            self.faults.append,
            token=token,
        )
        self.flights = Flights(cache, NAMES, token, lambda: self.now, lease_seconds=LEASE)
        self.calls: list[Job] = []

    def receive(self, *requests: bytes) -> Delivery:
        batch = self.handler.handle([Message(b"\n".join(requests), NDJSON, "c")], 0.0)
        self._follow(self.flights.begin(batch.calls))
        return batch.deliveries[0]

    def look(self) -> list[Job]:
        """A later turn of the loop; the calls that it began."""
        self.now += 1.0
        before = len(self.calls)
        self._follow(self.flights.look())
        return self.calls[before:]

    def answer(
        self,
        job: Job,
        result: bytes | None = b"1",
        *,
        begun: float | None = None,
        failure: Failure | None = None,
    ) -> None:
        created = time.time() if begun is None else begun
        answers = self.flights.land([Answered(job, result, failure, created, 0.05)])
        self.handler.finish(answers)
        self.flights.give_up(answers)

    def _follow(self, news: object) -> None:
        calls, found = news  # type: ignore[misc]
        self.calls += [*calls, *self.flights.begin_alone(self.handler.coalesce(found))]


@pytest.fixture
def client(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        client.flushdb()
        yield client


@pytest.fixture
def hired(valkey: ValkeyServer, client: redis.Redis) -> Iterator[Callable[..., Worker]]:
    """Makes workers."""
    with ExitStack() as stack:

        def hire(token: str, port: int = valkey.port) -> Worker:
            connect = partial(CacheLink, f"redis://127.0.0.1:{port}/0")
            breaker = Breaker(10_000, 0.0, time.monotonic, lambda _: None)
            cache = RedisCache(connect, breaker, Observed(), deadline_seconds=0.5)
            stack.callback(cache.close)
            return Worker(token, cache)

        yield hire


def outcomes(delivery: Delivery) -> list[str]:
    assert delivery.is_answered
    return sorted(outcome.value for _, outcome in delivery.outcomes)


def ids(delivery: Delivery) -> list[str]:
    (out,) = delivery.settlement(NAMES, Limits(), 0.0).outgoing
    return [orjson.loads(line)["id"] for line in out.message.body.splitlines()]


def test_equal_requests_of_a_worker_cost_one_call(hired: Callable[..., Worker]) -> None:
    """In one message and in a later one: each is answered under its own id."""
    worker = hired("a")
    first = worker.receive(*[b'{"payload":1,"id":"i%d"}' % n for n in range(3)], b'{"payload":2}')
    later = worker.receive(b'{"payload":1}')
    one, two = worker.calls
    worker.answer(one)
    assert outcomes(later) == ["coalesced"]
    assert not first.is_answered
    worker.answer(two)
    assert outcomes(first) == ["coalesced", "coalesced", "miss", "miss"]
    assert ids(first) == ["i0", "i1", "i2", "c.3"]
    assert outcomes(worker.receive(b'{"payload":1}')) == ["hit"], "the flight is over"


def test_what_another_worker_calls_is_waited_for(hired: Callable[..., Worker], client: redis.Redis) -> None:
    """The followers hold no call, and are answered at the first look after the entry is there."""
    leader, other = hired("a"), hired("b")
    leader.receive(b'{"payload":1}')
    waiting = other.receive(b'{"payload":1}', b'{"payload":1}')
    assert (len(leader.calls), other.calls, other.look()) == (1, [], [])
    assert other.flights.next_due_seconds() is not None
    leader.answer(leader.calls[0])
    assert other.look() == []
    assert outcomes(waiting) == ["coalesced", "coalesced"]
    assert list(client.scan_iter("flight:flight:*")) == [], "no lease is left"
    assert other.flights.next_due_seconds() is None


def test_a_lease_is_held_as_long_as_the_call_takes_and_no_longer_than_its_worker_lives(
    hired: Callable[..., Worker], client: redis.Redis
) -> None:
    """Renewed while its loop turns; once that has died, one of those who wait takes over."""
    leader, other = hired("a"), hired("b")
    leader.receive(b'{"payload":1}')
    waiting = other.receive(b'{"payload":1}')
    (lease,) = client.scan_iter("flight:flight:*")
    client.pexpire(lease, 100)
    leader.look()
    assert client.pttl(lease) > 100
    assert other.look() == []
    (call,) = until(other.look, what="the end of the lease")
    other.answer(call)
    assert outcomes(waiting) == ["miss"]


@pytest.mark.parametrize(
    ("request_", "result", "failure"),
    [
        (b'{"payload":1}', None, Failure(ErrorKind.MODEL_UNAVAILABLE, "down", 3)),
        (b'{"payload":1}', b'"' + b"x" * (1 << 20) + b'"', None),
    ],
)
def test_a_leader_that_brings_nothing_says_so(
    hired: Callable[..., Worker], request_: bytes, result: bytes | None, failure: Failure | None
) -> None:
    """Failed, or too large to be kept: the next look is the others' own call, not the end of a lease."""
    leader, *others = (hired(token) for token in "abc")
    mine = leader.receive(request_, request_)
    waiting = [other.receive(request_) for other in others]
    leader.answer(leader.calls[0], result, failure=failure)
    assert mine.is_answered
    calls = [other.look() for other in others]
    for other, (call,) in zip(others, calls, strict=True):
        other.answer(call)
    assert [outcomes(delivery) for delivery in waiting] == [["miss"], ["miss"]], (
        "neither waited for the other"
    )


def test_a_refresh_joins_nothing_that_began_before_it(hired: Callable[..., Worker]) -> None:
    """Its answer is of its own call; who comes later may have that one, too."""
    worker, other = hired("a"), hired("b")
    old = worker.receive(b'{"payload":1}')
    fresh = worker.receive(b'{"payload":1,"refresh":true}')
    late = worker.receive(b'{"payload":1}')
    far = other.receive(b'{"payload":1,"refresh":true}')
    first, second = worker.calls
    worker.answer(first)
    assert (outcomes(old), fresh.is_answered, late.is_answered) == (["miss"], False, False)
    worker.answer(second, b"2")
    assert (outcomes(fresh), outcomes(late)) == (["refresh"], ["coalesced"])
    other.answer(other.calls[0], b"3")
    assert outcomes(far) == ["refresh"]


def test_who_waited_here_for_another_worker_is_not_forgotten_by_a_refresh(
    hired: Callable[..., Worker],
) -> None:
    """It takes them along."""
    leader, other = hired("a"), hired("b")
    leader.receive(b'{"payload":1}')
    waiting = other.receive(b'{"payload":1}')
    other.receive(b'{"payload":1,"refresh":true}')
    (call,) = other.calls
    other.answer(call, b"2")
    assert outcomes(waiting) == ["coalesced"]


def test_what_is_not_stored_leads_nobody(hired: Callable[..., Worker]) -> None:
    """no_store may follow; bypass neither follows nor leads."""
    worker = hired("a")
    alone = worker.receive(b'{"payload":1,"no_store":true}')
    worker.receive(b'{"payload":1}')
    follows = worker.receive(b'{"payload":1,"no_store":true}', b'{"payload":1,"bypass":true}')
    first, leader, bypass = worker.calls
    worker.answer(leader)
    worker.answer(first)
    worker.answer(bypass)
    assert (outcomes(alone), outcomes(follows)) == (["miss"], ["bypass", "coalesced"])


def test_a_slow_old_call_leaves_the_newer_entry(hired: Callable[..., Worker]) -> None:
    """A miss that began before a refresh and ends after it is answered, and stores nothing."""
    worker, now = hired("a"), time.time()
    old = worker.receive(b'{"payload":1}')
    worker.receive(b'{"payload":1,"refresh":true}')
    slow, fresh = worker.calls
    worker.answer(fresh, b'"new"', begun=now)
    worker.answer(slow, b'"old"', begun=now - 5)
    assert outcomes(old) == ["miss"]
    hit = worker.receive(b'{"payload":1}')
    (out,) = hit.settlement(NAMES, Limits(), 0.0).outgoing
    assert orjson.loads(out.message.body)["result"] == "new"


def test_without_the_cache_single_flight_within_the_worker_remains(
    hired: Callable[..., Worker], valkey: ValkeyServer
) -> None:
    """One call, and no wait for a server that does not answer."""
    proxy = Proxy(valkey.port)
    proxy.mode = "refuse"
    worker = hired("a", proxy.port)
    delivery = worker.receive(b'{"payload":1}', b'{"payload":1}')
    (call,) = worker.calls
    worker.answer(call)
    assert outcomes(delivery) == ["coalesced", "unavailable"]
    proxy.close()


def test_a_full_server_gives_no_leases_and_takes_none_for_ever(
    hired: Callable[..., Worker], client: redis.Redis
) -> None:
    """Everybody calls for himself; a lease from before ends with its call all the same."""
    leader, other = hired("a"), hired("b")
    leader.receive(b'{"payload":1}')
    client.config_set("maxmemory", "1")
    try:
        leader.answer(leader.calls[0])
        assert list(client.scan_iter("flight:flight:*")) == []
        other.receive(b'{"payload":1}')
        assert len(other.calls) == 1
    finally:
        client.config_set("maxmemory", "0")


def test_an_entry_that_cannot_be_read_is_no_answer(hired: Callable[..., Worker], client: redis.Redis) -> None:
    """Whoever waited for it calls the model."""
    leader, other = hired("a"), hired("b")
    leader.receive(b'{"payload":1}')
    waiting = other.receive(b'{"payload":1}')
    entry = NAMES.entry("m", "1", leader.calls[0].key or "")
    client.set(entry, b"garbage")
    assert other.look() == [], "it is as if there were none, and somebody makes the call"
    client.set(entry, b'["k1","somebody else\'s",1.5,2.5,1,1,1]\n1')
    (call,) = other.look()
    other.answer(call)
    assert outcomes(waiting) == ["miss"]


def test_an_older_write_loses_whoever_makes_it(hired: Callable[..., Worker], client: redis.Redis) -> None:
    """By the beginning of the call behind it, at the server, in one step."""
    cache = hired("a").cache
    entries = [Entry("d" * 64, created, created + 60, 1, b"%d" % created) for created in (200, 100, 300)]
    for entry in entries:
        cache.write([Write("e", entry.encode(), 60, entry.created, "l", "t")])
        stored = client.get("e") or b""
        assert Entry.decode(stored, "d" * 64).created == max(200, entry.created)


def test_a_refresh_beside_a_plain_request_orphans_nobody(hired: Callable[..., Worker]) -> None:
    """In whatever order they come, while another worker makes the call: the refresh answers both."""
    leader, other = hired("a"), hired("b")
    leader.receive(b'{"payload":1}')
    body = b'{"payload":1}\n{"payload":1,"refresh":true}'
    batch = other.handler.handle([Message(body, NDJSON, "c")], 0.0)
    (call,) = other.flights.begin(sorted(batch.calls, key=lambda job: job.request.refresh)).calls
    other.answer(call, b"2")
    assert outcomes(batch.deliveries[0]) == ["coalesced", "refresh"]
    assert other.flights.next_due_seconds() is None, "nothing is left of it"


def test_who_may_lead_is_in_front_when_a_lease_ends(
    hired: Callable[..., Worker], client: redis.Redis
) -> None:
    """A request that is not to be stored came with it, and would store nothing for the others."""
    leader, other = hired("a"), hired("b")
    leader.receive(b'{"payload":1}')
    other.receive(b'{"payload":1}', b'{"payload":1,"no_store":true}')
    client.delete(*client.scan_iter("flight:flight:*"))
    (call,) = other.look()
    assert not call.request.no_store


def test_an_entry_of_no_use_costs_one_call_for_all_who_waited(
    hired: Callable[..., Worker], client: redis.Redis
) -> None:
    """Unreadable, or expired by our clock while the server still has it."""
    leader, other = hired("a"), hired("b")
    leader.receive(b'{"payload":1}')
    waiting = other.receive(b'{"payload":1}', b'{"payload":1}', b'{"payload":1}')
    key = leader.calls[0].key or ""
    client.set(NAMES.entry("m", "1", key), Entry(key, 1.0, 2.0, 5, b"1").encode())
    (call,) = other.look()
    other.answer(call)
    assert outcomes(waiting) == ["coalesced", "coalesced", "miss"]


def test_who_leaves_lets_go(hired: Callable[..., Worker], client: redis.Redis) -> None:
    """What a drained worker has not finished is somebody else's at once."""
    leader, other = hired("a"), hired("b")
    leader.receive(b'{"payload":1}')
    other.receive(b'{"payload":1}')
    leader.flights.close()
    assert len(other.look()) == 1


def test_a_strange_value_under_a_name_spoils_only_its_own(
    hired: Callable[..., Worker], client: redis.Redis
) -> None:
    """Another type where a lease should be, an entry from the future: a call, and a new entry instead."""
    worker = hired("a")
    keys = [worker.handler.handle([Message(b'{"payload":%d}' % n)], 0.0).calls[0].key or "" for n in (1, 2)]
    client.lpush(NAMES.flight("m", "1", keys[0]), "strange")
    client.set(NAMES.entry("m", "1", keys[1]), b'["k1","x",99999999999,')
    first = worker.receive(b'{"payload":1}', b'{"payload":2}')
    assert len(worker.calls) == 2
    for call in list(worker.calls):
        worker.answer(call)
    assert outcomes(first) == ["miss", "miss"]
    assert outcomes(worker.receive(b'{"payload":2}')) == ["hit"]


@pytest.mark.parametrize(
    ("failure", "result", "is_last"),
    [
        (Failure(ErrorKind.MODEL_UNAVAILABLE, "away", 3), None, True),
        (Failure(ErrorKind.DEADLINE_EXCEEDED, "late"), None, False),
        (None, b"1" * (2 << 20), False),
    ],
)
def test_the_attempts_of_a_leader_were_made_for_other_workers_too(
    hired: Callable[..., Worker], failure: Failure | None, result: bytes | None, is_last: bool
) -> None:
    """Who goes on after a failure tries once; after a result that is only too large, as often as ever."""
    leader, other = hired("a"), hired("b")
    leader.receive(b'{"payload":1}')
    other.receive(b'{"payload":1}')
    leader.answer(leader.calls[0], result, failure=failure)
    (call,) = other.look()
    assert (call.is_last, call.attempts > 0) == (is_last, is_last)
    newcomer = hired("c")
    newcomer.receive(b'{"payload":1}')
    assert [job.is_last for job in newcomer.calls] == [False], "it has waited for nobody"
