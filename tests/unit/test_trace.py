"""The traceparent: what is taken, and where it goes. Through real workers: tests/system/test_trace.py."""

import io
import json
import re
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base import NDJSON, Message, Settlement
from producer.client import Producer
from producer.lines import common_fields
from tests.support.stub_model import StubModel
from tests.support.traces import GOOD, HOSTILE, OTHER
from tests.unit.test_handler import Store, build
from tests.unit.test_producer_client import MemoryBroker
from wire.errors import ErrorKind, Failure
from wire.message import Limits
from wire.names import Names
from wire.trace import is_traceparent, trace_id, traceparent_in
from worker.attempt import Attempt
from worker.calls import Answered
from worker.delivery import Delivery
from worker.health import Heartbeat, Readiness
from worker.http_model import HttpTarget
from worker.logs import build_log
from worker.metrics import Metrics
from worker.model import ModelError, Rejection
from worker.pool import Batching, Pool
from worker.queues import Queues
from worker.watch import Watch


def reference(value: str) -> bool:
    """The definition of the W3C, field by field."""
    fields = value.split("-")
    digits = set("0123456789abcdef")
    return (
        [len(field) for field in fields] == [2, 32, 16, 2]
        and all(set(field) <= digits for field in fields)
        and fields[0] != "ff"
        and set(fields[1]) != {"0"}
        and set(fields[2]) != {"0"}
    )


@pytest.mark.parametrize("value", [GOOD, OTHER, GOOD.replace("00-", "cc-", 1), GOOD[:-2] + "00"])
def test_the_exact_form_is_taken(value: str) -> None:
    """Any version but ff, any flags."""
    assert traceparent_in({"traceparent": value}) == value
    assert trace_id(value) == value.split("-")[1]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:40])
def test_nothing_else_is(value: object) -> None:
    """Not even what is nearly right."""
    assert not is_traceparent(value)
    assert traceparent_in({"traceparent": value}) is None


def test_no_header_is_no_traceparent() -> None:
    """Nor is one that is spelt otherwise: header names of messages are exact."""
    assert traceparent_in({}) is None
    assert traceparent_in({"Traceparent": GOOD}) is None


@given(
    st.from_regex(r"[0-9a-fF]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[0-9a-f]{2})?\n?")
    | st.lists(st.sampled_from(["00", "ff", "0" * 32, "0" * 16, "a" * 32, "b" * 16, "01", ""])).map("-".join)
    | st.text()
)
def test_it_is_what_the_standard_says(value: str) -> None:
    """Against a second reading of it."""
    assert is_traceparent(value) == reference(value)


def settled(delivery: Delivery) -> Settlement:
    return delivery.settlement(Names(), Limits(), 1000.0)


def handled(headers: dict[str, Any], *bodies: bytes, **properties: Any) -> Delivery:
    """A message whose misses the model has failed."""
    handler, _ = build(Store())
    batch = handler.handle([Message(b"\n".join(bodies), NDJSON, "c", None, headers, **properties)], 0.0)
    failure = Failure(ErrorKind.MODEL_REJECTED, "no")
    handler.finish([Answered(job, None, failure, 999.0, 0.25) for job in batch.calls])
    (delivery,) = batch.deliveries
    return delivery


def logged(delivery: Delivery, level: str = "debug") -> list[dict[str, Any]]:
    """What a worker's log says when it is settled."""
    stream, names = io.StringIO(), Names()
    log = build_log(stream, "json", level)
    parts = Heartbeat(lambda: 0.0), Readiness(), Queues(names, lambda: 0.0)
    watch = Watch(Metrics(["m"], "1"), log, *parts, lambda: 0.0, lambda: 0.0)
    watch.settled([(delivery, settled(delivery))])
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_replies_and_log_lines_name_the_trace() -> None:
    """The reply the whole header, the log the id that all spans have in common."""
    delivery = handled({"traceparent": GOOD}, b'{"payload":1}', b'{"payload":2}')
    (reply,) = settled(delivery).outgoing
    assert reply.message.headers == {"traceparent": GOOD}
    lines = logged(delivery)
    assert [line["event"] for line in lines] == ["failed", "settled"]
    assert {line["trace_id"] for line in lines} == {trace_id(GOOD)}
    assert [line["event"] for line in logged(delivery, "info")] == ["failed"]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:40])
