"""The loop alone: its patience with a broker that cannot be worked with, and commits it does not wait for."""

from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import Mock

from broker.base import WHOLE, BrokerLost, Committed, Message, Settlement
from tests.unit.test_handler import Store, build
from wire.message import Limits
from wire.names import Names
from worker.flight import Flights
from worker.intake import Intake
from worker.lane import Lane
from worker.loop import Loop
from worker.work import Work


class Clock:
    """Moves when it is told to, or when somebody sleeps; `on_tick` sees each new time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.on_tick: Any = lambda _now: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_tick(self.now)


def build_loop(broker: Any, observer: Any, clock: Clock) -> Loop:
    """A real handler; nothing ever calls a model."""
    store = Store()
    handler, _ = build(store)
    calls = Mock(**{"advance.return_value": [], "next_due_seconds.return_value": None, "is_idle": True})
    calls.exhausted.return_value = None
    flights = Flights(store, Names(), "token", lambda: clock.now, lease_seconds=10.0)
    lane = Lane({}, calls, flights, handler.finish, lambda: clock.now, in_flight=256, most_bytes=1 << 20)
    return Loop(
        broker,
        Work(handler, calls, flights, lane, lambda: clock.now, lambda: clock.now),
        observer,
        Names(),
        Limits(),
        clock=lambda: clock.now,
        wall_clock=lambda: clock.now,
        sleep=clock.sleep,
        intake=Intake(256, 64 << 20),
        reconnect_max_seconds=10.0,
        drain_seconds=1.0,
        retry=True,
        is_paused=lambda: False,
        dead_letter_failed=False,
    )


def test_a_broker_that_connects_and_refuses_the_work_is_asked_ever_more_rarely() -> None:
    """A queue key of another type, a forbidden command: each connection is made, and each turn fails."""
    clock, broker = Clock(), Mock()
    loop = build_loop(broker, Mock(), clock)
    clock.on_tick = lambda now: loop.stop() if now > 120 else None

    def refuse(*_: Any) -> None:
        clock.now += 0.001
        raise BrokerLost("WRONGTYPE")

    broker.receive.side_effect = refuse
    loop.run()
    assert 5 < broker.connect.call_count < 100


class Slow:
    """A broker with some messages, whose commits end when they are waited for; `script` runs turn by turn."""

    def __init__(self, script: Sequence[Any]) -> None:
        self.script = list(script)
        self.commits: list[tuple[list[bytes], bool]] = []
        self.under_way: list[Settlement] = []
        self.closed_with: list[Settlement] | None = None

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None

    def receive(self, _credit: Mapping[str, int], _timeout: float) -> list[Message]:
        step = self.script.pop(0) if self.script else list
        messages: list[Message] = step()
        return messages

    def commit(self, settlements: Sequence[Settlement], *, wait: bool = True) -> Committed:
        self.commits.append(([settlement.message.body for settlement in settlements], wait))
        self.under_way += settlements
        ended, self.under_way = (self.under_way, []) if wait else ([], self.under_way)
        return Committed(ended, [])

    def connect(self) -> None:
        self.under_way = []

    def close(self) -> None:
        self.closed_with = self.under_way


def invalid(number: int, deliveries: int = 1) -> list[Message]:
    """A message that is answered at once."""
    return [Message(b"[%d]" % number, queue=Names().requests, deliveries=deliveries)]


def run(*script: Any) -> tuple[Slow, list[bytes]]:
    """The broker after the loop has run these turns and drained, and what it was told is settled."""
    broker, settled, observer = Slow(script), [], Mock()
    observer.settled = lambda pairs: settled.extend(delivery.message.body for delivery, _ in pairs)
    loop = build_loop(broker, observer, Clock())

    def stop() -> list[Message]:
        loop.stop()
        return []

    broker.script.append(stop)
    loop.run()
    return broker, settled


def test_nothing_waits_for_a_commit_but_the_end() -> None:
    """The next is received while the last is under way; before the connection goes all is settled."""
    broker, settled = run(lambda: invalid(1), lambda: invalid(2))
    begun = [(bodies, wait) for bodies, wait in broker.commits if bodies]
    assert begun == [([b"[1]"], False), ([b"[2]"], False)]
    assert broker.commits[-1] == ([], True)
    assert (settled, broker.closed_with) == ([b"[1]", b"[2]"], [])


def test_what_was_under_way_on_a_lost_connection_is_committed_again() -> None:
    """Found by whatever verb: the loop brings all that was not reported, once each."""

    def lose() -> list[Message]:
        raise BrokerLost("off")

    broker, settled = run(lambda: invalid(1), lambda: invalid(2), lose, lambda: invalid(3))
    begun = [bodies for bodies, _ in broker.commits if bodies]
    assert begun == [[b"[1]"], [b"[2]"], [b"[1]", b"[2]"], [b"[3]"]]
    assert settled == [b"[1]", b"[2]", b"[3]"]


def test_a_trial_begins_when_nothing_is_under_commit() -> None:
    """What is not settled would be in flight at the death that convicts."""
    broker = Slow([])
    seen: list[int] = []
    blamed: list[int | None] = []

    def blame(_: Message, position: int | None) -> None:
        blamed.append(position)
        seen.append(len(broker.under_way))

    broker.blame = blame  # type: ignore[attr-defined]
    loop = build_loop(broker, Mock(), Clock())

    def stop() -> list[Message]:
        loop.stop()
        return []

    broker.script = [lambda: invalid(1), lambda: [*invalid(2), *invalid(3, 3)], list, stop]
    loop.run()
    assert (seen, blamed) == ([0, 0], [WHOLE, None])


def test_turns_are_short_while_somebody_asks() -> None:
    """A second long: whoever asks next must not wait for all of the bulk that one turn could take."""
    clock, broker, asked = Clock(), Mock(), list[Mapping[str, int]]()
    broker.commit.return_value = Committed([], [])
    names = Names()

    def receive(credit: Mapping[str, int], _timeout: float) -> list[Message]:
        asked.append(dict(credit))
        clock.now += 0.4
        if len(asked) == 6:
            loop.stop()
            loop.stop()
        return [Message(b"not json", queue=names.interactive)] if len(asked) == 2 else []

    broker.receive.side_effect = receive
    loop = build_loop(broker, Mock(), clock)
    loop.run()
    assert [credit[names.requests] for credit in asked[:6]] == [8, 8, 1, 1, 1, 8]
