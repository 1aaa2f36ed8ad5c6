"""docs/asyncapi.yaml says what the code does: names, fields, bounds, examples, each held against the code."""

import dataclasses
import importlib.metadata
import os
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import dead
from broker.base import JSON, Message
from tests.support.asyncapi_structure import STRUCTURE, references
from tests.support.traces import GOOD, HOSTILE, OTHER
from wire.errors import MESSAGE_MAX_CHARS, ErrorKind, Failure, Outcome
from wire.message import ID_MAX_CHARS, Limits, Refused, Request, decode_requests
from wire.names import Names
from wire.reply import PART_HEADER, Reply
from wire.trace import is_traceparent
from worker.delivery import WAITING_HEADERS, open_delivery
from worker.settings import ModelSettings, Settings

try:
    import jsonschema

    from tests.support.asyncapi import (
        PAGE,
        Replay,
        at,
        document,
        examples,
        from_message,
        resolved,
        schema,
        to_message,
        validator,
    )
except ModuleNotFoundError as error:
    if os.environ.get("CI") == "true" or error.name != "jsonschema":
        raise
    pytest.skip("jsonschema is not installed", allow_module_level=True)


def valid(part: Any, value: Any) -> bool:
    return bool(validator(part).is_valid(value))


def test_it_is_an_asyncapi_document() -> None:
    """Structure, references, and what the specification asks of a reply's channel and of parameters."""
    jsonschema.Draft7Validator(STRUCTURE).validate(document())
    assert all(at(ref) is not None for ref in references(document()))
    assert set(references(document())) >= {
        f"#/components/schemas/{name}" for name in at("#/components/schemas")
    }
    for channel in document()["channels"].values():
        placeholders = set(re.findall(r"{(\w+)}", channel["address"] or ""))
        assert placeholders == channel.get("parameters", {}).keys()
    for operation in document()["operations"].values():
        reply = operation.get("reply", {})
        if "address" in reply:
            assert resolved(reply["channel"])["address"] is None, "it is the request that names it"
    used = {operation["channel"]["$ref"] for operation in document()["operations"].values()}
    assert used | {"#/channels/answers"} == {f"#/channels/{name}" for name in document()["channels"]}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("operations", "analyse", "action"), "recieve"),
        (("operations", "analyse", "reply", "adress"), {}),
        (("channels", "requests", "address"), 1),
        (("components", "messages", "reply", "contenttype"), JSON),
        (("components", "schemas", "request", "type"), "objekt"),
        (("info", "version"), 1),
    ],
)
def test_a_mistake_in_it_is_seen(path: tuple[str, ...], value: object) -> None:
    """The check above can fail."""
    broken = orjson.loads(orjson.dumps(document()))
    assert jsonschema.Draft7Validator(STRUCTURE).is_valid(broken)
    place = broken
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert not jsonschema.Draft7Validator(STRUCTURE).is_valid(broken)


def test_headers_of_replies_are_where_it_says() -> None:
    """The runtime expressions name headers that requests have."""
    headers = schema("requestHeaders")["properties"]
    reply = at("#/operations/analyse/reply")
    locations = [reply["address"]["location"]]
    locations += [message["correlationId"]["location"] for message in at("#/components/messages").values()]
    assert set(locations) == {"$message.header#/reply_to", "$message.header#/correlation_id"}
    assert all(location.rpartition("/")[2] in headers for location in locations)


def test_names_are_those_of_the_code() -> None:
    """Channels, with the default prefix; the version is the package's."""
    names = Names()
    addresses = {channel["address"] for channel in document()["channels"].values()}
    assert addresses == {names.requests, names.replies, f"{names.replies}.{{name}}", names.dead, None}
    assert Settings.model_fields["prefix"].default == names.prefix
    assert document()["info"]["version"] == importlib.metadata.version("recollect")


def test_limits_are_the_defaults() -> None:
    """Of the code and of its settings."""
    limits = document()["x-limits"]
    assert limits == dataclasses.asdict(Limits())
    assert limits == {name: Settings.model_fields[name].default for name in limits}
    for kind in ("requests", "replies"):
        assert at(f"#/components/messages/{kind}/payload")["maxItems"] == limits["message_max_requests"]


def test_fields_are_those_of_the_code() -> None:
    """Requests, replies, errors, dead letters: all of them and no others."""
    assert schema("request")["properties"].keys() == set(Request._fields)
    reply = schema("reply")
    assert reply["properties"].keys() == {field.name for field in dataclasses.fields(Reply)} - {"index"}
    assert set(reply["required"]) == reply["properties"].keys()
    error = schema("error")
    assert error["properties"].keys() == Failure(ErrorKind.INTERNAL, "").as_dict().keys()
    assert set(error["required"]) == error["properties"].keys()
    letter = dead.dead_letter(Message(b"", JSON, "c", "r", queue="q"), dead.POISON, 1.0).headers
    assert schema("deadLetterHeaders")["properties"].keys() - {"correlation_id"} == letter.keys()
    assert set(schema("deadLetterHeaders")["required"]) == letter.keys()
    assert (
        schema("deadLetterHeaders")["properties"]["original"]["properties"].keys()
        == letter["original"].keys()
    )


