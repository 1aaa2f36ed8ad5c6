"""What a courier owes its broker after a connection was lost."""

import os

import pytest

from broker.base import Message
from producer.courier import Courier
from tests.unit.test_producer_client import MemoryBroker


class KeepingBroker(MemoryBroker):
    """Holds for its user what an earlier connection received, as the broker on Redis does."""

    def connect(self) -> None:
        self.connected = True


@pytest.mark.parametrize("verb", ["commit", "release"])
def test_what_could_not_be_settled_is_settled_with_the_next(verb: str) -> None:
    """Else the broker would hold it for as long as the producer lives."""
    broker = KeepingBroker()
    broker.mute = True
    courier = Courier(broker, sleep=lambda _: None)
    courier.connect()
    broker.queues["q"].extend([Message(b"1"), Message(b"2")])
    messages = courier.receive({"q": 1}, 0)
    broker.breaks[verb] = 1
    (courier.settle if verb == "commit" else courier.release)(messages)
    assert broker.held == messages
    again = courier.receive({"q": 1}, 0)
    assert courier.trouble is None, "what is over would end the next verb that fails"
    assert [m.body for m in again] == [b"2" if verb == "commit" else b"1"]
    assert broker.held == again


def test_a_forked_child_leaves_its_parents_broker_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that only ended took its parent's lease and reply queue along; one that asked mixed up both."""
    broker = KeepingBroker()
    courier = Courier(broker, sleep=lambda _: None)
    courier.connect()
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="fork"):
            courier.send("q", [Message(b"1")])
        with pytest.raises(RuntimeError, match="fork"):
            courier.receive({"q": 1}, 0)
        courier.release([Message(b"1")])
        courier.close()
    assert broker.connected
    courier.send("q", [Message(b"1")])


def test_a_closed_courier_says_so() -> None:
    """It would connect again, to a broker that renews no lease any more."""
    courier = Courier(KeepingBroker(), sleep=lambda _: None)
    courier.connect()
    courier.close()
    courier.close()
    with pytest.raises(RuntimeError, match="closed"):
        courier.send("q", [Message(b"1")])
