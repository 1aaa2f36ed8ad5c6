"""Between Python values and the lines of a message, on the producer's side."""

from collections.abc import Iterator
from typing import Any

from broker.base import Message
from wire.errors import ErrorKind, Failure, InvalidRequest, Outcome
from wire.message import encode_request
from wire.reply import BadReply, Reply


def common_fields(model: str | None, directives: dict[str, Any]) -> dict[str, Any]:
    """The fields that every request gets. Raises InvalidRequest for a directive that is none."""
    fields = {name: value for name, value in directives.items() if value is not None}
    if model is not None:
        fields["model"] = model
    encode_request({"payload": None, **fields})
    return fields


def request_line(payload: Any, fields: dict[str, Any], whole: bool) -> bytes:
    """One payload as a request's line; with `whole`, it is a request already. Raises InvalidRequest."""
    if not whole:
        return encode_request({"payload": payload, **fields})
    if not isinstance(payload, dict):
        raise InvalidRequest(f"request is {type(payload).__name__}; expected an object with a payload")
    return encode_request({**fields, **payload})


def refusal(error: InvalidRequest, index: int) -> Reply:
    """The reply to a payload that cannot be sent."""
    failure = Failure(ErrorKind.INVALID_REQUEST, str(error)).as_dict()
    return Reply(None, "error", None, failure, Outcome.INVALID.value, None, None, None, None, None, index)


def in_order(replies: Iterator[Reply]) -> Iterator[Reply]:
    """Replies by index, those that came too early held back."""
    waiting: dict[int, Reply] = {}
    following = 0
    for reply in replies:
        waiting[reply.index] = reply
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def replies_in(message: Message) -> Iterator[Reply]:
    """The replies in a message; what is none is passed over."""
    for line in message.body.removesuffix(b"\n").split(b"\n"):
        try:
            yield Reply.decode(line)
        except BadReply:
            continue
