"""Between Python values and the lines of a message, on the producer's side."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from broker.base import Message
from wire.errors import ErrorKind, Failure, InvalidRequest, Outcome
from wire.message import encode_request
from wire.reply import BadReply, Reply
from wire.trace import TRACEPARENT, is_traceparent

_NOBODY_WAITS = "reply is false, and this waits for replies; leave it out, or use enqueue"
_EXPECTED_TRACEPARENT = (
    "expected the W3C form in lower case, such as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)


class Line(NamedTuple):
    """A request as it is sent, and the `id` it names itself."""

    text: bytes
    id: str | None


class Fields(NamedTuple):
    """What every request gets besides its payload, checked; and the same as the end of its line. Its message
    gets the `traceparent`."""

    values: dict[str, Any]
    end: bytes
    traceparent: str | None = None


def common_fields(model: str | None, directives: dict[str, Any]) -> Fields:
    """The fields that every request gets. Raises InvalidRequest for a directive that is none."""
    values = {name: value for name, value in directives.items() if value is not None}
    traceparent = values.pop(TRACEPARENT, None)
    if not (traceparent is None or is_traceparent(traceparent)):
        raise InvalidRequest(f"traceparent is {str(traceparent)[:80]!r}; {_EXPECTED_TRACEPARENT}")
    if model is not None:
        values["model"] = model
    if not values:
        return Fields(values, b"}", traceparent)
    encode_request({"payload": None, **values})
    return Fields(values, b"," + orjson.dumps(values)[1:], traceparent)


def waiting_fields(model: str | None, directives: dict[str, Any]) -> Fields:
    """The same where somebody waits: raises InvalidRequest also for a `reply` of false."""
    fields = common_fields(model, directives)
    if fields.values.get("reply") is False:
        raise InvalidRequest(_NOBODY_WAITS)
    return fields


def payload_line(payload: Any, fields: Fields) -> Line:
    """One payload as a request's line. Raises InvalidRequest."""
    return Line(encode_request({"payload": payload})[:-1] + fields.end, fields.values.get("id"))


def whole_line(request: Any, fields: Fields, *, waits: bool) -> Line:
    """A request as its line; what it says itself wins over `fields`.

    Raises InvalidRequest, where somebody `waits` also for a request that wants no reply.
    """
    if not isinstance(request, dict):
        raise InvalidRequest(f"request is {type(request).__name__}; expected an object with a payload")
    request = {**fields.values, **request}
    text = encode_request(request)
    if waits and request.get("reply") is False:
        raise InvalidRequest(_NOBODY_WAITS)
    return Line(text, request.get("id"))


def refusal(message: str, index: int) -> Reply:
    """The reply to a payload that cannot be sent."""
    failure = Failure(ErrorKind.INVALID_REQUEST, message).as_dict()
    return Reply(None, "error", None, failure, Outcome.INVALID.value, None, None, None, None, None, index)


def replies_in(message: Message) -> Iterator[Reply]:
    """The replies in a message; what is none is passed over."""
    for line in message.body.removesuffix(b"\n").split(b"\n"):
        try:
            yield Reply.decode(line)
        except BadReply:
            continue
