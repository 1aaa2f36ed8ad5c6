"""docs/asyncapi.yaml says what the code does: names, fields, bounds, examples, each held against the code.

What its schemas take and refuse: test_asyncapi_schemas.py.
"""

import dataclasses
import importlib.metadata
import re

import orjson
import pytest

from broker import dead
from broker.base import JSON, Message
from broker.envelope import short_text
from tests.support.asyncapi import (
    PAGE,
    Replay,
    at,
    document,
    examples,
    from_message,
    jsonschema,
    resolved,
    schema,
    to_message,
    valid,
    validator,
)
from tests.support.asyncapi_structure import STRUCTURE, references, unknown_keywords
from wire.errors import MESSAGE_MAX_CHARS, ErrorKind, Failure, Outcome
from wire.message import ID_MAX_CHARS, Limits, Request
from wire.names import Names
from wire.reply import PART_HEADER, Reply
from worker.delivery import WAITING_HEADERS
from worker.settings import ModelSettings, Settings


def test_it_is_an_asyncapi_document() -> None:
    """Structure, references, and what the specification asks of a reply's channel and of parameters."""
    jsonschema.Draft7Validator(STRUCTURE).validate(document())
    assert all(at(ref) is not None for ref in references(document()))
    assert set(references(document())) >= {
        f"#/components/schemas/{name}" for name in at("#/components/schemas")
    }
    schemas = [
        *at("#/components/schemas").values(),
        *(m["payload"] for m in at("#/components/messages").values()),
    ]
    assert not [name for part in schemas for name in unknown_keywords(part)]
    for channel in document()["channels"].values():
        placeholders = set(re.findall(r"{(\w+)}", channel["address"] or ""))
        assert placeholders == channel.get("parameters", {}).keys()
        assert all(
            part == {"$ref": f"#/components/messages/{name}"} for name, part in channel["messages"].items()
        )
    for operation in document()["operations"].values():
        reply = operation.get("reply", {})
        if "address" in reply:
            assert resolved(reply["channel"])["address"] is None, "it is the request that names it"
    used = {operation["channel"]["$ref"] for operation in document()["operations"].values()}
    answers = [at(f"#/channels/{name}/messages") for name in ("answers", "replies", "namedReplies")]
    assert [sorted(messages) for messages in answers] == [["replies", "reply"]] * 3
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
    asked = {names.interactive, names.requests}
    assert addresses == asked | {names.replies, f"{names.replies}.{{name}}", names.dead, None}
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
    assert short_text("x" * longest) is not None
    assert short_text("x" * (longest + 1)) is None
    for kind in ("replyHeaders", "deadLetterHeaders"):
        assert schema(kind)["properties"]["correlation_id"]["maxLength"] == longest
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
    payload = from_message(reply.message)["payload"]
    assert payload["error"]["kind"] == headers["reason"]
    assert valid(schema("reply"), payload)


@pytest.mark.parametrize("kind", ["request", "requests", "reply", "replies", "deadLetter"])
def test_the_examples_keep_to_the_schemas(kind: str) -> None:
    """Headers and payloads."""
    message = at(f"#/components/messages/{kind}")
    for example in examples(kind).values():
        validator(message["headers"]).validate(example["headers"])
        validator(message["payload"]).validate(example["payload"])
