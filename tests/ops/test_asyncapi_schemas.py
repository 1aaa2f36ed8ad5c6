"""What the schemas of docs/asyncapi.yaml take and refuse is what the code takes, refuses and writes."""

import io
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import dead
from broker.base import JSON, Message
from producer.window import Pack, Window
from tests.support.asyncapi import Replay, at, document, examples, from_message, schema, to_message, valid
from tests.support.traces import GOOD, HOSTILE, OTHER
from wire.errors import ErrorKind, Failure, Outcome
from wire.message import Limits, Refused, Request, decode_requests
from wire.names import Names
from wire.reply import PART_HEADER, BadReply
from wire.trace import is_traceparent
from worker.delivery import open_delivery
from worker.health import Heartbeat, Readiness
from worker.logs import build_log
from worker.metrics import Metrics
from worker.queues import Queues
from worker.watch import Watch


def taken(line: bytes) -> bool:
    """Whether the code takes this request."""
    (found,) = decode_requests(line, JSON, "c", Limits())
    return isinstance(found, Request)


GOOD_REQUESTS = [
    b'{"payload":null}',
    b'{"payload":{"deep":[[[1.5e300]]]}}',
    b'{"payload":1,"id":"","model":""}',
    b'{"payload":1,"id":"%b"}' % (b"x" * 256),
    '{"payload":1,"id":"%s"}'.__mod__("é" * 256).encode(),
    b'{"payload":1,"reply":false,"bypass":true,"refresh":true,"no_store":true}',
    b'{"payload":1,"only_if_cached":true,"bypass":false,"refresh":false}',
    b'{"payload":1,"ttl":1e-9,"max_age":0,"stale_if_error":0.0}',
    b'{"payload":1,"ttl":1e307,"max_age":1e307,"stale_if_error":1e307}',
    b'{"payload":1,"deadline":1}',
    b'{"payload":1,"deadline":99999999999.9}',
]
BAD_REQUESTS = [
    b"null",
    b"[]",
    b'"payload"',
    b"{}",
    b'{"paylod":1}',
    b'{"payload":1,"by_pass":true}',
    b'{"payload":1,"traceparent":"x"}',
    b'{"payload":1,"id":1}',
    b'{"payload":1,"id":null}',
    b'{"payload":1,"id":"%b"}' % (b"x" * 257),
    b'{"payload":1,"model":null}',
    b'{"payload":1,"model":"%b"}' % (b"x" * 257),
    *(b'{"payload":1,"%b":%b}' % (name, value)
      for name in (b"reply", b"bypass", b"refresh", b"no_store", b"only_if_cached")
      for value in (b"0", b"1", b'"true"', b"null", b"[]")),
    *(b'{"payload":1,"%b":%b}' % (name, value)
      for name in (b"ttl", b"max_age", b"stale_if_error", b"deadline")
      for value in (b'"1"', b"true", b"null", b"-1", b"-0.1", b"1e308", b"{}")),
    b'{"payload":1,"ttl":0}',
    b'{"payload":1,"ttl":-0.0}',
    b'{"payload":1,"deadline":0}',
    b'{"payload":1,"deadline":1e11}',
    b'{"payload":1,"only_if_cached":true,"bypass":true}',
    b'{"payload":1,"only_if_cached":true,"refresh":true}',
]  # fmt: skip


@pytest.mark.parametrize("line", GOOD_REQUESTS, ids=lambda line: ascii(line[:60]))
def test_what_it_takes_is_taken(line: bytes) -> None:
    """By schema and decoder."""
    assert taken(line)
    assert valid(schema("request"), orjson.loads(line))


@pytest.mark.parametrize("line", BAD_REQUESTS, ids=lambda line: ascii(line[:60]))
def test_what_it_refuses_is_refused(line: bytes) -> None:
    """By schema and decoder."""
    assert not taken(line)
    assert not valid(schema("request"), orjson.loads(line))


@pytest.mark.parametrize(
    "line",
    [
        b'{"payload":18446744073709551616}',
        b'{"payload":%b1%b}' % (b"[" * 255, b"]" * 255),
        b'{"payload":"%b"}' % (b"x" * (1 << 20)),
    ],
    ids=["integer", "levels", "bytes"],
)
def test_what_a_schema_cannot_say_is_said_in_words(line: bytes) -> None:
    """Integers beyond 64 bits, levels, bytes: the decoder refuses them, and the document says so."""
    assert not taken(line)
    words = schema("request")["properties"]["payload"]["description"]
    assert "254 levels" in words
    assert "64 bits" in words
    assert document()["x-limits"]["request_max_bytes"] == 1 << 20


