"""kombu's envelope on Redis: a JSON object around the body; read by orjson, written for stock consumers."""

import base64
import itertools
import json
import secrets
from collections.abc import Callable
from typing import Any

import orjson

from broker.base import Message
from broker.envelope import PROBLEM, read_envelope, to_message

_UTF8, _BASE64 = "utf-8", "base64"


def tag_maker() -> Callable[[], str]:
    """Makes delivery tags: unique, which a stock consumer keeps its books by."""
    stem, numbers = secrets.token_hex(8), itertools.count()
    return lambda: f"{stem}.{next(numbers)}"


def encode(message: Message, queue: str, tag: str) -> bytes:
    """`message` as an item of `queue`. Text travels as text, other bytes in base64."""
    try:
        body, encoding = message.body.decode(), _UTF8
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(message.body).decode(), _BASE64
    properties: dict[str, Any] = {
        "delivery_tag": tag,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": encoding,
    }
    if message.correlation_id is not None:
        properties["correlation_id"] = message.correlation_id
    if message.reply_to is not None:
        properties["reply_to"] = message.reply_to
    envelope = {
        "body": body,
        "content-encoding": _UTF8,
        "content-type": message.content_type,
        "headers": message.headers,
        "properties": properties,
    }
    try:
        return orjson.dumps(envelope, default=str)
    except TypeError:  # a stranger's lone surrogates, in what became a dead letter: kept as they came
        return json.dumps(envelope, default=str).encode()


def decode(item: bytes, queue: str) -> Message:
    """The message in an item, whatever it is: with a `problem`, and verbatim, where it is no envelope."""
    try:
        envelope = orjson.loads(item)
        properties = envelope["properties"]
        body = _body(envelope["body"], properties.get("body_encoding"))
        headers = dict(envelope.get("headers") or {})
        headers.pop(PROBLEM, None)  # ours to find, not a stranger's to claim
        return to_message(body, properties, headers, envelope.get("content-type"), queue)
    except (ValueError, KeyError, TypeError, AttributeError):
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
