"""Hits do not stand behind misses, and a model that is down is left alone: real workers, both brokers."""

import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.base import JSON, NDJSON, Message
from tests.support.processes import WorkerProcess
from tests.support.rig import Rig, collect
from tests.support.stub_model import Answer, body, echo, status
from tests.support.waiting import until

# More attempts than the breaker needs: a request that came first and alone could else use up its own.
QUICK = {
    "MODELS__M__BREAKER_FAILURES": "3",
    "MODELS__M__BREAKER_SECONDS": "0.3",
    "MODELS__M__ATTEMPTS": "20",
}


class Asked:
    """Replies that come while the test goes on."""

    def __init__(self, rig: Rig, payloads: Iterable[Any], **options: Any) -> None:
        self.replies: list[Any] = []
        rig.producer.connect()
        replies = rig.producer.map(payloads, reply_timeout=120, **options)
        self._thread = threading.Thread(target=lambda: self.replies.extend(replies))
        self._thread.start()

    def all(self) -> list[Any]:
        self._thread.join(120)
        assert not self._thread.is_alive()
        return sorted(self.replies, key=lambda reply: reply.index)


def gated(rig: Rig) -> threading.Event:
    """The model answers nobody before the event."""
    opened = threading.Event()

    def behave(payload: Any) -> Answer:
        opened.wait(60)
        return echo(payload)

    rig.model.behave = behave
    return opened


def waiting(rig: Rig) -> dict[str, int]:
    broker = rig.broker()
    try:
        return broker.depth()
    finally:
        broker.close()


def hits(rig: Rig, payloads: list[Any]) -> list[str]:
    """Asked on a connection of its own, while another waits."""
    broker = rig.broker()
    queue = rig.names.replies_for("hits")
    broker.declare(queue)
    messages = [Message(orjson.dumps({"payload": p}), JSON, str(n), queue) for n, p in enumerate(payloads)]
    broker.send(rig.names.requests, messages)
    found = collect(broker, queue, len(payloads))
    broker.close()
    return [orjson.loads(message.body)["outcome"] for message in found]


