"""A request's traceparent through real workers: to the model, into the reply, into the log."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.base import JSON, NDJSON, Message
from tests.support.fleet import SHORT_LEASE
from tests.support.processes import WorkerProcess, run
from tests.support.rig import Rig, collect
from tests.support.stub_model import Answer, echo, status
from tests.support.traces import GOOD, HOSTILE, OTHER
from tests.support.waiting import until
from wire.trace import trace_id


def message(payload: Any, traceparent: object, name: str = "c", **fields: Any) -> Message:
    headers = {"enqueued_at": 1.0, "traceparent": traceparent}
    return Message(orjson.dumps({"payload": payload, **fields}), JSON, name, None, headers)


def told(rig: Rig) -> list[list[str] | None]:
    """The traceparents of each call of the model."""
    return [headers.get_all("traceparent") for headers in rig.model.headers]


def traces(worker: WorkerProcess, event: str) -> list[object]:
    return [line.get("trace_id") for line in worker.events(event)]


def failing(times: int, code: int = 503) -> Callable[[Any], Answer]:
    """So often, and then never again."""
    left = [times]

    def behave(payload: Any) -> Answer:
        left[0] -= 1
        return status(code)(payload) if left[0] >= 0 else echo(payload)

    return behave


def test_it_reaches_the_model_the_reply_and_the_log(rig: Rig) -> None:
    """A miss asks the model within the trace of its request; a hit is answered within its own."""
    worker = rig.work()
    (miss,) = rig.ask(message("p", GOOD))
    (hit,) = rig.ask(message("p", OTHER))
    assert [orjson.loads(reply.body)["outcome"] for reply in (miss, hit)] == ["miss", "hit"]
    assert [reply.headers.get("traceparent") for reply in (miss, hit)] == [GOOD, OTHER]
    assert told(rig) == [[GOOD]]
    expected = [trace_id(GOOD), trace_id(OTHER)]
    until(lambda: traces(worker, "settled") == expected, what="the log lines")


def test_what_is_not_of_the_exact_form_goes_nowhere(rig: Rig) -> None:
    """Nothing of it reaches the model, a reply or a line of the log; the request is answered all the same."""
    worker = rig.work()
    replies = rig.ask(*(message(n, value, f"c{n}") for n, value in enumerate(HOSTILE)))
    assert {orjson.loads(reply.body)["outcome"] for reply in replies} == {"miss"}
    assert [reply.headers.get("traceparent") for reply in replies] == [None] * len(HOSTILE)
    assert told(rig) == [None] * len(HOSTILE)
    assert all(headers["X-Evil"] is None for headers in rig.model.headers)
    until(lambda: len(worker.events("settled")) == len(HOSTILE), what="the log lines")
    assert set(traces(worker, "settled")) == {None}
    assert "Evil" not in worker.said
    assert "a" * 100 not in worker.said


def test_every_attempt_has_it_and_the_failure_is_logged_with_it(redis_rig: Rig) -> None:
    """Three attempts are one request."""
    rig = redis_rig
    worker = rig.work(MODELS__M__ATTEMPTS="3")
    rig.model.behave = failing(2)
    rig.ask(message("p", GOOD))
    assert told(rig) == [[GOOD]] * 3
    rig.model.behave = failing(3)
    (reply,) = rig.ask(message("q", OTHER))
    assert orjson.loads(reply.body)["outcome"] == "failed"
    assert reply.headers.get("traceparent") == OTHER
    assert told(rig)[3:] == [[OTHER]] * 3
    until(lambda: traces(worker, "failed") == [trace_id(OTHER)], what="the log line")


def test_it_waits_in_the_misses_queue_with_its_request(rig: Rig) -> None:
    """The model is down, the requests wait for it in a queue, and each is still part of its own trace."""
    worker = rig.work(
        MODELS__M__BREAKER_FAILURES="2", MODELS__M__BREAKER_SECONDS="0.3", MODELS__M__ATTEMPTS="20"
    )
    rig.model.behave = status(503)
    broker = rig.broker()
    sent = {f"c{n}": trace for n, trace in enumerate([GOOD, OTHER] * 5)}
    broker.send(rig.names.requests, [message(name, trace, name) for name, trace in sent.items()])
    waits = 'recollect_postponed_requests_total{reason="down"} '
    until(lambda: f"{waits}0.0" not in worker.get("/metrics")[1], what="a request that waits")
    rig.model.behave = echo
    replies = collect(broker, rig.names.replies, len(sent))
    broker.close()
    assert {reply.correlation_id: reply.headers.get("traceparent") for reply in replies} == sent
    for payload, headers in zip(rig.model.payloads, rig.model.headers, strict=True):
        assert headers.get_all("traceparent") == [sent[payload]]


def test_a_batch_has_what_all_its_requests_have(redis_rig: Rig) -> None:
    """Two of one trace share it; of two traces neither is told; replies keep their own."""
    rig = redis_rig
    rig.work(MODELS__M__BATCH_SIZE="2", MODELS__M__BATCH_WAIT_MS="60000")
    rig.model.behave = lambda payloads: (200, orjson.dumps(payloads), {})
    packed = Message(b'{"payload":1}\n{"payload":2}', NDJSON, "c", None, {"traceparent": GOOD})
    (reply,) = rig.ask(packed)
    assert reply.headers.get("traceparent") == GOOD
    replies = rig.ask(message(3, GOOD, "a"), message(4, OTHER, "b"))
    assert {r.correlation_id: r.headers.get("traceparent") for r in replies} == {"a": GOOD, "b": OTHER}
    assert rig.model.payloads == [[1, 2], [3, 4]]
    assert told(rig) == [[GOOD], None]


def test_a_call_that_many_wait_for_is_its_first_requests(redis_rig: Rig) -> None:
    """It has begun before the others come; each reply is of the trace of its own request."""
    rig = redis_rig
    worker = rig.work()

    def behave(payload: Any) -> Answer:
        all_wait = "recollect_requests_in_progress 3.0"
        until(lambda: all_wait in worker.get("/metrics")[1], what="those who wait for the call")
        return echo(payload)

    rig.model.behave = behave
    replies = rig.ask(message("p", GOOD, "a"), message("p", OTHER, "b"), message("p", "none", "c"))
    assert {r.correlation_id: r.headers.get("traceparent") for r in replies} == {
        "a": GOOD,
        "b": OTHER,
        "c": None,
    }
    assert sorted(orjson.loads(r.body)["outcome"] for r in replies) == ["coalesced", "coalesced", "miss"]
    assert told(rig) == [[GOOD]]


def test_a_renewal_is_part_of_the_trace_that_caused_it(redis_rig: Rig) -> None:
    """Nobody waits for it, but somebody's request is why the model is asked."""
    rig = redis_rig
    rig.work(
        MODELS__M__TTL_SECONDS="0.2",
        MODELS__M__TTL_MIN_SECONDS="0.1",
        MODELS__M__STALE_WHILE_REVALIDATE_SECONDS="60",
    )
    rig.call("p")
    until(lambda: rig.call("p").outcome == "stale", what="its time")
    until(lambda: rig.model.calls >= 2, what="the renewal")
    before = rig.model.calls

    def is_stale() -> bool:
        (reply,) = rig.ask(message("p", GOOD))
        return bool(orjson.loads(reply.body)["outcome"] == "stale")

    until(is_stale, what="its time again")
    until(lambda: rig.model.calls > before, what="the second renewal")
    assert told(rig)[before] == [GOOD]


