"""What a killed worker held is answered by others within a lease and five seconds, however busy they are."""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import orjson

from broker.base import Broker, Message, Settlement
from producer.client import Producer
from tests.support.fleet import LEASE_SECONDS
from tests.support.rig import Rig
from tests.support.stub_model import Answer
from tests.support.waiting import until

HELD, LOAD = 20, 500
BOUND_SECONDS = LEASE_SECONDS + 5


def test_a_killed_workers_requests_are_answered_under_constant_load(rig: Rig, real_broker_url: str) -> None:
    """Stock kombu sweeps only when idle, so never under load, and after an hour. Here the lease bounds it."""
    is_dead = threading.Event()

    def behave(payload: object) -> Answer:
        if isinstance(payload, str) and not is_dead.is_set():
            is_dead.wait(60)  # the first worker is killed while it waits for this
        return 200, b"1", {}

    rig.model.behave = behave
    settings = {"LEASE_SECONDS": f"{LEASE_SECONDS:g}", "MODELS__M__CONCURRENCY": str(HELD)}
    rig.work(**settings)
    assert len(list(rig.producer.map(range(LOAD)))) == LOAD  # remembered: the load will need no model
    rig.workers.pop().stop()
    rig.model.payloads.clear()
    doomed = rig.work(**settings)
    replies = rig.names.replies_for("held")
    with closing(rig.broker()) as broker:
        broker.declare(replies)
        asked = [orjson.dumps({"payload": f"held {n}", "id": str(n)}) for n in range(HELD)]
        broker.send(rig.names.requests, [Message(body, reply_to=replies) for body in asked])
        until(lambda: rig.model.calls == HELD, what="all of them with the worker that is to die")
        rig.work(**settings)
        with constant_load(real_broker_url, rig.names.prefix) as rows:
            until(lambda: rows["hit"] > 500, what="a busy worker")
            before = rows.total()
            doomed.stop(signal.SIGKILL)
            is_dead.set()
            until(all_answered(broker, replies), BOUND_SECONDS, "the answers of others")
            until(lambda: rows.total() > before, what="the load, which goes on")


@contextmanager
def constant_load(broker_url: str, prefix: str) -> Iterator[Counter[str]]:
    """Replies by outcome, ever more of them."""
    ended, rows = threading.Event(), Counter[str]()

    def load() -> None:
        with Producer(broker_url, prefix=prefix) as producer:
            while not ended.is_set():
                rows.update(reply.outcome for reply in producer.map(range(LOAD), in_flight=200, pack=1))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        yield rows
    finally:
        ended.set()
        thread.join(60)


def all_answered(broker: Broker, replies: str) -> Callable[[], bool]:
    """Whether every request that was held has a reply by now."""
    found: set[str] = set()

    def look() -> bool:
        messages = broker.receive({replies: HELD}, 0.1)
        broker.commit([Settlement(message, ()) for message in messages])
        found.update(orjson.loads(message.body)["id"] for message in messages)
        return len(found) == HELD

    return look