_NUMBERS = (
    st.integers(-3, 3)
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e11, 1e308, 5e-324, -0.0, 99999999999])
)
_VALUES = (
    st.booleans()
    | st.none()
    | _NUMBERS
    | st.text(st.characters(codec="utf-8"), max_size=3)
    | st.sampled_from(["x" * 256, "x" * 257, "\U0001f600" * 256])
    | st.just([])
    | st.just({})
)
_TYPICAL = {
    name: (
        st.booleans()
        if part.get("type") == "boolean"
        else _NUMBERS
        if "$ref" in part or part.get("type") == "number"
        else _VALUES
    )
    for name, part in schema("request")["properties"].items()
}
_NAMES = st.sampled_from([*_TYPICAL, "by_pass", "Payload", ""])


@given(
    st.fixed_dictionaries({}, optional=_TYPICAL)
    | st.dictionaries(_NAMES, _VALUES, max_size=4).map(lambda found: {"payload": 1, **found})
    | _VALUES
)
def test_schema_and_decoder_agree(request_: Any) -> None:
    """On whatever JSON."""
    assert valid(schema("request"), request_) == taken(orjson.dumps(request_))


def header_is_taken(**properties: Any) -> bool:
    """Whether a message with these headers is worked on."""
    headers = {name: value for name, value in properties.items() if name != "reply_to"}
    message = Message(b'{"payload":1}', reply_to=properties.get("reply_to"), headers=headers)
    (request,) = open_delivery(message, Names(), Limits(), 0.0).requests
    return not isinstance(request, Refused)


@pytest.mark.parametrize(
    "headers",
    [
        *({"reply_to": f"recollect.replies{end}"} for end in (
            "", ".a", ".A_b-9", "." + "x" * 64, "." + "x" * 65, ".", ".a.b", "\n", ".a\n", ".é", ". "
        )),
        *({"reply_to": queue} for queue in ("", "recollect.requests", "celery", "xrecollect.replies")),
        *({"deadline": when} for when in (1, 0.5, 99999999999, 1e11, 0, -1, "1", True, None, [])),
        *({"compression": how} for how in ("gzip", "", None)),
        {"x-anything": [1]},
        {},
    ],
    ids=repr,
)  # fmt: skip
def test_headers_that_are_refused_are_refused(headers: dict[str, Any]) -> None:
    """By schema and worker."""
    assert valid(schema("requestHeaders"), headers) == header_is_taken(**headers)


@pytest.mark.parametrize("value", [GOOD, OTHER, *HOSTILE], ids=lambda value: repr(value)[:40])
def test_a_traceparent_is_what_the_code_takes_for_one(value: object) -> None:
    """The pattern is that of the code, to the letter."""
    assert valid(schema("traceparent"), value) == is_traceparent(value)


@pytest.mark.parametrize("kind", list(ErrorKind))
@pytest.mark.parametrize("outcome", list(Outcome))
def test_replies_of_every_kind_keep_to_it(kind: ErrorKind, outcome: Outcome) -> None:
    """A result has one half of the outcomes, an error the other; nothing else is a reply."""
    ok = {**examples("reply")["hit"]["payload"], "outcome": outcome.value}
    failed = {**ok, "status": "error", "result": None, "error": Failure(kind, "x" * 501, 3).as_dict()}
    assert valid(schema("reply"), ok) == outcome.ok
    assert valid(schema("reply"), failed) == (not outcome.ok)
    assert not valid(schema("reply"), {**failed, "result": 1})
    assert not valid(schema("reply"), {**ok, "error": failed["error"]})
    assert not valid(
        schema("reply"), {**failed, "error": {**failed["error"], "retryable": not kind.retryable}}
    )
    assert not valid(schema("reply"), {**ok, "extra": 1})


def changed(found: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**found, **fields}