@pytest.mark.parametrize("pack", [1, 8])
def test_hits_pass_while_misses_wait(rig: Rig, pack: int) -> None:
    """The model answers nothing, far more wait for it than a worker holds, and hits are answered."""
    worker = rig.work(MODELS__M__CONCURRENCY="4", IN_FLIGHT="32")
    known = [f"known {n}" for n in range(20)]
    assert all(reply.ok for reply in rig.producer.map(known))
    opened = gated(rig)
    before = rig.model.calls
    asked = Asked(rig, range(600), pack=pack, in_flight=600)
    until(lambda: waiting(rig)[rig.names.misses] > 300 // pack, what="the misses in their queue")
    assert set(hits(rig, known)) == {"hit"}
    assert rig.model.calls - before <= 4, "no more calls than threads"
    assert 'recollect_postponed_requests_total{reason="room"} 0.0' not in worker.get("/metrics")[1]
    seen = re.compile(rf'recollect_queue_messages{{queue="{rig.names.misses}"}} [1-9]')
    until(lambda: seen.search(worker.get("/metrics")[1]), what="the length of the queue as a metric")
    opened.set()
    replies = asked.all()
    assert [reply.index for reply in replies] == list(range(600))
    assert {reply.outcome for reply in replies} == {"miss"}
    assert rig.model.calls == before + 600, "waiting cost no second call"
    # Counted once it is known that the reply is there, which its receiver may know a little earlier.
    until(lambda: worker.outcomes().total() >= 640, what="the count of the last")
    assert worker.outcomes() == {"hit": 20, "miss": 620}, "each is counted once"


def test_a_model_that_is_down_is_left_alone_and_nothing_is_lost(rig: Rig) -> None:
    """Its misses wait; hits go on; a probe now and then; when it is back everything completes."""
    worker = rig.work(**QUICK)
    assert rig.call("known").outcome == "miss"
    rig.model.behave = status(503)
    asked = Asked(rig, range(200), pack=1, in_flight=200)
    until(lambda: worker.events("model down"), what="the breaker")
    first = rig.model.calls
    begun = time.monotonic()
    until(lambda: rig.model.calls >= first + 3, what="probes")
    probes, passed = rig.model.calls - first, time.monotonic() - begun
    assert probes <= passed / 0.3 + 9, "of 200 that wait hardly any is tried"
    assert set(hits(rig, ["known"] * 50)) == {"hit"}
    assert 'recollect_model_down{model="m"} 1.0' in worker.get("/metrics")[1]
    rig.model.behave = echo
    replies = asked.all()
    assert {reply.outcome for reply in replies} == {"miss"}
    assert len(replies) == 200
    assert len(worker.events("model up")) == 1
    assert waiting(rig)[rig.names.misses] == 0


def test_who_waits_longer_than_the_budget_is_told(rig: Rig) -> None:
    """An error reply that says what is wrong, for every one; or an entry that is past its time."""
    settings = {**QUICK, "MODELS__M__BUDGET_SECONDS": "1", "MODELS__M__TTL_MIN_SECONDS": "0.1"}
    worker = rig.work(**settings)
    assert rig.call("old", ttl=0.1).outcome == "miss"
    rig.model.behave = status(503)
    asked = Asked(rig, range(60), pack=1, in_flight=60)
    replies = asked.all()
    assert {reply.outcome for reply in replies} == {"failed"}
    assert {reply.error["kind"] for reply in replies} == {"model_unavailable"}
    assert any("left alone" in reply.error["message"] for reply in replies)
    until(lambda: worker.events("model down"), what="the breaker")
    stale = rig.call("old", stale_if_error=60)
    assert (stale.outcome, stale.result) == ("stale", {"echo": "old"})
    assert stale.ttl_seconds is not None
    assert stale.ttl_seconds < 0
    assert rig.call("old", stale_if_error=0).outcome == "failed"


def test_a_packed_message_waits_as_a_whole_and_is_answered_as_a_whole(rig: Rig) -> None:
    """Hits, errors and misses of one message: one reply, in order, each counted once."""
    worker = rig.work(**QUICK)
    rig.call("known")
    rig.model.behave = status(503)
    asked = Asked(rig, range(10), pack=1)
    until(lambda: worker.events("model down"), what="the breaker")
    body = b'{"payload":"known"}\n{"payload":"new"}\n{"paylod":1}\n{"payload":"known","bypass":true}'
    before = worker.outcomes()
    broker = rig.broker()
    broker.send(rig.names.requests, [Message(body, NDJSON, "c")])
    until(lambda: waiting(rig)[rig.names.requests] == 0, what="its look-up")
    rig.model.behave = echo
    (reply,) = collect(broker, rig.names.replies, 1)
    broker.close()
    outcomes = [orjson.loads(line)["outcome"] for line in reply.body.splitlines()]
    assert outcomes == ["hit", "miss", "invalid", "bypass"]
    asked.all()
    until(lambda: (worker.outcomes() - before).total() >= 14, what="the count of the last")
    counted = worker.outcomes() - before
    assert counted == {"hit": 1, "miss": 11, "invalid": 1, "bypass": 1}


def test_retry_after_holds_for_the_whole_worker(redis_rig: Rig) -> None:
    """One is told to wait: nobody else of this worker asks meanwhile."""
    rig = redis_rig
    rig.work(MODELS__M__CONCURRENCY="1")
    moments: list[float] = []

    def behave(payload: Any) -> Answer:
        moments.append(time.monotonic())
        return (429, b"", {"Retry-After": "1"}) if len(moments) == 1 else echo(payload)

    rig.model.behave = behave
    replies = list(rig.producer.map(range(30), pack=1))
    assert {reply.outcome for reply in replies} == {"miss"}
    assert moments[1] - moments[0] >= 0.9
    assert len(moments) == 31


def test_two_models_one_of_them_down(redis_rig: Rig) -> None:
    """The other goes on, though both wait in one queue."""
    rig = redis_rig
    rig.model.behave = lambda payload: status(503)(payload) if payload["to"] == "bad" else echo(payload)
    worker = rig.work(
        MODELS__BAD__TARGET=rig.model.url,
        MODELS__BAD__BREAKER_FAILURES="3",
        MODELS__BAD__BREAKER_SECONDS="0.3",
        MODELS__BAD__ATTEMPTS="20",
        MODELS__BAD__WAIT_MAX_SECONDS="0.02",
        MODELS__BAD__WAIT_INITIAL_SECONDS="0.01",
    )
    rows = [{"payload": {"to": "bad", "n": n}, "model": "bad"} for n in range(100)]
    asked = Asked(rig, rows, pack=1, in_flight=100, whole_requests=True)
    until(lambda: worker.events("model down"), what="the breaker")
    good = [Message(orjson.dumps({"payload": {"to": "m", "n": n}, "model": "m"})) for n in range(100)]
    replies = rig.ask(*good)
    assert {orjson.loads(reply.body)["outcome"] for reply in replies} == {"miss"}
    rig.model.behave = echo
    assert {reply.outcome for reply in asked.all()} == {"miss"}


def test_a_deadline_that_passes_while_it_waits_saves_the_call(redis_rig: Rig) -> None:
    """One thread is busy; what nobody wants any more is not asked for. Followers have their own deadlines."""
    rig = redis_rig
    rig.work(MODELS__M__CONCURRENCY="1")
    opened = gated(rig)
    asked = Asked(rig, ["busy"], pack=1)
    until(lambda: rig.model.calls == 1, what="the call")
    soon = time.time() + 0.5
    broker = rig.broker()
    late = {"payload": "late", "deadline": soon}
    requests = [late, {"payload": "late"}, {**late, "payload": "later"}]
    messages = [Message(orjson.dumps(request), JSON, str(n)) for n, request in enumerate(requests)]
    broker.send(rig.names.requests, messages)
    until(lambda: time.time() > soon + 0.1, what="the deadline")
    opened.set()
    found = {m.correlation_id: orjson.loads(m.body) for m in collect(broker, rig.names.replies, 3)}
    broker.close()
    assert [found[str(n)]["outcome"] for n in range(3)] == ["expired", "miss", "expired"]
    assert found["0"]["error"]["kind"] == "deadline_exceeded"
    assert rig.model.payloads == ["busy", "late"]
    assert asked.all()[0].ok


def test_a_stale_answer_comes_at_once_and_is_renewed_behind_it(redis_rig: Rig) -> None:
    """The old answer first, one call, then the new one; and a worker drains without waiting for renewals."""
    rig = redis_rig
    worker = rig.work(
        MODELS__M__TTL_SECONDS="0.2",
        MODELS__M__TTL_MIN_SECONDS="0.1",
        MODELS__M__STALE_WHILE_REVALIDATE_SECONDS="60",
    )
    rig.model.behave = body(b'"old"')
    rig.call("p")
    opened = threading.Event()

    def behave(_: Any) -> Answer:
        opened.wait(60)
        return 200, b'"new"', {}

    rig.model.behave = behave
    until(lambda: rig.call("p").outcome == "stale", what="its time")
    assert {rig.call("p").result for _ in range(20)} == {"old"}
    until(lambda: rig.model.calls == 2, what="the renewal")
    opened.set()
    until(lambda: rig.call("p").result == "new", what="the new answer")
    assert worker.stop() == 0


@pytest.mark.parametrize("how", ["queue", "message"])
def test_pause_and_resume(rig: Rig, place: Path, how: str) -> None:
    """Workers take nothing until they may again; with the command, or by hand: it is a message in a queue."""
    worker = rig.work()
    assert rig.call("p").outcome == "miss"
    _pause(rig, place, how, "pause")
    until(lambda: worker.events("paused"), what="the pause")
    asked = Asked(rig, range(200), pack=1, in_flight=200)
    # What was on its way in that moment is done.
    until(
        lambda: waiting(rig)[rig.names.requests] + rig.model.calls == 201, what="the requests in their queue"
    )
    done = rig.model.calls
    assert done < 100
    assert "recollect_paused 1.0" in worker.get("/metrics")[1]
    newcomer = rig.work()
    assert newcomer.events("paused"), "it begins paused"
    if how == "queue":
        assert "paused: workers take nothing" in _said(rig, place, "check")
        assert orjson.loads(_said(rig, place, "queue", "stats", "--json"))["paused"] is True
    assert rig.model.calls == done
    _pause(rig, place, how, "resume")
    assert {reply.outcome for reply in asked.all()} == {"miss"}
    until(lambda: worker.events("resumed"), what="its line: it may look later than the other")


def _pause(rig: Rig, place: Path, how: str, action: str) -> None:
    if how == "queue":
        said = orjson.loads(_said(rig, place, "queue", action))
        assert said == {"prefix": rig.names.prefix, "paused": action == "pause"}
        return
    broker = rig.broker()
    act: Callable[[], Any] = (
        (lambda: broker.send(rig.names.paused, [Message(b"{}")]))
        if action == "pause"
        else (lambda: broker.purge(rig.names.paused))
    )
    act()
    broker.close()


def _said(rig: Rig, place: Path, *command: str) -> str:
    """What a command of the worker prints."""
    process = WorkerProcess(
        place / "-".join(command), ready=False, module=("worker", *command), **rig.settings
    )
    assert process.child.wait(30) == 0, process.said
    return process.said
