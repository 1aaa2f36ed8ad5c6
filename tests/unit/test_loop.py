"""The loop's patience with a broker that cannot be worked with."""

from typing import Any
from unittest.mock import Mock

from broker.base import BrokerLost
from tests.unit.test_handler import Store, build
from wire.message import Limits
from wire.names import Names
from worker.intake import Intake
from worker.loop import Loop


def test_a_broker_that_connects_and_refuses_the_work_is_asked_ever_more_rarely() -> None:
    """A queue key of another type, a forbidden command: each connection is made, and each turn fails."""
    now = [0.0]
    broker = Mock()
    loop: Loop

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] > 120:
            loop.stop()

    def refuse(*_: Any) -> None:
        now[0] += 0.001
        raise BrokerLost("WRONGTYPE")

    broker.receive.side_effect = refuse
    handler, _ = build(Store())
    calls = Mock(**{"advance.return_value": [], "next_due_seconds.return_value": None})
    calls.exhausted.return_value = None
    loop = Loop(
        broker,
        handler,
        calls,
        Mock(),
        Names(),
        Limits(),
        clock=lambda: now[0],
        wall_clock=lambda: now[0],
        sleep=sleep,
        intake=Intake(256, 64 << 20),
        reconnect_max_seconds=10.0,
        drain_seconds=1.0,
        retry=True,
        dead_letter_failed=False,
    )
    loop.run()
    assert 5 < broker.connect.call_count < 100
