"""Requests: what is taken, what is refused, and in whose words."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import InvalidRequest
from wire.message import JSON, NDJSON, Limits, Refused, Request, decode_requests, encode_request

LIMITS = Limits(request_max_bytes=2000, message_max_bytes=20_000)


def one(body: bytes, content_type: str = JSON, correlation_id: str | None = "c") -> Request | Refused:
    (found,) = decode_requests(body, content_type, correlation_id, LIMITS)
    return found


def test_the_smallest_request() -> None:
    """Only the payload is required; the id is the correlation id."""
    assert one(b'{"payload":null}') == Request(payload=b"null", id="c")


def test_every_field() -> None:
    """Each field arrives."""
    body = (
        b'{"payload":{"b":1,"a":2},"id":"x","model":"m","reply":false,"bypass":true,'
        b'"refresh":true,"no_store":true,"ttl":1.5}'
    )
    assert one(body) == Request(b'{"a":2,"b":1}', "x", "m", False, True, True, True, 1.5)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "request is empty"),
        (b"  ", "request is empty"),
        (b"nope", "request is not JSON"),
        (b"\xff\xfe", "request is not JSON"),
        (b'\xef\xbb\xbf{"payload":1}', "request is not JSON"),
        (b'{"payload":NaN}', "request is not JSON"),
        (b'{"payload":1e400}', "request is not JSON"),
        (b'{"payload":"\\ud800"}', "request is not JSON"),
        (b"[]", "request is an array; expected an object"),
        (b"1", "request is a number; expected an object"),
        (b'"x"', "request is a string; expected an object"),
        (b"null", "request is null; expected an object"),
        (b"{}", "payload is missing"),
        (b'{"payload":1,"by_pass":true}', "unknown field `by_pass`; did you mean `bypass`?"),
        (
            b'{"payload":1,"zzz":true}',
            "expected one of bypass, deadline, id, max_age, model",
        ),
        (b'{"payload":1,"bypass":1}', "bypass is a number; expected true or false"),
        (b'{"payload":1,"reply":null}', "reply is null; expected true or false"),
        (b'{"payload":1,"id":7}', "id is a number; expected a string"),
        (b'{"payload":1,"id":"%b"}' % (b"x" * 257), "id has 257 characters; at most 256"),
        (b'{"payload":1,"model":[]}', "model is an array; expected a string"),
        (b'{"payload":1,"ttl":0}', "ttl is 0; expected a number of seconds above 0"),
        (b'{"payload":1,"ttl":-1}', "ttl is -1; expected"),
        (b'{"payload":1,"ttl":"60"}', "ttl is a string; expected a number"),
        (b'{"payload":1,"ttl":true}', "ttl is a boolean; expected a number"),
        (b'{"payload":18446744073709551616}', "integer 18446744073709551616, which is beyond 64 bits"),
        (b'{"payload":[-9223372036854775809]}', "beyond 64 bits"),
        (b'{"payload":%b}' % (b"9" * 300), "beyond 64 bits"),
        (b'{"payload":%b1%b}' % (b"[" * 300, b"]" * 300), "nests deeper than 254"),
        (b'{"payload":"%b"}' % (b"x" * 2000), "request has 2014 bytes; at most 2000"),
    ],
)
def test_what_is_refused_is_explained(body: bytes, said: str) -> None:
    """The message names the field and what was expected."""
    found = one(body)
    assert isinstance(found, Refused)
    assert said in found.failure.message
    assert found.failure.kind == "invalid_request"


@pytest.mark.parametrize("number", [b"18446744073709551615", b"-9223372036854775808", b"1e300", b"1e+30"])
def test_numbers_at_the_edge_are_taken(number: bytes) -> None:
    """64-bit integers, and floats that happen to print with an exponent."""
    assert isinstance(one(b'{"payload":%b}' % number), Request)


def test_a_refused_request_keeps_its_id_and_its_silence() -> None:
    """The reply can be joined; who asked for none gets none."""
    found = one(b'{"payload":1,"id":"mine","reply":false,"bad":1}')
    assert isinstance(found, Refused)
    assert (found.id, found.reply) == ("mine", False)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-python-serialize", "application/x-yaml", ""])
def test_other_content_types_are_refused_unread(kind: str) -> None:
    """Pickle and YAML are never looked into."""
    found = one(b"\x80\x04.", kind)
    assert isinstance(found, Refused)
    assert found.whole_message
    assert "expected application/json or application/x-ndjson" in found.failure.message


def test_content_type_parameters_are_ignored() -> None:
    """`application/json; charset=utf-8` is JSON."""
    assert isinstance(one(b'{"payload":1}', "Application/JSON; charset=utf-8"), Request)


def test_a_message_that_is_too_large_is_refused_as_a_whole() -> None:
    """Before anything of it is parsed."""
    found = one(b"x" * 20_001, NDJSON)
    assert isinstance(found, Refused)
    assert found.whole_message


def test_a_flood_of_lines_is_refused_as_a_whole() -> None:
    """Newlines are cheap to send: they are counted before anything is made of them."""
    (found,) = decode_requests(b"\n" * 20, NDJSON, "c", Limits(message_max_requests=20))[:1]
    assert isinstance(found, Refused)
    assert not found.whole_message
    (found,) = decode_requests(b"\n" * 21, NDJSON, "c", Limits(message_max_requests=20))
    assert isinstance(found, Refused)
    assert found.whole_message
    assert "21 lines; at most 20" in found.failure.message


def test_lines_keep_their_places() -> None:
    """A bad line is refused in its place; a final newline is no line; an empty one is."""
    body = b'{"payload":1}\nbad\n\n{"payload":2,"id":"x"}\n'
    found = decode_requests(body, NDJSON, "c", LIMITS)
    assert [type(item) for item in found] == [Request, Refused, Refused, Request]
    assert [item.id for item in found] == ["c.0", "c.1", "c.2", "x"]


def test_without_a_correlation_id_there_is_no_id() -> None:
    """Nothing is made up."""
    assert one(b'{"payload":1}', correlation_id=None).id is None


@given(st.binary(max_size=300), st.sampled_from([JSON, NDJSON]))
def test_no_body_raises(body: bytes, content_type: str) -> None:
    """Whatever the bytes: at least one request or refusal, one per line."""
    found = decode_requests(body, content_type, "c", LIMITS)
    lines = body.removesuffix(b"\n").count(b"\n") + 1 if content_type == NDJSON else 1
    assert len(found) == lines


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"payload": float("nan")}, "request.payload is nan"),
        ({"payload": [1, {"a": float("inf")}]}, r"request.payload\[1\].a is inf"),
        ({"payload": {1: 2}}, "cannot be written as JSON"),
        ({"payload": {1, 2}}, "cannot be written as JSON"),
        ({"payload": 2**64}, "cannot be written as JSON"),
        ({"payload": orjson.Fragment(b"18446744073709551616")}, "beyond 64 bits"),
        ({"payload": orjson.Fragment(b"NaN")}, "request is not JSON"),
        ({"payload": orjson.Fragment(b"[" * 300 + b"]" * 300)}, "nests deeper than 254"),
        ({"payload": 1, "bypas": True}, "did you mean `bypass`"),
        ({"payload": 1, "bypass": 1}, "bypass is a number; expected true or false"),
        ({"payload": 1, "id": "x" * 257}, "id has 257 characters"),
        ({"payload": 1, "ttl": float("inf")}, "request.ttl is inf"),
        ({"payload": 1, "ttl": 0}, "ttl is 0; expected"),
        ({"id": "x"}, "payload is missing"),
    ],
)
def test_a_producer_is_told_before_it_sends(request_: dict[str, object], said: str) -> None:
    """The same check on both sides of the queue."""
    with pytest.raises(InvalidRequest, match=said):
        encode_request(request_)


def test_what_is_encoded_is_decoded() -> None:
    """Both sides agree."""
    line = encode_request({"payload": {"b": None, "a": "é"}, "ttl": 5})
    found = one(line)
    assert isinstance(found, Request)
    assert orjson.loads(found.payload) == {"a": "é", "b": None}


def test_a_request_is_one_line() -> None:
    """JSON that the user wrote may have newlines, which would make two requests of one."""
    assert encode_request({"payload": orjson.Fragment(b'{"a":\n1}')}) == b'{"payload":{"a":1}}'


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(VALUES)
def test_every_json_value_can_be_asked_about(value: object) -> None:
    """What a producer lets pass, a worker takes."""
    found = decode_requests(encode_request({"payload": value}), JSON, "c", Limits())
    assert [orjson.loads(each.payload) for each in found if isinstance(each, Request)] == [value]
