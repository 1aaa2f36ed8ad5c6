"""Between AMQP's messages and ours. Bodies stay raw; headers of any kind are made into plain JSON values."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import amqp

from broker.amqp.content import Content
from broker.amqp.properties import MOST_BYTES, Unusual, write
from broker.base import Message
from broker.envelope import to_message

_DEEPEST = 8
_INT64 = 1 << 63
_SHORT_BYTES = 255
_CUT_CHARACTERS, _CUT_ITEMS = 500, 32


def received(content: Content, redelivered: bool) -> Message:
    """Our message of one that py-amqp has read; its queue and token are for the caller to set."""
    properties = content.properties
    headers = plain(properties.get("application_headers") or {})
    message = to_message(content.body, properties, headers, properties.get("content_type"), "")
    message.problem = content.problem
    # Only a quorum queue counts; what a producer wrote there itself counts for nothing.
    count = message.headers.pop("x-delivery-count", 0)
    message.deliveries = 1 + count if redelivered and isinstance(count, int) and count > 0 else 1
    return message


def properties_of(message: Message, message_id: bytes) -> bytes:
    """AMQP's properties: persistent, and no larger than a frame can be."""
    try:
        return write(message, message_id)
    except Unusual:
        return _written_by_stock(message, message_id.decode())


def _written_by_stock(message: Message, message_id: str) -> bytes:
    texts = {
        "content_type": message.content_type,
        "content_encoding": "utf-8",
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "message_id": message_id,
    }
    raw = amqp.Message(delivery_mode=2, application_headers=plain(message.headers))
    raw.properties |= {name: text for name, text in texts.items() if _fits(text)}
    written: bytes = raw._serialize_properties()
    if len(written) <= MOST_BYTES:
        return written
    raw.properties["application_headers"] = cut(raw.properties["application_headers"])
    return bytes(raw._serialize_properties())


def _fits(text: str | None) -> bool:
    return text is not None and len(text.encode("utf-8", "surrogatepass")) <= _SHORT_BYTES


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON has it: bytes as text, times as Unix seconds; what lies too deep becomes null.

    NaN and the infinities become text, too: RabbitMQ ends the connection that brings them.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, datetime):
        # py-amqp gives UTC without saying so.
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, Mapping | list | tuple):
        return _plain_container(value, depth + 1)
    return str(value)


def _plain_container(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        return None
    if not isinstance(value, Mapping):
        return [plain(item, depth) for item in value]
    named = {str(plain(name)): plain(item, depth) for name, item in value.items()}
    return {name: item for name, item in named.items() if _fits(name)}


def cut(value: Any) -> Any:
    """`value` with everything long in it shortened: better a cut header than the end of the connection."""
    if isinstance(value, str):
        return value[:_CUT_CHARACTERS]
    if isinstance(value, dict):
        return {name: cut(item) for name, item in list(value.items())[:_CUT_ITEMS]}
    if isinstance(value, list):
        return [cut(item) for item in value[:_CUT_ITEMS]]
    return value
