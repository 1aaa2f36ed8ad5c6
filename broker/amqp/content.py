"""Messages on the wire: put together from frames, whatever strangers wrote into their properties.

py-amqp raises in the middle of its reading where a timestamp lies beyond the calendar (milliseconds where
seconds belong), a text is not UTF-8 or a table nests too deep. The message would be redelivered after every
reconnect and would stop every worker in turn.
"""

import contextlib
from collections.abc import Callable, Iterator
from struct import error as error_of_struct
from struct import unpack_from
from typing import Any

import amqp
from amqp import spec
from amqp.exceptions import UnexpectedFrame

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_WITH_CONTENT = frozenset({spec.Basic.Return, spec.Basic.Deliver, spec.Basic.GetOk})
_FIXED_SIZES = {"o": 1, "L": 8}


class Content(amqp.Message):  # type: ignore[misc]
    """py-amqp's message; one whose properties cannot be read has a `problem` instead of an exception."""

    problem: str | None = None

    def _load_properties(self, class_id: int, buf: bytes, offset: int) -> int:
        try:
            return int(super()._load_properties(class_id, buf, offset))
        except Exception as error:  # noqa: BLE001 - whatever py-amqp makes of hostile bytes
            self.problem = f"properties: {type(error).__name__}: {error}"[:300]
            self.properties: dict[str, Any] = {}
            with contextlib.suppress(IndexError, error_of_struct):  # they end too early
                self.properties.update(_texts(buf, offset))
            return len(buf)


def _texts(buffer: bytes, offset: int) -> Iterator[tuple[str, Any]]:
    """The textual properties, as far as they can be made out; the headers are skipped."""
    (flags,) = unpack_from(">H", buffer, offset)
    offset += 2
    for bit, (name, kind) in zip(range(15, 1, -1), amqp.Message.PROPERTIES, strict=True):
        if not flags & (1 << bit):
            continue
        if kind == "s":
            size = buffer[offset]
            yield name, buffer[offset + 1 : offset + 1 + size].decode("utf-8", "replace")
            offset += 1 + size
        elif kind == "F":
            offset += 4 + unpack_from(">I", buffer, offset)[0]
        else:
            offset += _FIXED_SIZES[kind]


def frame_handler(connection: Any, callback: Callable[..., None]) -> Callable[[tuple[int, int, bytes]], bool]:
    """What py-amqp calls with every frame; whether it completed a method. Contents are ours."""
    partial: dict[int, Content] = {}

    def on_frame(frame: tuple[int, int, bytes]) -> bool:
        kind, channel, payload = frame
        connection.bytes_recv += 1
        if kind == _METHOD:
            method = unpack_from(">HH", payload)
            if method not in _WITH_CONTENT:
                callback(channel, method, payload, None)
                return True
            partial[channel] = Content(frame_method=method, frame_args=payload)
            return False
        if kind == _HEARTBEAT:
            return False
        return _extend(kind, channel, payload)

    def _extend(kind: int, channel: int, payload: bytes) -> bool:
        content = partial.get(channel)
        if content is None or kind not in (_HEADER, _BODY):
            raise UnexpectedFrame(f"a frame of type {kind} where none was expected")
        if kind == _HEADER:
            content.inbound_header(payload)
        else:
            content.inbound_body(payload)
        if not content.ready:
            return False
        del partial[channel]
        callback(channel, content.frame_method, content.frame_args, content)
        return True

    return on_frame
