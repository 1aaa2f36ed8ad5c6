"""Requests: from the body of a message to what a worker does.

A body is one JSON request (`application/json`) or several, one per line (`application/x-ndjson`). Position
joins request and reply, so a request that cannot be used still takes its place, as a Refused.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import orjson

from wire import fields as field
from wire.errors import ErrorKind, Failure, InvalidRequest
from wire.key import canonical
from wire.values import refuse_large_integers, refuse_nan

JSON = "application/json"
NDJSON = "application/x-ndjson"
ID_MAX_CHARS = 256
_PLUS = ord("+")
_FLAGS = ("bypass", "refresh", "no_store", "only_if_cached")
DIRECTIVES = (*_FLAGS, "ttl", "max_age", "stale_if_error", "deadline")
_FIELDS = frozenset({"payload", "id", "model", "reply", *DIRECTIVES})


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a request, a message and a reply message may be, in bytes, and how many requests it holds."""

    request_max_bytes: int = 1 << 20
    message_max_bytes: int = 16 << 20
    reply_max_bytes: int = 8 << 20
    message_max_requests: int = 100_000


class Request(NamedTuple):
    """One analysis to do. `payload` is canonical JSON (sorted keys): what is hashed and what is sent on.

    `ttl`, `max_age` and `stale_if_error` are seconds, None where the request does not say; `deadline` is Unix
    seconds.
    """

    payload: bytes
    id: str | None = None
    model: str | None = None
    reply: bool = True
    bypass: bool = False
    refresh: bool = False
    no_store: bool = False
    ttl: float | None = None
    only_if_cached: bool = False
    max_age: float | None = None
    stale_if_error: float | None = None
    deadline: float | None = None

    def directives(self) -> list[str]:
        """The names of those that it uses: a flag that is false says nothing, a number of 0 does."""
        flags = [name for name in _FLAGS if getattr(self, name)]
        return flags + [name for name in DIRECTIVES[len(_FLAGS) :] if getattr(self, name) is not None]


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that the contract refuses, in its place; or, `whole_message`, all that a message had."""

    failure: Failure
    id: str | None = None
    reply: bool = True
    whole_message: bool = False


def decode_requests(
    body: bytes, content_type: str, correlation_id: str | None, limits: Limits
) -> list[Request | Refused]:
    """The requests of a message in their order: at least one. Nothing is raised; what is wrong is Refused."""
    if len(body) > limits.message_max_bytes:
        too_large = f"message has {len(body)} bytes; at most {limits.message_max_bytes} are taken"
        return [refused(too_large, correlation_id, whole_message=True)]
    kind = content_type if content_type == JSON else media_type(content_type)
    if kind == JSON:
        return [_decode(body, correlation_id, limits.request_max_bytes)]
    if kind != NDJSON:
        foreign = f"content type {content_type[:80]!r} is not taken; expected {JSON} or {NDJSON}"
        return [refused(foreign, correlation_id, whole_message=True)]
    body = body.removesuffix(b"\n")
    # Counted before anything is made of them: 16 MiB of newlines would be 16 million refusals.
    count = body.count(b"\n") + 1
    if count > limits.message_max_requests:
        too_many = f"message has {count} lines; at most {limits.message_max_requests} are taken"
        return [refused(too_many, correlation_id, whole_message=True)]
    lines = body.split(b"\n")
    return [
        _decode(line, None if correlation_id is None else f"{correlation_id}.{n}", limits.request_max_bytes)
        for n, line in enumerate(lines)
    ]


def media_type(content_type: str) -> str:
    """The content type without parameters, in lower case."""
    if content_type in (JSON, NDJSON):
        return content_type
    return content_type.partition(";")[0].strip().lower()


def refused(
    message: str, request_id: str | None = None, reply: bool = True, *, whole_message: bool = False
) -> Refused:
    """A refusal of kind `invalid_request`."""
    return Refused(Failure(ErrorKind.INVALID_REQUEST, message), request_id, reply, whole_message)


def encode_request(request: dict[str, Any]) -> bytes:
    """A request as JSON, checked as a worker checks it, so that a mistake is met before it is sent.

    Raises InvalidRequest, also for what JSON cannot carry (NaN, keys that are not strings, other types).
    """
    try:
        line = orjson.dumps(request)
    except TypeError as error:
        raise InvalidRequest(f"request cannot be written as JSON: {error}") from None
    if b"null" in line:
        refuse_nan(request, "request")
    found = _decode(line, None, len(line))
    if isinstance(found, Refused):
        raise InvalidRequest(found.failure.message)
    if b"\n" in line:  # within an orjson.Fragment: it would end the request's line in a message of many
        line = orjson.dumps(orjson.loads(line))
    return line


def _decode(line: bytes, default_id: str | None, most: int) -> Request | Refused:
    """The request in a line of at most `most` bytes. Nearly all say nothing but their payload, and nothing is
    wrong with them.
    """
    if len(line) > most:
        return refused(f"request has {len(line)} bytes; at most {most} are taken", default_id)
    try:
        fields = orjson.loads(line)
        payload = orjson.dumps(fields["payload"], option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError, LookupError):
        return _decode_in_full(line, default_id)
    # `+` alone first, and as a number: looking for text, and for two bytes, takes as long as the parse did.
    if len(fields) == 1 and not (_PLUS in payload and b"e+" in payload):
        return Request(payload, default_id)
    return _decode_in_full(line, default_id, fields)


def _decode_in_full(line: bytes, default_id: str | None, fields: Any = None) -> Request | Refused:
    """`fields` where the line has been read already."""
    try:
        fields = _parse(line) if fields is None else fields
        return _check(fields, line, default_id)
    except InvalidRequest as error:
        return refused(str(error), _id_of(fields, default_id), _wants_reply(fields))


def _parse(line: bytes) -> dict[str, Any]:
    if not line.strip():
        raise InvalidRequest("request is empty; expected a JSON object with a payload")
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"request is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidRequest(f'request is {field.kind(fields)}; expected an object such as {{"payload":…}}')
    return fields


def _check(fields: dict[str, Any], line: bytes, default_id: str | None = None) -> Request:
    if not fields.keys() <= _FIELDS:
        _refuse_unknown(fields)
    if "payload" not in fields:
        raise InvalidRequest("payload is missing; expected any JSON value")
    request = Request(
        _payload(fields["payload"], line),
        field.text(fields, "id", ID_MAX_CHARS) if "id" in fields else default_id,
        field.text(fields, "model", ID_MAX_CHARS),
        field.flag(fields, "reply", True),
        field.flag(fields, "bypass"),
        field.flag(fields, "refresh"),
        field.flag(fields, "no_store"),
        field.seconds(fields, "ttl", above=True),
        field.flag(fields, "only_if_cached"),
        field.seconds(fields, "max_age"),
        field.seconds(fields, "stale_if_error"),
        field.deadline(fields),
    )
    if request.only_if_cached and (request.bypass or request.refresh):
        other = "bypass" if request.bypass else "refresh"
        raise InvalidRequest(f"only_if_cached never calls the model, {other} always does; send one of them")
    return request


def _payload(value: Any, line: bytes) -> bytes:
    try:
        payload = canonical(value)
    except TypeError:
        raise InvalidRequest("payload nests deeper than 254 levels") from None
    refuse_large_integers(line, payload)
    return payload


def _refuse_unknown(fields: dict[str, Any]) -> NoReturn:
    name = min(fields.keys() - _FIELDS)
    raise InvalidRequest(f"unknown field `{name[:64]}`{field.nearest(name, sorted(_FIELDS))}")


def _id_of(fields: Any, default_id: str | None) -> str | None:
    value = fields.get("id") if isinstance(fields, dict) else None
    return value if isinstance(value, str) and len(value) <= ID_MAX_CHARS else default_id


def _wants_reply(fields: Any) -> bool:
    return not (isinstance(fields, dict) and fields.get("reply") is False)