def test_neither_names_anything_else(value: object) -> None:
    """No header, no field: what strangers send is not written down."""
    delivery = handled({"traceparent": value}, b'{"payload":1}')
    (reply,) = settled(delivery).outgoing
    assert reply.message.headers == {}
    assert [line["event"] for line in logged(delivery)] == ["failed", "settled"]
    assert not any("trace_id" in line for line in logged(delivery))


def test_every_part_of_a_reply_has_it() -> None:
    """Parts are messages of their own."""
    delivery = handled({"traceparent": GOOD}, b'{"payload":1}', b'{"payload":2}')
    sent = delivery.settlement(Names(), Limits(reply_max_bytes=1), 1000.0).outgoing
    assert [out.message.headers for out in sent] == [
        {"traceparent": GOOD, "part": "1/2"},
        {"traceparent": GOOD, "part": "2/2"},
    ]


def test_poison_is_answered_within_its_trace() -> None:
    """The guilty and the neighbours; the dead letter keeps the headers as they came."""
    delivery = handled(
        {"traceparent": GOOD}, b'{"payload":1}', b'{"payload":2}', deliveries=4, blamed=frozenset({1})
    )
    reply, letter = settled(delivery).outgoing
    assert reply.message.headers == {"traceparent": GOOD}
    assert letter.message.headers["original"]["headers"] == {"traceparent": GOOD}
    assert {line["trace_id"] for line in logged(delivery)} == {trace_id(GOOD)}


def test_who_waits_in_the_misses_queue_keeps_it() -> None:
    """The message goes there as it came."""
    handler, _ = build(Store())
    batch = handler.handle(
        [Message(b'{"payload":1}', correlation_id="c", headers={"traceparent": GOOD})], 0.0
    )
    failure = Failure(ErrorKind.MODEL_UNAVAILABLE, "away")
    handler.finish([Answered(job, None, failure, 0.0, 0.0, is_deferred=True) for job in batch.calls])
    ((queue, waiting),) = settled(batch.deliveries[0]).outgoing
    assert queue == Names().misses
    again = handler.handle([Message(waiting.body, headers=waiting.headers, queue=queue)], 0.0)
    assert [job.delivery.traceparent for job in again.calls] == [GOOD]


class Counted(dict[str, Any]):
    """Headers that count how often they are asked for a traceparent."""

    asked = 0

    def get(self, name: str, default: Any = None) -> Any:
        self.asked += name == "traceparent"
        return super().get(name, default)


def test_hits_pay_nothing_for_it() -> None:
    """One look at the headers of a message, however many requests it has."""
    handler, _ = build(Store())
    body = b"\n".join(b'{"payload":%d}' % n for n in range(100))
    first = handler.handle([Message(body, NDJSON)], 0.0)
    handler.finish([Answered(job, b"1", None, 999.0, 0.25) for job in first.calls])
    headers = Counted()
    (delivery,) = handler.handle([Message(body, NDJSON, headers=headers)], 0.0).deliveries
    assert delivery.is_answered
    assert len(settled(delivery).outgoing) == 1
    assert headers.asked == 1


class Traced:
    """Rejects what is more than `most` rows; writes down payloads and trace of each call."""

    def __init__(self, most: int) -> None:
        self._most, self.calls = most, list[tuple[list[bytes], str | None]]()

    def call_batch(
        self, payloads: Sequence[bytes], traceparent: str | None = None
    ) -> list[bytes | ModelError]:
        self.calls.append((list(payloads), traceparent))
        if len(payloads) > self._most:
            raise Rejection("too many")
        return list(payloads)


