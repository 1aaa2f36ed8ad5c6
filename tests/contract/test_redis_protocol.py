"""Claim, commit, release, reap and reconnect in any order, with answers lost and commands that run late.

The reference is one sentence: each request is in exactly one place, be it its queue, in flight, or answered.
"""

import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.exceptions import ConnectionError as Cut

from broker.base import BrokerError, BrokerLost, BrokerOptions, Committed, Message, Outgoing, Settlement
from broker.redis import broker as broker_module
from broker.redis import claims
from broker.redis.broker import RedisBroker
from broker.redis.envelope import decode
from broker.redis.link import Link, Posted, _script
from tests.support.servers import ValkeyServer
from wire.names import Names

WORKERS = range(2)
worker = st.sampled_from(WORKERS)
fate = st.sampled_from(["answered"] * 6 + ["lost", "late", "never"])
# In one step: a claim that waits may run at any moment.
EVERYWHERE = """
local items = {}
local function add(found) for _, item in ipairs(found) do items[#items + 1] = item end end
for _, list in ipairs(KEYS) do add(redis.call('LRANGE', list, 0, -1)) end
for _, hash in ipairs(redis.call('KEYS', ARGV[1])) do add(redis.call('HVALS', hash)) end
return items
"""


class Network:
    """What becomes of each command: answered; run but not answered; run later; never run."""

    def __init__(self) -> None:
        self.fate = "answered"
        self.hides = False  # whether what is broken while something is posted shows only afterwards
        self.under_way: list[tuple[Any, ...]] = []


class LossyLink(Link):
    """A link over a network that a test rules."""

    network: Network
    is_cut = False

    def ask(self, *command: Any) -> Any:
        self.still_there()
        if command[0] != "EVALSHA" or self.network.fate == "answered":
            return super().ask(*command)
        if self.network.fate == "late":
            self.network.under_way.append(command)
        if self.network.fate == "lost":
            super().ask(*command)
        raise Cut("no answer")

    def post(self, script: str, keys: Any, arguments: Any) -> Posted:
        """Sent, or so it seems: what became of it shows with the next answer that is awaited."""
        self.still_there()
        fate = self.network.fate
        if fate in ("answered", "lost"):
            posted = super().post(script, keys, arguments)
        if fate != "answered":
            self.is_cut = True
            if fate == "late":
                digest = super().ask("SCRIPT", "LOAD", _script(script).source).decode()
                self.network.under_way.append(("EVALSHA", digest, len(keys), *keys, *arguments))
            if not self.network.hides:
                raise Cut("broken while it was sent")
            posted = Posted(script, keys, arguments)
        return posted

    def fetch(self, posted: Posted) -> Any:
        """As it was when it was sent; or what came of it is lost only now."""
        self.still_there()
        answer = super().fetch(posted)
        if self.network.fate != "answered":
            raise Cut("no answer")
        return answer

    def still_there(self) -> None:
        if self.is_cut:
            raise Cut("broken before")


