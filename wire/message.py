"""Requests: from the body of a message to what a worker does.

A body is one JSON request (`application/json`) or several, one per line (`application/x-ndjson`). Position
joins request and reply, so a request that cannot be used still takes its place, as a Refused.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import orjson

from wire.errors import ErrorKind, Failure, InvalidRequest
from wire.key import canonical
from wire.values import refuse_large_integers, refuse_nan

JSON = "application/json"
NDJSON = "application/x-ndjson"
ID_MAX_CHARS = 256
_PLUS = ord("+")
_FLAGS = ("reply", "bypass", "refresh", "no_store")
_FIELDS = frozenset({"payload", "id", "model", "ttl", *_FLAGS})


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a request, a message and a reply message may be, in bytes, and how many requests it holds."""

    request_max_bytes: int = 1 << 20
    message_max_bytes: int = 16 << 20
    reply_max_bytes: int = 8 << 20
    message_max_requests: int = 100_000


class Request(NamedTuple):
    """One analysis to do. `payload` is canonical JSON (sorted keys): what is hashed and what is sent on."""

    payload: bytes
    id: str | None = None
    model: str | None = None
    reply: bool = True
    bypass: bool = False
    refresh: bool = False
    no_store: bool = False
    ttl: float | None = None


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
        raise InvalidRequest(f'request is {_kind(fields)}; expected an object such as {{"payload":…}}')
    return fields


def _check(fields: dict[str, Any], line: bytes, default_id: str | None = None) -> Request:
    if not fields.keys() <= _FIELDS:
        _refuse_unknown(fields)
    if "payload" not in fields:
        raise InvalidRequest("payload is missing; expected any JSON value")
    for name in _FLAGS:
        if name in fields and not isinstance(fields[name], bool):
            raise InvalidRequest(f"{name} is {_kind(fields[name])}; expected true or false")
    return Request(
        _payload(fields["payload"], line),
        _text(fields, "id", ID_MAX_CHARS) if "id" in fields else default_id,
        _text(fields, "model", ID_MAX_CHARS),
        fields.get("reply", True),
        fields.get("bypass", False),
        fields.get("refresh", False),
        fields.get("no_store", False),
        _ttl(fields),
    )


def _payload(value: Any, line: bytes) -> bytes:
    try:
        payload = canonical(value)
    except TypeError:
        raise InvalidRequest("payload nests deeper than 254 levels") from None
    refuse_large_integers(line, payload)
    return payload


def _text(fields: dict[str, Any], name: str, longest: int) -> str | None:
    if name not in fields:
        return None
    value = fields[name]
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is {_kind(value)}; expected a string")
    if len(value) > longest:
        raise InvalidRequest(f"{name} has {len(value)} characters; at most {longest} are taken")
    return value


def _ttl(fields: dict[str, Any]) -> float | None:
    if "ttl" not in fields:
        return None
    value = fields["ttl"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"ttl is {_kind(value)}; expected a number of seconds above 0")
    if value <= 0:
        raise InvalidRequest(f"ttl is {value}; expected a number of seconds above 0")
    return float(value)


def _refuse_unknown(fields: dict[str, Any]) -> NoReturn:
    name = min(fields.keys() - _FIELDS)
    raise InvalidRequest(f"unknown field `{name[:64]}`{nearest(name, sorted(_FIELDS))}")


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean …?` where one of `known` is near, else the whole list of them."""
    # Only the beginning is compared: the matcher is quadratic, and a hostile name may be a megabyte long.
    near = difflib.get_close_matches(name[:64], known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; expected one of {', '.join(known)}"


def _id_of(fields: Any, default_id: str | None) -> str | None:
    value = fields.get("id") if isinstance(fields, dict) else None
    return value if isinstance(value, str) and len(value) <= ID_MAX_CHARS else default_id


def _wants_reply(fields: Any) -> bool:
    return not (isinstance(fields, dict) and fields.get("reply") is False)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
