"""Reading what a kombu transport hands over, without trusting it.

kombu decompresses a body by its header before anybody can look at it (48 KB on the wire were 50 MB in memory)
and raises, with the message already gone from the queue, where the envelope is not what it expects. Here a
body stays as it came, and an envelope that cannot be read becomes a message that says so.
"""

import base64
import uuid
from typing import Any

from kombu.transport import virtual
from kombu.utils.json import loads

from broker.base import JSON, Message

PROBLEM = "x-recollect-problem"
_LONGEST = 255  # of an AMQP short string: the same bound on every broker


class RawMessage(virtual.Message):  # type: ignore[misc]
    """kombu's message of a virtual transport, its body not decompressed."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **options: Any) -> None:
        headers = payload.get("headers") or {}
        compression = headers.pop("compression", None)
        super().__init__(payload, channel=channel, **options)
        if compression is not None:
            # Back in place in the raw envelope too: that is what a restore puts into the queue again.
            headers["compression"] = compression
            self.headers["compression"] = compression


def read_envelope(item: bytes, queue: str) -> dict[str, Any]:
    """The envelope in a raw queue item; one of our own making, with the problem, where there is none."""
    try:
        payload = loads(item)
        _check(payload)
        (payload.get("headers") or {}).pop(PROBLEM, None)  # ours to find, not a stranger's to claim
        # kombu's own book-keeping reads both, after the message has left the queue.
        payload["properties"]["delivery_info"] |= {"exchange": "", "routing_key": queue}
    except Exception as error:  # noqa: BLE001 - whatever kombu's decoding makes of hostile bytes
        return _wrap(item, queue, f"{type(error).__name__}: {error}"[:300])
    return payload  # type: ignore[no-any-return]


def _check(payload: Any) -> None:
    properties = payload["properties"]
    if not isinstance(properties["delivery_tag"], str) or not isinstance(properties["delivery_info"], dict):
        raise TypeError("delivery_tag must be a string and delivery_info an object")
    if not isinstance(payload.get("headers") or {}, dict):
        raise TypeError("headers must be an object")
    body, encoding = payload.get("body"), properties.get("body_encoding")
    if not isinstance(body, str | bytes):
        raise TypeError("body must be a string")
    if encoding == "base64":
        base64.b64decode(body, validate=True)
    elif encoding not in (None, "utf-8"):
        raise TypeError(f"body_encoding {encoding!r} is neither base64 nor utf-8")


def _wrap(item: bytes, queue: str, problem: str) -> dict[str, Any]:
    return {
        "body": base64.b64encode(item).decode(),
        "content-type": "application/octet-stream",
        "content-encoding": "binary",
        "headers": {PROBLEM: problem},
        "properties": {
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
        },
    }


def to_message(
    body: Any, properties: dict[str, Any], headers: dict[str, Any] | None, content_type: Any, queue: str
) -> Message:
    """Our message from the parts of a transport's; properties of a wrong type are left out and said."""
    headers = dict(headers or {})
    problem = headers.pop(PROBLEM, None)
    raw = body.encode("utf-8", "replace") if isinstance(body, str) else bytes(body or b"")
    return Message(
        raw,
        content_type if isinstance(content_type, str) else JSON,
        short_text(properties.get("correlation_id")),
        short_text(properties.get("reply_to")),
        headers,
        queue,
        problem=problem,
    )


def short_text(value: Any) -> str | None:
    """`value` where AMQP could carry it too: a string of at most 255 bytes, without lone surrogates."""
    if not isinstance(value, str):
        return None
    if len(value) <= _LONGEST and value.isascii():
        return value
    try:
        return value if len(value.encode()) <= _LONGEST else None
    except UnicodeEncodeError:
        return None