class Protocol(RuleBasedStateMachine):
    """Two workers, a producer, and everything that can come between them."""

    server: ValkeyServer

    def __init__(self) -> None:
        super().__init__()
        self.names = Names("p")
        self.network = LossyLink.network = Network()
        self.client = self.server.client()
        self.client.flushdb()
        self.sent = 0
        self.workers = [self.new_worker() for _ in WORKERS]
        self.held: dict[int, list[Message]] = {n: [] for n in WORKERS}
        self.said: Counter[bytes] = Counter()
        self.unreported: dict[int, list[Settlement]] = {n: [] for n in WORKERS}

    def new_worker(self) -> RedisBroker:
        opened = RedisBroker(self.server.url, self.names, BrokerOptions(3600.0, reaps=True))
        opened.connect()
        return opened

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        self.come_back(0)
        items = [b"%d" % n for n in range(self.sent, self.sent + count)]
        self.sent += count
        try:
            self.workers[0].send(self.names.requests, [Message(item) for item in items])
        except BrokerLost:  # its lease was gone: nothing was sent
            self.sent -= count

    @rule(n=worker, most=st.integers(1, 4), fate=fate)
    def claim(self, n: int, most: int, fate: str) -> None:
        self.come_back(n)
        with self.ruled(fate), suppress(BrokerLost):
            self.held[n] += self.workers[n].receive({self.names.requests: most}, 0)

    @rule(n=worker, most=st.integers(2, 4), fate=fate)
    def claim_and_break(self, n: int, most: int, fate: str) -> None:
        """The claim is answered; what follows it in the same call is not."""
        self.come_back(n)
        link = self.workers[n]._caller._link
        assert link is not None
        ask = link.ask

        def ask_then_break(*command: Any) -> Any:
            answer = ask(*command)
            self.network.fate = fate
            return answer

        link.ask = ask_then_break  # type: ignore[method-assign]
        try:
            with suppress(BrokerLost):
                self.held[n] += self.workers[n].receive({self.names.requests: most}, 0)
        finally:
            link.ask = ask  # type: ignore[method-assign]
            self.network.fate = "answered"

    @rule(n=worker, most=st.integers(1, 4), breaks=st.sampled_from([False, False, True]))
    def wait(self, n: int, most: int, breaks: bool) -> None:
        """Its question stands from now on, whatever comes next; or the connection that it is on breaks."""
        self.come_back(n)
        try:
            self.held[n] += self.workers[n].receive({self.names.requests: most}, 0.001)
        except BrokerLost:
            return  # it broke before
        if breaks:
            for wait in self.workers[n]._arrivals._waits.values():
                if wait.question is not None:
                    with socket.socket(fileno=os.dup(wait.fileno())) as line, suppress(OSError):
                        line.shutdown(socket.SHUT_RDWR)

    @rule(n=worker, share=st.integers(1, 3), fate=fate, wait=st.booleans(), hides=st.booleans())
    def commit(self, n: int, share: int, fate: str, wait: bool, hides: bool) -> None:
        self.come_back(n)
        some = self.idle(n)[::share]
        settlements = [Settlement(m, [Outgoing(self.names.replies, Message(m.body))]) for m in some]
        self.unreported[n] += settlements
        with self.ruled(fate, hides=hides), suppress(BrokerLost):
            self.report(n, self.workers[n].commit(settlements, wait=wait))
            assert not (wait and self.unreported[n])

    def report(self, n: int, committed: Committed) -> None:
        self.said.update(settlement.message.body for settlement in committed.settled)
        for settlement in (*committed.settled, *committed.gone):
            self.unreported[n].remove(settlement)
            self.held[n] = [m for m in self.held[n] if m is not settlement.message]

    def idle(self, n: int) -> list[Message]:
        """What is held and not under commit."""
        under_way = [settlement.message for settlement in self.unreported[n]]
        return [m for m in self.held[n] if all(m is not other for other in under_way)]

    @rule(n=worker, fate=fate)
    def release(self, n: int, fate: str) -> None:
        """What is under commit is not released, whoever asks for it."""
        self.come_back(n)
        some = self.idle(n)[:2]
        under_way = [settlement.message for settlement in self.unreported[n]]
        with self.ruled(fate):
            try:
                self.workers[n].release([*some, *under_way])
            except BrokerLost:
                return
        self.held[n] = [m for m in self.held[n] if all(m is not other for other in some)]

    @rule(n=worker, fate=fate)
    def recover(self, n: int, fate: str) -> None:
        with self.ruled(fate), suppress(BrokerError):
            self.workers[n].connect()
            self.begin_again(n)

    @rule(n=worker)
    def look_for_news(self, n: int) -> None:
        """A wait takes the answers that have come, and the next commit, of nothing, says so."""
        self.come_back(n)
        with suppress(BrokerLost):
            self.workers[n].receive({}, 0.001)
            self.report(n, self.workers[n].commit((), wait=False))
            assert not self.unreported[n]

    def come_back(self, n: int) -> None:
        """As the loop does before it goes on."""
        if self.workers[n]._caller.is_connected is False:
            self.workers[n].connect()
            self.begin_again(n)

    def begin_again(self, n: int) -> None:
        """Whatever has not been reported is committed once more, and said to be ours or somebody else's."""
        with suppress(BrokerLost):
            self.report(n, self.workers[n].commit(self.unreported[n].copy()))

    @rule(n=worker)
    def die(self, n: int) -> None:
        self.presume_dead(n)
        self.vanish(n)
        self.workers[n] = self.new_worker()

    def vanish(self, n: int) -> None:
        """No farewell: what it held is still its own on the server."""
        self.workers[n]._lease.end()
        self.workers[n]._disconnect()
        self.workers[n]._waiter.close()
        self.held[n], self.unreported[n] = [], []

    @rule(n=worker)
    def presume_dead(self, n: int) -> None:
        for name in (self.workers[n]._caller.holder, *self.workers[n]._earlier):
            self.client.zadd(self.names.leases, {name: 1}, xx=True)

    @rule(n=worker, fate=fate)
    def reap(self, n: int, fate: str) -> None:
        self.come_back(n)
        with self.ruled(fate), suppress(BrokerLost):
            self.workers[n].reap()

    @precondition(lambda self: self.network.under_way)
    @rule()
    def deliver_late(self) -> None:
        self.client.execute_command(*self.network.under_way.pop(0))

    @invariant()
    def each_request_is_in_exactly_one_place(self) -> None:
        keys = [self.names.requests, self.names.replies]
        items = self.client.eval(EVERYWHERE, 2, *keys, self.names.in_flight("*"))
        places = Counter(decode(item, "").body for item in items)
        assert places == Counter(b"%d" % n for n in range(self.sent))

    @invariant()
    def nothing_is_in_flight_that_its_connected_holder_does_not_know(self) -> None:
        """Known to whoever received it, that is: what only the broker's books know is held for ever."""
        for n, opened in enumerate(self.workers):
            asks = any(wait.question for wait in opened._arrivals._waits.values())
            if opened._caller.is_connected and opened._claims._ahead is None and not asks:
                fields = self.client.hkeys(self.names.in_flight(opened._caller.holder))
                assert {field.decode() for field in fields} <= {m.token for m in self.held[n]}

    @invariant()
    def what_was_said_to_be_settled_is(self) -> None:
        assert self.said.keys() <= set(self.answered())
        assert all(count == 1 for count in self.said.values())

    def teardown(self) -> None:
        """One healthy worker answers all that is left, whatever came before."""
        while self.network.under_way:
            self.deliver_late()
        for n in WORKERS:
            self.vanish(n)
        for holder in self.client.zrange(self.names.leases, 0, -1):
            self.client.zadd(self.names.leases, {holder: 1})
        survivor = self.new_worker()
        for _ in range(60):
            survivor.reap()
            for message in survivor.receive({self.names.requests: 100}, 0):
                out = [Outgoing(self.names.replies, Message(message.body))]
                survivor.commit([Settlement(message, out)])
        assert Counter(self.answered()) == Counter(b"%d" % n for n in range(self.sent))
        survivor.close()
        assert set(self.client.keys()) <= {b"p.replies"}
        self.client.close()

    def ruled(self, fate: str, *, hides: bool = False) -> "Ruled":
        return Ruled(self.network, fate, hides)

    def answered(self) -> Iterator[bytes]:
        return (decode(item, "").body for item in self.client.lrange(self.names.replies, 0, -1))


class Ruled:
    """The network behaves like this meanwhile."""

    def __init__(self, network: Network, fate: str, hides: bool) -> None:
        self._network, self._fate, self._hides = network, fate, hides

    def __enter__(self) -> None:
        self._network.fate, self._network.hides = self._fate, self._hides

    def __exit__(self, *_: object) -> None:
        self._network.fate, self._network.hides = "answered", False


def test_no_interleaving_loses_or_doubles_a_reply(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the scripts that ship, and a real server."""
    monkeypatch.setattr(broker_module, "Link", LossyLink)
    monkeypatch.setattr(claims, "_WORTH_SHARING", 2)
    Protocol.server = valkey
    run_state_machine_as_test(
        Protocol,
        settings=settings(
            max_examples=80,
            stateful_step_count=50,
            deadline=None,
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
        ),
    )