def test_headers_are_those_of_the_contract() -> None:
    """Of its table, but for what workers write for themselves."""
    text = (PAGE.parent / "contract.md").read_text()
    rows = re.findall(r"^\| (?:headers? )?(`.*?) \|", text[: text.index("## A request")], re.MULTILINE)
    listed = (
        {name for row in rows for name in re.findall(r"`(\w+)`", row)} - WAITING_HEADERS - {"content_type"}
    )
    assert schema("requestHeaders")["properties"].keys() == listed | {"compression"}
    assert schema("replyHeaders")["properties"].keys() == {"correlation_id", "traceparent", PART_HEADER}


def test_enums_are_those_of_the_code() -> None:
    """Kinds by whether they are worth another try, outcomes by status, reasons of dead letters."""
    kinds = {
        branch["properties"]["retryable"]["const"]: set(branch["properties"]["kind"]["enum"])
        for branch in schema("error")["oneOf"]
    }
    assert kinds == {flag: {k.value for k in ErrorKind if k.retryable == flag} for flag in (True, False)}
    outcomes = {
        branch["properties"]["status"]["const"]: set(branch["properties"]["outcome"]["enum"])
        for branch in schema("reply")["oneOf"]
    }
    statuses = {"ok": True, "error": False}
    assert outcomes == {status: {o.value for o in Outcome if o.ok == ok} for status, ok in statuses.items()}
    assert set(schema("reply")["properties"]["status"]["enum"]) == statuses.keys()
    reasons = {dead.UNDECODABLE, dead.UNDELIVERABLE, dead.POISON, dead.FAILED}
    assert set(schema("deadLetterHeaders")["properties"]["reason"]["enum"]) == reasons


def test_bounds_are_those_of_the_code() -> None:
    """Where they are a number in both."""
    request, reply = schema("request")["properties"], schema("reply")["properties"]
    assert request["id"]["maxLength"] == request["model"]["maxLength"] == ID_MAX_CHARS
    longest = schema("requestHeaders")["properties"]["correlation_id"]["maxLength"]
    assert reply["id"]["maxLength"] == longest + len(f".{Limits().message_max_requests - 1}")
    assert reply["version"]["maxLength"] == ModelSettings.model_fields["version"].metadata[1].max_length
    assert schema("error")["properties"]["message"]["maxLength"] == MESSAGE_MAX_CHARS
    defaults = {n: f["default"] for n, f in request.items() if "default" in f}
    assert defaults == {n: v for n, v in Request._field_defaults.items() if isinstance(v, bool)}


def test_the_examples_are_what_a_worker_does() -> None:
    """Each request, through the real handler, gives the reply of the same name: word for word."""
    replay, replied = Replay(), {"request": "reply", "requests": "replies"}
    for kind, answer in replied.items():
        assert examples(kind).keys() == examples(answer).keys()
        for name, example in examples(kind).items():
            (queue, message), *more = replay.settle(to_message(kind, example)).outgoing
            assert not more
            assert queue == example["headers"].get("reply_to", Names().replies)
            assert message.content_type == at(f"#/components/messages/{answer}/contentType")
            expected = examples(answer)[name]
            assert from_message(message) == {part: expected[part] for part in ("headers", "payload")}, name


def test_the_example_of_a_dead_letter_is_what_a_worker_writes() -> None:
    """Of the message that it says it was."""
    example = examples("deadLetter")["poison"]
    headers = dict(example["headers"])
    original = dict(headers["original"])
    died = Message(
        orjson.dumps(example["payload"]),
        **original,
        deliveries=headers["deliveries"],
        blamed=frozenset({0}),
    )
    reply, letter = Replay(headers["dead_at"]).settle(died).outgoing
    assert letter.queue == at("#/channels/dead/address")
    assert from_message(letter.message) == {"headers": headers, "payload": example["payload"]}
    assert reply.queue == original["reply_to"]
    assert valid(schema("reply"), from_message(reply.message)["payload"])


@pytest.mark.parametrize("kind", ["request", "requests", "reply", "replies", "deadLetter"])
def test_the_examples_keep_to_the_schemas(kind: str) -> None:
    """Headers and payloads."""
    message = at(f"#/components/messages/{kind}")
    for example in examples(kind).values():
        validator(message["headers"]).validate(example["headers"])
        validator(message["payload"]).validate(example["payload"])


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
