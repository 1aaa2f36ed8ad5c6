"""A person does not wait for a bulk run: real workers, both brokers."""

import threading
from collections.abc import Iterator

import orjson
import pytest

from broker.base import JSON, Message
from producer.client import Producer
from tests.support.rig import Rig, collect
from tests.support.stub_model import Answer, echo
from tests.support.waiting import until

BULK, AT_ONCE = 2000, 2


class Saturated:
    """A worker that is full of a `map` of distinct payloads; the model answers none before `gate` is set."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.gate, self.replies = rig, threading.Event(), list[object]()
        rig.model.behave = self._behave
        rig.work(MODELS__M__CONCURRENCY=str(AT_ONCE), IN_FLIGHT="16")
        rig.producer.connect()
        replies = rig.producer.map([f"bulk {n}" for n in range(BULK)], in_flight=BULK, pack=4)
        self._thread = threading.Thread(target=lambda: self.replies.extend(replies))
        self._thread.start()
        until(lambda: self.depth(rig.names.misses) * 4 > BULK // 2, what="a long queue of misses")
        until(lambda: rig.model.calls >= AT_ONCE, what="all threads at the model")

    def _behave(self, payload: object) -> Answer:
        self.gate.wait(60)
        return echo(payload)

    def depth(self, queue: str) -> int:
        broker = self.rig.broker()
        try:
            return broker.depth()[queue]
        finally:
            broker.close()

    def all(self) -> list[object]:
        """The replies of the `map`."""
        self.gate.set()
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self.replies


@pytest.fixture
def saturated(rig: Rig) -> Iterator[Saturated]:
    built = Saturated(rig)
    yield built
    built.gate.set()
    built._thread.join(120)


def test_a_call_overtakes_a_bulk_run(saturated: Saturated, rig: Rig, real_broker_url: str) -> None:
    """Of thousands that came before it, the model is asked for those that are with it already, and no others:
    those that the worker holds wait, too. Then all of the bulk is answered."""
    broker, queue = rig.broker(), rig.names.replies_for("person")
    broker.declare(queue)
    people = [f"person {n}" for n in range(5)]
    messages = [Message(orjson.dumps({"payload": p}), JSON, p, queue, {"enqueued_at": 1e9}) for p in people]
    broker.send(rig.names.interactive, messages)
    with Producer(real_broker_url, prefix=rig.names.prefix) as another:
        # Answered without the model, and behind the others: they are in the worker by then.
        assert another.call("known?", only_if_cached=True, timeout=60).outcome == "not_cached"
    assert saturated.depth(rig.names.misses) * 4 > BULK // 2
    saturated.gate.set()
    outcomes = [orjson.loads(message.body)["outcome"] for message in collect(broker, queue, len(people))]
    assert outcomes == ["miss"] * len(people)
    broker.close()
    asked = [str(payload) for payload in rig.model.payloads]
    last = max(at for at, payload in enumerate(asked) if payload.startswith("person"))
    assert last < len(people) + 2 * AT_ONCE
    replies = saturated.all()
    assert len(replies) == BULK
