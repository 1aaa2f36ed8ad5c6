"""What the worker tells of commits whose end it hears of later."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock

import pytest

from broker.base import BrokerLost, Committed, Message, Outgoing, Settlement
from worker.delivery import Delivery
from worker.settling import Settling


class Slow:
    """A broker that says with each commit what came of the one before."""

    def __init__(self) -> None:
        self.under_way: list[Settlement] = []
        self.begun: list[bytes] = []
        self.is_lost = False
        self.gone: set[bytes] = set()

    def commit(self, settlements: Sequence[Settlement], *, wait: bool = True) -> Committed:
        if self.is_lost:
            raise BrokerLost("off")
        self.begun += [settlement.message.body for settlement in settlements]
        ended, self.under_way = self.under_way, list(settlements)
        if wait:
            ended, self.under_way = ended + self.under_way, []
        gone = [settlement for settlement in ended if settlement.message.body in self.gone]
        return Committed([s for s in ended if s not in gone], [out for s in gone for out in s.outgoing], gone)


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def settling(slow: Slow, told: list[Any]) -> Settling:
    observer = Mock()
    observer.settled = lambda pairs: told.append([delivery.message.body for delivery, _ in pairs])
    observer.forgotten = lambda delivery: told.append(delivery.message.body)
    observer.undeliverable = told.append
    return Settling(
        slow,  # type: ignore[arg-type]
        observer,
        lambda delivery: Settlement(delivery.message, [Outgoing("q", delivery.message)]),
    )


def delivery(body: bytes) -> Delivery:
    return Delivery(Message(body), [], 0.0)


def test_it_is_told_when_it_is_reported_and_not_before(settling: Settling, told: list[Any]) -> None:
    """One commit late, or at once for whoever waits."""
    settling.commit([delivery(b"a"), delivery(b"b")], wait=False)
    assert (told, bool(settling)) == ([], True)
    settling.commit([delivery(b"c")], wait=False)
    assert (told, bool(settling)) == ([[b"a", b"b"]], True)
    settling.commit([delivery(b"d")], wait=True)
    assert (told, bool(settling)) == ([[b"a", b"b"], [b"c", b"d"]], False)


def test_where_nothing_is_unreported_nothing_is_asked(settling: Settling, slow: Slow) -> None:
    """An idle worker does not commit nothing over and over."""
    slow.is_lost = True
    settling.commit([], wait=True)


def test_what_a_lost_connection_left_unreported_is_begun_again(
    settling: Settling, slow: Slow, told: list[Any]
) -> None:
    """What was under way, and what could not be begun: each is told once."""
    settling.commit([delivery(b"a")], wait=False)
    slow.is_lost = True
    with pytest.raises(BrokerLost):
        settling.commit([delivery(b"b")], wait=False)
    slow.is_lost, slow.under_way, slow.begun = False, [], []
    settling.begin_again()
    settling.commit([delivery(b"c")], wait=True)
    assert slow.begun == [b"a", b"b", b"c"]
    assert (told, bool(settling)) == ([[b"a", b"b", b"c"]], False)


def test_what_is_gone_is_forgotten(settling: Settling, slow: Slow, told: list[Any]) -> None:
    """It is somebody else's to count."""
    slow.gone = {b"b"}
    settling.commit([delivery(b"a"), delivery(b"b")], wait=True)
    assert (told, bool(settling)) == ([[b"a"], b"b", 1], False)