@pytest.mark.parametrize(
    "fields",
    [{name: wrong} for names, wrongs in (
        (("id", "model", "version", "key", "status", "outcome"), (1, [], True)),
        (("id",), ("x" * 262,)),
        (("model", "version"), ("x" * 129,)),
        (("key",), ("x" * 64, "a" * 63, "a" * 64 + "\n")),
        (("status", "outcome", "error"), (None, "fine")),
        (("age_seconds", "ttl_seconds"), ("1", True)),
        (("age_seconds",), (-1,)),
    ) for name in names for wrong in wrongs],
    ids=lambda fields: repr(fields)[:40],
)  # fmt: skip
def test_what_is_no_reply_is_refused(fields: dict[str, Any]) -> None:
    """Each field of another type, or beyond its bound; none may be missing."""
    replay = Replay()
    for example in list(examples("request").values()):
        ((_, message),) = replay.settle(to_message("request", example)).outgoing
        reply = from_message(message)["payload"]
        assert valid(schema("reply"), reply)
        wrong = changed(reply, **fields)
        assert wrong == reply or not valid(schema("reply"), wrong)
        for name in reply:
            assert not valid(schema("reply"), {other: reply[other] for other in reply if other != name})


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "other"}, {"kind": None}, {"message": 1}, {"message": "x" * 501}, {"retryable": 0},
        {"attempts": -1}, {"attempts": 1.5}, {"attempts": "1"}, {"attempts": True}, {"extra": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_error_is_refused(fields: dict[str, Any]) -> None:
    """The same of the error in a reply."""
    error = Failure(ErrorKind.MODEL_TIMEOUT, "late", 3).as_dict()
    assert valid(schema("error"), error)
    assert not valid(schema("error"), changed(error, **fields))
    for name in error:
        assert not valid(schema("error"), {other: error[other] for other in error if other != name})


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": "bored"}, {"reason": None}, {"detail": 1}, {"detail": "x" * 501}, {"deliveries": 0},
        {"deliveries": "1"}, {"dead_at": "now"}, {"original": []}, {"original": {"quue": "q"}},
        *({"original": {n: 1}} for n in ("queue", "content_type", "correlation_id", "reply_to", "headers")),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_dead_letter_is_refused(fields: dict[str, Any]) -> None:
    """The same of the headers of a dead letter, whatever its reason."""
    for reason in (dead.UNDECODABLE, dead.UNDELIVERABLE, dead.POISON, dead.FAILED):
        headers = dead.dead_letter(Message(b"", JSON, "c", "r", queue="q"), reason, 1.5, "x" * 600).headers
        assert valid(schema("deadLetterHeaders"), headers)
        assert not valid(schema("deadLetterHeaders"), changed(headers, **fields))


@pytest.mark.parametrize(("kind", "item"), [("requests", {"payload": 1}), ("replies", None)])
def test_a_message_of_many_has_one_at_least(kind: str, item: Any) -> None:
    """And each of them is what one alone would be."""
    payload = at(f"#/components/messages/{kind}/payload")
    item = item or examples("reply")["miss"]["payload"]
    assert valid(payload, [item])
    assert valid(payload, [item, item])
    assert not valid(payload, [])
    assert not valid(payload, [item, {}])
    assert not valid(payload, item)


@pytest.mark.parametrize(
    ("part", "is_one"),
    [("1/2", True), ("10/100000", True), ("0/2", False), ("1/0", False), ("1", False), ("1/2\n", False)],
)
def test_a_part_is_what_producers_take_for_one(part: str, is_one: bool) -> None:
    """One of many."""
    window = Window()
    pack = Pack("c", [b"{}"], [0])
    window.sent(pack)
    message = Message(b"", JSON, "c", headers={PART_HEADER: part})
    if is_one:
        window.answered(message)
        assert pack.parts
    else:
        with pytest.raises(BadReply):
            window.answered(message)
    assert valid(schema("replyHeaders"), {PART_HEADER: part}) == is_one


@pytest.mark.parametrize("when", [1e-9, 1, 1767225600.5, 99999999999, 0, -1, 1e11, "1", None, []])
def test_a_time_of_sending_is_one_that_is_counted(when: Any) -> None:
    """By the metric of waiting."""
    metrics, names = Metrics(["m"], "1"), Names()
    log = build_log(io.StringIO(), "json")
    queues = Queues(names, lambda: 0.0)
    watch = Watch(metrics, log, Heartbeat(lambda: 0.0), Readiness(), queues, lambda: 0.0, lambda: 2e9)
    message = Message(b'{"payload":1}', headers={"enqueued_at": when}, queue=names.requests)
    watch.received([open_delivery(message, names, Limits(), 0.0)])
    counted = metrics.registry.get_sample_value("recollect_queue_wait_seconds_count")
    assert counted == valid(schema("requestHeaders"), message.headers)
