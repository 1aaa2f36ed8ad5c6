"""What a courier owes its broker after a connection was lost."""

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
    messages = courier.receive("q", 1, 0)
    broker.breaks[verb] = 1
    (courier.settle if verb == "commit" else courier.release)(messages)
    assert broker.held == messages
    again = courier.receive("q", 1, 0)
    assert [m.body for m in again] == [b"2" if verb == "commit" else b"1"]
    assert broker.held == again
