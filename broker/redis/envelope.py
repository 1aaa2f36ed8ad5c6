"""kombu's envelope on Redis: a JSON object around the body; read by orjson, written for stock consumers."""

import base64
import itertools
import json
import secrets
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson

from broker.base import JSON, Message
from broker.envelope import PROBLEM, read_envelope, short_text, to_message

_UTF8, _BASE64 = "utf-8", "base64"
_TAG = b',"properties":{"delivery_tag":"'


def tag_maker() -> Callable[[], str]:
    """Makes delivery tags: unique, which a stock consumer keeps its books by."""
    stem, numbers = secrets.token_hex(8), itertools.count()
    return lambda: f"{stem}.{next(numbers)}"


def encode(message: Message, queue: str, tag: str) -> bytes:
    """`message` as an item of `queue`. Text travels as text, other bytes in base64."""
    try:
        body, encoding = orjson.dumps(message.body.decode()), _UTF8
    except UnicodeDecodeError:
        body, encoding = b'"%b"' % base64.b64encode(message.body), _BASE64
    correlation_id = message.correlation_id
    named = b"" if correlation_id is None else b',"correlation_id":' + _json(correlation_id)
    headers = _json(message.headers) if message.headers else b"{}"
    kind, delivery = _constant(message.content_type, queue, encoding, message.reply_to)
    return b"".join((b'{"body":', body, kind, headers, _TAG, tag.encode(), delivery, named, b"}}"))


@lru_cache(maxsize=1024)
def _constant(content_type: str, queue: str, encoding: str, reply_to: str | None) -> tuple[bytes, bytes]:
    """What many items of a queue have in common: from the body to the headers, and from the tag on."""
    kind = {"content-encoding": _UTF8, "content-type": content_type}
    delivery = {
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": encoding,
        **({} if reply_to is None else {"reply_to": reply_to}),
    }
    return b",%b," % _json(kind)[1:-1] + b'"headers":', b'",%b' % _json(delivery)[1:-1]


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=str)
    except TypeError:  # a stranger's lone surrogates, in what became a dead letter: kept as they came
        return json.dumps(value, default=str).encode()


def decode(item: bytes, queue: str) -> Message:
    """The message in an item, whatever it is: with a `problem`, and verbatim, where it is no envelope."""
    try:
        envelope = orjson.loads(item)
        properties, kind = envelope["properties"], envelope.get("content-type")
        headers = envelope.get("headers") or {}
        if not isinstance(headers, dict):
            return _decode_slowly(item, queue)
        headers.pop(PROBLEM, None)  # ours to find, not a stranger's to claim
        body, encoding = envelope["body"], properties.get("body_encoding")
        return Message(
            body.encode() if encoding == _UTF8 and type(body) is str else _body(body, encoding),
            kind if isinstance(kind, str) else JSON,
            short_text(properties.get("correlation_id")),
            short_text(properties.get("reply_to")),
            headers,
            queue,
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return _decode_slowly(item, queue)


def _body(body: Any, encoding: Any) -> bytes:
    if isinstance(body, dict):  # kombu's JSON of bytes
        body, encoding = body["__value__"], {"bytes": _UTF8, "base64": _BASE64}[body["__type__"]]
    if not isinstance(body, str):
        raise TypeError("body must be a string")
    if encoding == _BASE64:
        return base64.b64decode(body, validate=True)
    if encoding not in (None, _UTF8):
        raise ValueError("unknown body_encoding")
    return body.encode()


def _decode_slowly(item: bytes, queue: str) -> Message:
    """By kombu's own rules: it takes what orjson does not (lone surrogates, NaN), and says what is wrong."""
    envelope = read_envelope(item, queue)
    body, properties = envelope["body"], envelope["properties"]
    if properties.get("body_encoding") == _BASE64 and isinstance(body, str):
        body = base64.b64decode(body)
    return to_message(body, properties, envelope.get("headers"), envelope.get("content-type"), queue)
