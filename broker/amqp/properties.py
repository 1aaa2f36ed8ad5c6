"""The properties of an ordinary message, to bytes and back, in a tenth of py-amqp's time.

Ordinary is what our producers and workers, and kombu, write: texts, and headers that are flat. For anything
else `Unusual` is raised and py-amqp does it (broker.amqp.message), so nothing here has to be lenient, and
both ways lead to the same result. Rejected: a complete codec of our own, which would be py-amqp's once more.
"""

import struct
from functools import lru_cache
from math import isfinite
from typing import Any

from broker.base import JSON, Message

MOST_BYTES = 100_000  # they are one frame of at most 128 KiB; a larger one ends the whole connection
# Header names that mean something to us or the broker: for whoever reads with care.
_OURS = frozenset({"x-delivery-count", "x-recollect-problem"})
_CONTENT_TYPE, _ENCODING, _HEADERS, _MODE, _PRIORITY = 0x8000, 0x4000, 0x2000, 0x1000, 0x0800
_CORRELATION_ID, _REPLY_TO, _MESSAGE_ID = 0x0400, 0x0200, 0x0080
_WRITTEN = _CONTENT_TYPE | _ENCODING | _HEADERS | _MODE | _MESSAGE_ID
_OTHERS = 0xFFFF & ~(_WRITTEN | _PRIORITY | _CORRELATION_ID | _REPLY_TO)
_SKIPPED = {0: 0, _MODE: 1, _PRIORITY: 1, _MODE | _PRIORITY: 2}  # bytes, of what nobody here asks for
_UTF8, _PERSISTENT = b"\x05utf-8", b"\x02"
_SIZES = [bytes((size,)) for size in range(256)]
_FLAGS, _SIZE = struct.Struct(">H"), struct.Struct(">I")
_STRING = struct.Struct(">cI")
_FLOAT, _BOOL, _INT, _LONG = (struct.Struct(f) for f in (">cd", ">c?", ">ci", ">cq"))
_LARGEST_INT = (1 << 31) - 1
_TEXT = ord("S")
_FIXED = {
    ord(kind): struct.Struct(form) for kind, form in zip("ILldt", (">i", ">q", ">q", ">d", ">?"), strict=True)
}
_ODD = (AttributeError, TypeError, ValueError, IndexError, struct.error)


class Unusual(Exception):
    """Not what an ordinary message looks like: for py-amqp."""


def write(message: Message, message_id: bytes) -> bytes:
    """The properties of `message`: persistent, its id `message_id`. Raises Unusual."""
    correlation_id, reply_to = message.correlation_id, message.reply_to
    try:
        written = b"".join(
            (
                _start(message.content_type, correlation_id is not None, reply_to is not None),
                _table(message.headers),
                _PERSISTENT,
                b"" if correlation_id is None else _short(correlation_id.encode()),
                b"" if reply_to is None else _known(reply_to),
                _short(message_id),
            )
        )
    except _ODD as error:
        raise Unusual from error
    if len(written) > MOST_BYTES:
        raise Unusual
    return written


def _short(text: bytes) -> bytes:
    return _SIZES[len(text)] + text


@lru_cache(1024)
def _known(text: str) -> bytes:
    """A short string of those that come again and again."""
    return _short(text.encode())


@lru_cache(1024)
def _start(content_type: str, has_correlation_id: bool, has_reply_to: bool) -> bytes:
    flags = _WRITTEN | has_correlation_id * _CORRELATION_ID | has_reply_to * _REPLY_TO
    return _FLAGS.pack(flags) + _known(content_type) + _UTF8


def _table(headers: dict[str, Any]) -> bytes:
    parts = []
    for name, value in headers.items():
        parts.append(_known(name))
        kind = type(value)  # not isinstance: a subclass may mean more than its base
        if kind is str:
            text = value.encode()
            parts += (_STRING.pack(b"S", len(text)), text)
        elif kind is float and isfinite(value):
            parts.append(_FLOAT.pack(b"d", value))
        elif kind is bool:
            parts.append(_BOOL.pack(b"t", value))
        elif kind is int:
            is_small = -_LARGEST_INT <= value <= _LARGEST_INT
            parts.append(_INT.pack(b"I", value) if is_small else _LONG.pack(b"L", value))
        else:
            raise TypeError(kind)
    entries = b"".join(parts)
    return _SIZE.pack(len(entries)) + entries


def read(buffer: bytes, offset: int, end: int, body: bytes) -> Message:
    """The message whose properties are these bytes. Raises Unusual."""
    try:
        return _read(buffer, offset, end, body)
    except _ODD as error:
        raise Unusual from error


def _read(buffer: bytes, offset: int, end: int, body: bytes) -> Message:
    (flags,) = _FLAGS.unpack_from(buffer, offset)
    if flags & _OTHERS:
        raise Unusual
    offset += 2
    content_type, correlation_id, reply_to, headers = JSON, None, None, {}
    if flags & _CONTENT_TYPE:
        content_type, offset = _text(buffer, offset)
    if flags & _ENCODING:
        _, offset = _text(buffer, offset)
    if flags & _HEADERS:
        (size,) = _SIZE.unpack_from(buffer, offset)
        offset += 4 + size
        headers = _entries(buffer, offset - size, offset)
    offset += _SKIPPED[flags & (_MODE | _PRIORITY)]
    if flags & _CORRELATION_ID:
        correlation_id, offset = _text(buffer, offset)
    if flags & _REPLY_TO:
        reply_to, offset = _text(buffer, offset)
    if flags & _MESSAGE_ID:
        _, offset = _text(buffer, offset)
    if offset != end:
        raise Unusual
    return Message(body, content_type, correlation_id, reply_to, headers)


def _text(buffer: bytes, offset: int) -> tuple[str, int]:
    start = offset + 1
    end = start + buffer[offset]
    return str(buffer[start:end], "utf-8"), end


def _entries(buffer: bytes, offset: int, end: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while offset < end:
        name, offset = _text(buffer, offset)
        kind = buffer[offset]
        if kind == _TEXT:
            start = offset + 5
            offset = start + _SIZE.unpack_from(buffer, offset + 1)[0]
            found[name] = str(buffer[start:offset], "utf-8")
        elif kind in _FIXED:
            form = _FIXED[kind]
            (found[name],) = form.unpack_from(buffer, offset + 1)
            offset += 1 + form.size
        else:
            raise Unusual
    if offset != end or not _OURS.isdisjoint(found):
        raise Unusual
    return found
