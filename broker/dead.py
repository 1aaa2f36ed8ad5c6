"""Dead letters: what nobody could be answered for, set aside for a person. Their form, written and read."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from broker.base import JSON, Message, Outgoing
from broker.envelope import short_text

UNDECODABLE = "undecodable"
UNDELIVERABLE = "undeliverable"
FAILED = "failed"
POISON = "poison"
UNKNOWN = "unknown"
BROKER = "broker:"  # what the broker's own reason for a letter that it set aside itself is put behind

_HEADERS_BYTES = 64 << 10  # an AMQP header frame holds 128 KiB, and the broker hangs up on a larger one
_DEPTH = 32
# What brokers and kombu write into the headers of what is delivered again.
_COUNTERS = ("x-delivery-count", "x-acquired-count", "redelivered")
_DEATH = "x-death"
_DEATHS = (
    _DEATH,
    *(f"x-{n}-death-{what}" for n in ("first", "last") for what in ("exchange", "queue", "reason")),
)


def dead_letter(message: Message, reason: str, now: float, detail: str = "") -> Message:
    """`message` verbatim, with the reason, deliveries, time (Unix seconds) and its original properties.

    A property that was not there is not in `original` either: not every AMQP client can write a null into a
    nested table. Headers that could not be sent again in one frame, or nest deeper than 32, are left out,
    and `detail` says so.
    """
    headers: Any = message.headers
    if not _fits(headers):
        headers, detail = {}, f"{detail[:400]} (its headers are left out: too large)".lstrip()
    original = {
        "queue": message.queue,
        "content_type": message.content_type,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "headers": headers,
    }
    return Message(
        message.body,
        message.content_type,
        message.correlation_id,
        headers={
            "reason": reason,
            "detail": detail[:500],
            "deliveries": message.deliveries,
            "dead_at": now,
            "original": {name: value for name, value in original.items() if value is not None},
        },
    )


def undeliverable(outgoing: Outgoing, now: float, detail: str) -> Message:
    """The dead letter of what no queue took."""
    return dead_letter(replace(outgoing.message, queue=outgoing.queue), UNDELIVERABLE, now, detail)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it can be trusted: every field is of its type, whatever the headers held.

    `id` is the same on every reading. `original` is the message that died, `original.queue` where it came
    from ("" where that is not known). `reason` is ours, or `broker:<reason>` where the broker set it aside by
    itself, or `unknown`. `dead_at` is in Unix seconds, `size` that of the body in bytes.
    """

    id: str
    reason: str
    detail: str
    deliveries: int
    dead_at: float | None
    size: int
    original: Message

    @classmethod
    def read(cls, message: Message) -> "Letter":
        """The letter in a message of the queue of dead letters, whoever wrote it. Never raises."""
        headers = message.headers if isinstance(message.headers, dict) else {}
        if isinstance(headers.get("reason"), str) and isinstance(headers.get("original"), dict):
            return _read_ours(message, headers, headers["original"])
        return _read_strangers(message, headers)

    @property
    def is_by_broker(self) -> bool:
        """Whether the broker set it aside by itself."""
        return self.reason.startswith(BROKER)

    def without_body(self) -> "Letter":
        """What a listing needs, in little memory."""
        return replace(self, original=replace(self.original, body=b"", headers={}))


def plain(value: Any, depth: int = _DEPTH) -> Any:
    """`value` of a header as JSON can write it, whatever it is: cut off below `depth` levels."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return value if abs(value) < 1 << 64 else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return value.isoformat()
    return _plain_nested(value, depth)


def _plain_nested(value: Any, depth: int) -> Any:
    if isinstance(value, dict | list | tuple) and depth == 0:
        return "…"
    if isinstance(value, dict):
        return {str(plain(name, 0)): plain(item, depth - 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value]
    return f"{type(value).__name__} {value}" if type(value).__module__ == "decimal" else type(value).__name__


def _read_ours(message: Message, headers: Mapping[str, Any], original: Mapping[str, Any]) -> Letter:
    deliveries, dead_at = headers.get("deliveries"), headers.get("dead_at")
    found = original.get("headers")
    return Letter(
        _digest(message, {"dead_at": dead_at, "original": original}),
        _word(headers["reason"]),
        _word(headers.get("detail"), 500),
        deliveries if isinstance(deliveries, int) and 0 < deliveries < 1 << 31 else 1,
        _seconds(dead_at),
        len(message.body),
        Message(
            message.body,
            _short(original.get("content_type")) or JSON,
            _short(original.get("correlation_id")),
            _short(original.get("reply_to")),
            _named(found) if isinstance(found, dict) else {},
            _short(original.get("queue")) or "",
        ),
    )


def _read_strangers(message: Message, headers: Mapping[str, Any]) -> Letter:
    deaths = headers.get(_DEATH)
    # The broker puts the latest first: the last is the first death.
    tables = [table for table in deaths if isinstance(table, dict)] if isinstance(deaths, list) else []
    first, latest = (tables[-1], tables[0]) if tables else ({}, {})
    reason = _word(headers.get("x-first-death-reason")) or _word(first.get("reason"))
    queue = _short(headers.get("x-first-death-queue")) or _short(first.get("queue"))
    return Letter(
        _digest(message, {name: value for name, value in headers.items() if name not in _COUNTERS}),
        f"{BROKER}{reason}" if reason else UNKNOWN,
        _word(message.problem, 500),
        1,
        _seconds(latest.get("time")),
        len(message.body),
        Message(
            message.body,
            _short(message.content_type) or JSON,
            _short(message.correlation_id),
            _short(message.reply_to),
            {name: value for name, value in _named(headers).items() if name not in (*_DEATHS, *_COUNTERS)},
            (queue or "") if reason else "",
        ),
    )


def _digest(message: Message, headers: Mapping[str, Any]) -> str:
    known = json.dumps([plain(message.correlation_id), plain(dict(headers))], sort_keys=True)
    return hashlib.blake2b(known.encode() + b"\n" + message.body, digest_size=8).hexdigest()


def _named(headers: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if isinstance(name, str)}


def _word(value: Any, most: int = 64) -> str:
    return str(plain(value))[:most] if isinstance(value, str) else ""


def _short(value: Any) -> str | None:
    return short_text(value) or None


def _seconds(value: Any) -> float | None:
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1 << 36 else None


def _fits(headers: Any) -> bool:
    """Level by level, so that no nesting can exhaust the stack."""
    size, level = 0, [headers]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple):
                below += value
            size += 16 + (len(value.encode("utf-8", "replace")) if isinstance(value, str) else 0)
            size += len(value) if isinstance(value, bytes) else 0
        if size > _HEADERS_BYTES:
            return False
        if not below:
            return True
        level = below
    return False