def test_a_suspect_keeps_it(rig: Rig) -> None:
    """After two deaths the request runs alone, still within its trace."""
    broker = rig.broker()
    broker.send(rig.names.requests, [message("p", GOOD)])
    rig.model.behave = rig.model.hang
    for deaths in range(2):
        worker = rig.work(**SHORT_LEASE)
        until(lambda n=deaths: rig.model.calls > n, what="the call")
        worker.stop(signal.SIGKILL)
    rig.model.behave = echo
    rig.work(**SHORT_LEASE)
    (reply,) = collect(broker, rig.names.replies, 1)
    broker.close()
    assert orjson.loads(reply.body)["outcome"] == "miss"
    assert reply.headers.get("traceparent") == GOOD
    assert told(rig) == [[GOOD]] * 3


def test_a_python_model_is_called_as_ever(redis_rig: Rig) -> None:
    """It gets the payload and nothing else; its reply has the trace all the same."""
    rig = redis_rig
    rig.work(MODELS__M__TARGET="python:builtins:str")
    (reply,) = rig.ask(message(1, GOOD))
    assert orjson.loads(reply.body)["result"] == "1"
    assert reply.headers.get("traceparent") == GOOD


@pytest.mark.parametrize("value", [GOOD, GOOD.upper(), ""])
def test_the_command_line_takes_it_from_the_environment(redis_rig: Rig, place: Path, value: str) -> None:
    """As other tools hand it on; one that is wrong is whoever's mistake, and stops nothing."""
    rig = redis_rig
    rig.work()
    (place / "in.jsonl").write_text("1\n2\n")
    settings = {"BROKER_URL": rig._broker_url, "PREFIX": rig.names.prefix}
    for verb in (("call", "3"), ("map", "in.jsonl", "-o", "out.jsonl", "--in-flight", "1")):
        done = run(place, "producer", *verb, environment={"TRACEPARENT": value}, **settings)
        assert done.returncode == 0, done.stderr
    assert told(rig) == [[value] if value == GOOD else None] * 3