@pytest.mark.parametrize(
    ("traces", "most", "expected"),
    [
        ([GOOD, GOOD], 2, [("ab", GOOD)]),
        ([GOOD, OTHER], 2, [("ab", None)]),
        ([GOOD, None], 2, [("ab", None)]),
        ([None, GOOD], 2, [("ab", None)]),
        ([None, None], 2, [("ab", None)]),
        ([GOOD, GOOD, OTHER, OTHER], 2, [("abcd", None), ("ab", GOOD), ("cd", OTHER)]),
        ([GOOD, OTHER], 1, [("ab", None), ("a", GOOD), ("b", OTHER)]),
    ],
)
def test_a_shared_call_has_the_trace_that_all_have(
    traces: list[str | None], most: int, expected: list[tuple[str, str | None]]
) -> None:
    """And none where they differ; each part of a split call is looked at anew."""
    target, ended = Traced(most), SimpleQueue[Attempt]()
    pool = Pool("m", target, 1, ended.put, Batching(len(traces), 60.0))  # type: ignore[arg-type]
    for letter, traceparent in zip("abcd", traces, strict=False):
        attempt = Attempt(None, letter.encode())
        attempt.traceparent = traceparent
        pool.submit(attempt)
    for _ in traces:
        assert ended.get(timeout=20).error is None
    pool.close()
    assert [(b"".join(payloads).decode(), trace) for payloads, trace in target.calls] == expected


@pytest.mark.parametrize("spelt", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_a_request_has_precedence_over_the_settings(spelt: str) -> None:
    """Two headers of that name would be none: readers drop both."""
    with StubModel() as model:
        headers = {spelt: "set", "X-Other": "kept"}
        target = HttpTarget(model.url, headers=headers, timeout_seconds=10, concurrency=1, max_bytes=1000)
        target.call(b"1", GOOD)
        target.call(b"1")
        assert [asked.get_all("traceparent") for asked in model.headers] == [[GOOD], ["set"]]
        assert [asked.get_all("x-other") for asked in model.headers] == [["kept"], ["kept"]]


@pytest.mark.parametrize(
    "value", [value for value in HOSTILE if value is not None], ids=lambda v: repr(v)[:40]
)
def test_a_producer_sends_no_other(value: object) -> None:
    """Said when the verb is called, not when its first reply is asked for; in few words."""
    with Producer(broker=MemoryBroker()) as producer:
        for verb in (producer.map, producer.call, producer.enqueue):
            with pytest.raises(ValueError, match=r"traceparent is .*; expected the W3C form") as error:
                verb([1], traceparent=value)
            assert len(str(error.value)) < 600
            assert re.search(r"[\n\x00]", str(error.value)) is None


@pytest.mark.parametrize("traceparent", [GOOD, None])
def test_a_producer_puts_it_on_every_message(traceparent: str | None) -> None:
    """A header of the message and no field of its requests; None is as if it were not given."""
    sent: list[Message] = []

    class Seen(MemoryBroker):
        def send(self, queue: str, messages: Sequence[Message]) -> None:
            sent.extend(messages)
            super().send(queue, messages)

    with Producer(broker=Seen()) as producer:
        assert len(list(producer.map(range(5), pack=2, traceparent=traceparent))) == 5
        assert producer.call(6, traceparent=traceparent).ok
        assert producer.enqueue(range(7, 10), pack=2, traceparent=traceparent) == 3
    assert len(sent) == 6
    assert {message.headers.get("traceparent", "none") for message in sent} == {traceparent or "none"}
    assert not any(b"traceparent" in message.body for message in sent)
    assert common_fields("m", {"traceparent": traceparent}).values == {"model": "m"}
    assert orjson.loads(b'{"payload":1' + common_fields(None, {"traceparent": traceparent}).end) == {
        "payload": 1
    }
